// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package mps

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
	"homelab.gpu/lab/gpu/device_plugin/internal/mocklibrary"
)

// replicas are those of some GPUs, as the driver's mock has them.
func replicas(gpus, count int, capability [2]int) devices.Devices {
	found := devices.Devices{}
	for gpu := range gpus {
		for number := range count {
			id := fmt.Sprintf("%s::%d", mocklibrary.UUID(gpu), number)
			found[id] = &devices.Device{ID: id, Index: fmt.Sprint(gpu), Replicas: count, Memory: 12288 << 20, Capability: capability}
		}
	}
	return found
}

// withDriver lets the programs of the mock driver be found, and gives the state of its GPUs.
func withDriver(t *testing.T, gpus int) *mocklibrary.State {
	t.Helper()
	folder, err := mocklibrary.Build()
	if err != nil {
		t.Fatal(err)
	}
	state := mocklibrary.NewState(t, "NVIDIA GeForce RTX 3060", gpus)
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	t.Setenv("LD_LIBRARY_PATH", folder)
	t.Setenv("MOCK_NVML_STATE", state.Path)
	return state
}

func TestEachReplicaGetsAnEqualPart(t *testing.T) {
	withDriver(t, 2)
	daemon := New(t.TempDir(), "nvidia.com/gpu", replicas(2, 3, [2]int{8, 6}))
	if err := daemon.AssertHealthy(); err == nil || !strings.Contains(err.Error(), "Cannot find MPS control daemon process") {
		t.Errorf("before it starts: %v", err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = daemon.Ask("quit") })
	for question, expected := range map[string]string{
		"get_default_active_thread_percentage":  "33.0",
		"get_default_device_pinned_mem_limit 0": "4096M",
		"get_default_device_pinned_mem_limit 1": "4096M",
		"get_default_device_pinned_mem_limit 2": "",
	} {
		if answer, err := daemon.Ask(question); answer != expected || err != nil {
			t.Errorf("%s: %q, %v", question, answer, err)
		}
	}
	if _, err := os.Stat(filepath.Join(daemon.root, "nvidia.com/gpu/.started")); err != nil {
		t.Error(err)
	}
	if err := New(daemon.root, "nvidia.com/gpu", daemon.Devices).Start(); err == nil || !strings.Contains(err.Error(), "already running") {
		t.Errorf("a second one: %v", err)
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
	if err := daemon.AssertHealthy(); err == nil {
		t.Error("it answers after its end")
	}
	for _, name := range []string{".started", "log", "pipe/control"} {
		if _, err := os.Stat(daemon.Folder(name)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}

func TestGPUsBelongToMPSAlone(t *testing.T) {
	withDriver(t, 2)
	folder := t.TempDir()
	told := filepath.Join(folder, "told")
	script := "#!/bin/sh\necho \"$@\" >>" + told + "\n"
	if err := os.WriteFile(filepath.Join(folder, "nvidia-smi"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	daemon := New(t.TempDir(), "nvidia.com/gpu", replicas(2, 2, [2]int{8, 6}))
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
	var expected strings.Builder
	for _, mode := range []string{"EXCLUSIVE_PROCESS", "DEFAULT"} {
		for gpu := range 2 {
			fmt.Fprintf(&expected, "-i %s -c %s\n", mocklibrary.UUID(gpu), mode)
		}
	}
	if content, err := os.ReadFile(told); err != nil || string(content) != expected.String() {
		t.Errorf("%s, %v", content, err)
	}
}

func TestGPUThatDoesNotAnswer(t *testing.T) {
	state := withDriver(t, 1)
	state.Set(t, "gpu0.lost", 1)
	daemon := New(t.TempDir(), "nvidia.com/gpu", replicas(1, 2, [2]int{8, 6}))
	if err := daemon.Start(); err == nil || !strings.Contains(err.Error(), "error setting compute mode EXCLUSIVE_PROCESS") {
		t.Errorf("%v", err)
	}
	if err := daemon.AssertHealthy(); err == nil {
		t.Error("it was started nevertheless")
	}
}

func TestMoreReplicasThanClientsAreRefused(t *testing.T) {
	for _, test := range []struct {
		count, most int
		capability  [2]int
	}{{48, 48, [2]int{8, 6}}, {49, 48, [2]int{8, 6}}, {48, 48, [2]int{7, 5}}, {17, 16, [2]int{7, 0}}, {16, 16, [2]int{6, 1}}, {49, 48, [2]int{12, 0}}} {
		daemons, err := Daemons("/mps", devices.Named{"nvidia.com/gpu": replicas(1, test.count, test.capability)})
		if test.count <= test.most {
			if err != nil || len(daemons) != 1 || daemons[0].Folder("pipe") != "/mps/nvidia.com/gpu/pipe" {
				t.Errorf("%v: %v, %v", test, daemons, err)
			}
		} else if err == nil || !strings.HasSuffix(err.Error(), fmt.Sprintf("maximum allowed replicas exceeded: %d > %d", test.count, test.most)) {
			t.Errorf("%v: %v", test, err)
		}
	}
}

func TestWholeGPUsHaveNoDaemon(t *testing.T) {
	whole := devices.Devices{"GPU-a": {ID: "GPU-a"}}
	if daemons, err := Daemons("/mps", devices.Named{"nvidia.com/gpu": whole}); len(daemons) > 0 || err != nil {
		t.Errorf("%v, %v", daemons, err)
	}
}
