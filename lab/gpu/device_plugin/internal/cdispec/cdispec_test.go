// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package cdispec

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
	"homelab.gpu/lab/gpu/device_plugin/internal/mocklibrary"
)

var folders = map[string]string{"amd64": "usr/lib/x86_64-linux-gnu", "arm64": "usr/lib/aarch64-linux-gnu"}

// driverRoot is one with the mock library, a stand-in for CUDA's, and device nodes.
func driverRoot(t *testing.T) string {
	t.Helper()
	library, err := mocklibrary.Build()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	put := func(path string, content []byte) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(filepath.Join(library, "libnvidia-ml.so.1"))
	if err != nil {
		t.Fatal(err)
	}
	folder := folders[runtime.GOARCH]
	put(filepath.Join(folder, "libnvidia-ml.so.580.95.05"), content)
	put(filepath.Join(folder, "libcuda.so.580.95.05"), nil)
	for _, link := range []string{"libnvidia-ml.so", "libcuda.so"} {
		if err := os.Symlink(link+".580.95.05", filepath.Join(root, folder, link+".1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "dev"), 0o700); err != nil {
		t.Fatal(err)
	}
	return root
}

// addNode makes a device node that is none of a GPU.
func addNode(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3); err != nil {
		t.Skipf("device nodes take root: %v", err)
	}
}

func settings(t *testing.T, arguments ...string) *config.Config {
	t.Helper()
	options, err := config.ParseOptions(arguments, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(options, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func TestWrite(t *testing.T) {
	t.Setenv("MOCK_NVML_STATE", mocklibrary.NewState(t, "NVIDIA GeForce RTX 3060", 1).Path)
	root, folder := driverRoot(t), t.TempDir()
	driver := devices.NewDriver(root)
	if err := Write(driver, settings(t), folder); err != nil {
		t.Fatal(err)
	}
	if written, _ := os.ReadDir(folder); len(written) != 0 {
		t.Errorf("wrote %v without need", written)
	}
	addNode(t, filepath.Join(root, "dev/nvidia0"))
	if err := Write(driver, settings(t, "--device-list-strategy=cdi-cri"), folder); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(folder, "k8s.device-plugin.nvidia.com-gpu.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Kind    string
		Devices []struct{ Name string }
	}
	if err := json.Unmarshal(content, &spec); err != nil {
		t.Fatal(err)
	}
	if spec.Kind != "k8s.device-plugin.nvidia.com/gpu" || !slices.ContainsFunc(spec.Devices, func(device struct{ Name string }) bool { return device.Name == mocklibrary.UUID(0) }) {
		t.Errorf("%s", content)
	}
	if strings.Contains(string(content), root) || !strings.Contains(string(content), `"/dev/nvidia0"`) || !strings.Contains(string(content), "NVIDIA_VISIBLE_DEVICES=void") {
		t.Errorf("%s", content)
	}
}

func TestQualifiedName(t *testing.T) {
	if name := QualifiedName("GPU-a"); name != "k8s.device-plugin.nvidia.com/gpu=GPU-a" {
		t.Error(name)
	}
}
