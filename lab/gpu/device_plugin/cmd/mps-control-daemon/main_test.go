// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
	"homelab.gpu/lab/gpu/device_plugin/internal/mocklibrary"
	"homelab.gpu/lab/gpu/device_plugin/internal/mps"
)

const (
	patience = 30 * time.Second
	interval = 5 * time.Millisecond
	resource = "nvidia.com/gpu"
)

const shared = `
version: v1
flags: {deviceDiscoveryStrategy: nvml}
sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}
`

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(interval) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// running is run() in this process, which gets the signals.
type running struct {
	t     *testing.T
	root  string
	state *mocklibrary.State
	end   chan error
}

// begin starts it; programs in the folders come before those of the mock driver.
func begin(t *testing.T, content string, folders ...string) *running {
	t.Helper()
	folder, err := mocklibrary.Build()
	if err != nil {
		t.Fatal(err)
	}
	started := &running{t: t, root: t.TempDir(), state: mocklibrary.NewState(t, "NVIDIA GeForce RTX 3060", 1), end: make(chan error, 1)}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", strings.Join(append(folders, folder, os.Getenv("PATH")), ":"))
	t.Setenv("LD_LIBRARY_PATH", folder)
	t.Setenv("MOCK_NVML_STATE", started.state.Path)
	t.Setenv("DRIVER_ROOT_CTR_PATH", driverRoot(t, folder))
	options, err := config.ParseOptions([]string{"--config-file", file}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	go func() { started.end <- run(options, started.root) }()
	t.Cleanup(func() { _, _ = started.daemon().Ask("quit") })
	return started
}

// driverRoot holds the library where the driver has it: the loader of a running process does not look at its environment again.
func driverRoot(t *testing.T, libraries string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/lib64"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(libraries, "libnvidia-ml.so.1"), filepath.Join(root, "usr/lib64/libnvidia-ml.so.1")); err != nil {
		t.Fatal(err)
	}
	return root
}

func (running *running) daemon() *mps.Daemon { return mps.New(running.root, resource, nil) }

func (running *running) isReady() bool {
	_, err := os.Stat(filepath.Join(running.root, ready))
	return err == nil
}

func (running *running) signal(number syscall.Signal) {
	running.t.Helper()
	if err := syscall.Kill(os.Getpid(), number); err != nil {
		running.t.Fatal(err)
	}
}

func (running *running) ends() error {
	running.t.Helper()
	select {
	case err := <-running.end:
		return err
	case <-time.After(patience):
		running.t.Fatal("did not end")
		return nil
	}
}

func TestReadyOnlyWithAllLimits(t *testing.T) {
	daemon := begin(t, shared)
	eventually(t, "it is ready", daemon.isReady)
	if answer, err := daemon.daemon().Ask("get_default_device_pinned_mem_limit 0"); answer != "6144M" || err != nil {
		t.Errorf("%q, %v", answer, err)
	}
	pid, err := os.ReadFile(daemon.daemon().Folder("pipe/nvidia-cuda-mps-control.pid"))
	if err != nil {
		t.Fatal(err)
	}
	daemon.signal(syscall.SIGHUP)
	eventually(t, "another daemon is ready", func() bool {
		now, err := os.ReadFile(daemon.daemon().Folder("pipe/nvidia-cuda-mps-control.pid"))
		return err == nil && string(now) != string(pid) && daemon.isReady()
	})
	daemon.signal(syscall.SIGTERM)
	if err := daemon.ends(); err != nil {
		t.Error(err)
	}
	if daemon.isReady() || daemon.daemon().AssertHealthy() == nil {
		t.Error("it is there after its end")
	}
}

func TestWithoutMPSItIdles(t *testing.T) {
	daemon := begin(t, strings.ReplaceAll(shared, "mps:", "timeSlicing:"))
	eventually(t, "it is ready", daemon.isReady)
	if daemon.daemon().AssertHealthy() == nil {
		t.Error("there is a daemon")
	}
	daemon.signal(syscall.SIGTERM)
	if err := daemon.ends(); err != nil {
		t.Error(err)
	}
}

func TestDaemonThatDoesNotStartIsNotReadyAndEndsAtTheNextTry(t *testing.T) {
	folder := t.TempDir()
	control := filepath.Join(folder, "nvidia-cuda-mps-control")
	if err := os.WriteFile(control, []byte("#!/bin/sh\ntouch "+folder+"/asked\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	daemon := begin(t, shared, folder)
	eventually(t, "it was tried", func() bool {
		_, err := os.Stat(filepath.Join(folder, "asked"))
		return err == nil
	})
	if daemon.isReady() {
		t.Error("it calls itself ready")
	}
	daemon.signal(syscall.SIGHUP)
	if err := daemon.ends(); err == nil || !strings.Contains(err.Error(), "error stopping daemons: error sending quit message") {
		t.Errorf("%v", err)
	}
}

func TestMoreReplicasThanClientsEndIt(t *testing.T) {
	daemon := begin(t, strings.ReplaceAll(shared, "replicas: 2", "replicas: 49"))
	if err := daemon.ends(); err == nil || !strings.Contains(err.Error(), "error getting daemons: invalid MPS configuration") {
		t.Errorf("%v", err)
	}
}

func TestOptions(t *testing.T) {
	if err := command([]string{"--help"}); err != flag.ErrHelp {
		t.Errorf("%v", err)
	}
	if err := command([]string{"mount-everything"}); err == nil || !strings.Contains(err.Error(), `unexpected argument "mount-everything"`) {
		t.Errorf("%v", err)
	}
}
