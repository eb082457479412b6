// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A stand-in for the program in NVIDIA's device plugin that runs the driver's MPS daemon.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
	"homelab.gpu/lab/gpu/device_plugin/internal/mps"
)

const (
	retryAfter = 30 * time.Second
	ready      = ".ready"
)

func main() {
	klog.InfoS("NVIDIA MPS Control Daemon", "version", "v0.20.0-lab1")
	err := command(os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		klog.Error(err)
		klog.Flush()
		os.Exit(1)
	}
}

func command(arguments []string) error {
	if len(arguments) == 1 && arguments[0] == "mount-shm" {
		return mps.MountShm(mps.ContainerRoot)
	}
	options, err := config.ParseOptions(arguments, os.LookupEnv)
	if err != nil {
		return err
	}
	root := mps.ContainerRoot
	if folder, found := os.LookupEnv("LAB_MPS_CONTAINER_ROOT"); found {
		root = folder
	}
	return run(options, root)
}

// run starts the daemons, and again when a start failed or SIGHUP asks for it.
func run(options *config.Options, root string) error {
	klog.Info("Starting OS watcher.")
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	for {
		klog.Info("Starting Daemons.")
		daemons, complete, err := start(options, root)
		if err != nil {
			return fmt.Errorf("error starting plugins: %w", err)
		}
		var retry <-chan time.Time
		if !complete {
			klog.Info("Failed to start one or more MPS deamons. Retrying in 30s...")
			retry = time.After(retryAfter)
		}
		end := wait(retry, signals)
		if err := stop(daemons, root); err != nil {
			return fmt.Errorf("error stopping daemons: %w", err)
		}
		if end {
			return nil
		}
	}
}

// wait says whether to end; else it is time to start again.
func wait(retry <-chan time.Time, signals <-chan os.Signal) bool {
	select {
	case <-retry:
		return false
	case number := <-signals:
		if number == syscall.SIGHUP {
			klog.Info("Received SIGHUP, restarting.")
			return false
		}
		klog.Infof("Received signal \"%v\", shutting down.", number)
		return true
	}
}

// start reads the configuration and starts a daemon for each shared resource. False: not all of them, try again later.
func start(options *config.Options, root string) ([]*mps.Daemon, bool, error) {
	klog.Info("Loading configuration.")
	settings, err := config.Load(options, klog.Warningf)
	if err != nil {
		return nil, false, fmt.Errorf("unable to load config: %w", err)
	}
	content, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return nil, false, fmt.Errorf("failed to marshal config to JSON: %w", err)
	}
	klog.Infof("\nRunning with config:\n%s", content)
	klog.Info("Retrieving MPS daemons.")
	var daemons []*mps.Daemon
	if settings.Sharing.MPS != nil {
		found, err := devices.Discover(devices.NewDriver(*settings.Flags.Plugin.ContainerDriverRoot), settings)
		if err == nil {
			daemons, err = mps.Daemons(root, found.Named)
		}
		if err != nil {
			return nil, false, fmt.Errorf("error getting daemons: %w", err)
		}
	}
	if len(daemons) == 0 {
		klog.Info("No devices are configured for MPS sharing; Waiting indefinitely.")
	}
	for _, daemon := range daemons {
		if err := daemon.Start(); err != nil {
			klog.Errorf("Failed to start MPS daemon: %v", err)
			return daemons, false, nil
		}
	}
	if err := os.WriteFile(filepath.Join(root, ready), nil, 0o644); err != nil {
		return daemons, false, fmt.Errorf("failed to create .ready file: %w", err)
	}
	return daemons, true, nil
}

func stop(daemons []*mps.Daemon, root string) error {
	if err := os.Remove(filepath.Join(root, ready)); err != nil {
		klog.Warningf("Failed to remove .ready file: %v", err)
	}
	klog.Info("Stopping MPS daemons.")
	var problems error
	for _, daemon := range daemons {
		problems = errors.Join(problems, daemon.Stop())
	}
	return problems
}
