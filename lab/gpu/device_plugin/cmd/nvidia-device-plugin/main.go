// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A stand-in for NVIDIA's device plugin for Kubernetes, for machines that cannot reach its image.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"homelab.gpu/lab/gpu/device_plugin/internal/cdispec"
	"homelab.gpu/lab/gpu/device_plugin/internal/config"
	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
	"homelab.gpu/lab/gpu/device_plugin/internal/health"
	"homelab.gpu/lab/gpu/device_plugin/internal/server"
)

const retryAfter = 30 * time.Second

func main() {
	options, err := config.ParseOptions(os.Args[1:], os.LookupEnv)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(options)
	}
	if err != nil {
		klog.Error(err)
		klog.Flush()
		os.Exit(1)
	}
}

// run starts all servers, and again whenever the kubelet is new, a start failed, or SIGHUP asks for it.
func run(options *config.Options) error {
	klog.InfoS("Starting NVIDIA Device Plugin", "version", "v0.20.0-lab1")
	kubelet := options.KubeletSocket()
	folder := pluginapi.DevicePluginPath
	if kubelet != "" {
		folder = filepath.Dir(kubelet)
	}
	klog.Infof("Starting FS watcher for %v", folder)
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(folder)
	}
	if err != nil {
		return fmt.Errorf("failed to create FS watcher for %s: %w", folder, err)
	}
	defer func() { _ = watcher.Close() }()
	klog.Info("Starting OS watcher.")
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)

	for {
		klog.Info("Starting Plugins.")
		servers, err := start(options)
		if err != nil && servers == nil {
			return fmt.Errorf("error starting plugins: %w", err)
		}
		var retry <-chan time.Time
		if err != nil {
			klog.Errorf("Failed to start plugin: %v", err)
			klog.Info("Failed to start one or more plugins. Retrying in 30s...")
			retry = time.After(retryAfter)
		}
		end := wait(kubelet, retry, watcher, signals)
		klog.Info("Stopping plugins.")
		var problems error
		for _, one := range servers {
			problems = errors.Join(problems, one.Stop())
		}
		if problems != nil {
			return fmt.Errorf("error stopping plugins: %w", problems)
		}
		if end {
			return nil
		}
	}
}

// wait says whether to end; else it is time to start again.
func wait(kubelet string, retry <-chan time.Time, watcher *fsnotify.Watcher, signals <-chan os.Signal) bool {
	for {
		select {
		case <-retry:
			return false
		case event := <-watcher.Events:
			if kubelet != "" && event.Name == kubelet && event.Has(fsnotify.Create) {
				klog.Infof("inotify: %s created, restarting.", kubelet)
				return false
			}
		case err := <-watcher.Errors:
			klog.Infof("inotify: %s", err)
		case number := <-signals:
			if number == syscall.SIGHUP {
				klog.Info("Received SIGHUP, restarting.")
				return false
			}
			klog.Infof("Received signal \"%v\", shutting down.", number)
			return true
		}
	}
}

// start reads the configuration anew, finds the devices and offers them. Servers and an error: try again later; an error alone: end.
func start(options *config.Options) ([]*server.Server, error) {
	klog.Info("Loading configuration.")
	settings, err := config.Load(options, klog.Warningf)
	if err != nil {
		return nil, fmt.Errorf("unable to load config: %w", err)
	}
	driver := devices.NewDriver(*settings.Flags.Plugin.ContainerDriverRoot)
	if err := settings.Check(driver.HasLibrary()); err != nil {
		return nil, fmt.Errorf("unable to validate flags: %w", err)
	}
	content, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("failed to marshal config to JSON: %w", err)
	}
	klog.Infof("\nRunning with config:\n%s", content)
	klog.Info("Retrieving plugins.")
	found, err := devices.Discover(driver, settings)
	if err != nil {
		return nil, fmt.Errorf("error getting plugins: unable to create plugins: failed to construct resource managers: %w", err)
	}
	if err := cdispec.Write(driver, settings, cdispec.Folder); err != nil {
		return nil, fmt.Errorf("error getting plugins: unable to create cdi spec file: %w", err)
	}
	ignored := health.NewIgnored(os.Getenv("DP_DISABLE_HEALTHCHECKS"), os.Getenv("DP_ENABLE_HEALTHCHECKS"))
	servers := []*server.Server{}
	for _, resource := range slices.Sorted(maps.Keys(found.Named)) {
		servers = append(servers, server.New(resource, found.Named[resource], found.Watched, driver, settings, ignored))
	}
	for _, one := range servers {
		if err := one.Start(options.KubeletSocket()); err != nil {
			return servers, err
		}
	}
	if len(servers) == 0 {
		klog.Info("No devices found. Waiting indefinitely.")
	}
	return servers, nil
}
