// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
	"homelab.gpu/lab/gpu/device_plugin/internal/health"
)

const (
	sliced = "sharing: {timeSlicing: {failRequestsGreaterThanOne: %v, resources: [{name: gpu, replicas: 2}]}}"
	byMPS  = "sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}"
)

// made is a server with two GPUs, configured by a file's content and environment variables.
func made(t *testing.T, content string, environment map[string]string) *Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := config.ParseOptions([]string{"--config-file", path, "--mps-root", "/run/nvidia/mps"}, func(name string) (string, bool) {
		value, found := environment[name]
		return value, found
	})
	if err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(options, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	found := devices.Devices{}
	for index, id := range []string{"GPU-a", "GPU-b"} {
		found[id] = &devices.Device{ID: id, Index: fmt.Sprint(index), Paths: []string{fmt.Sprintf("/dev/nvidia%d", index)}, Healthy: true}
	}
	offered := devices.Replicated(found, settings.Sharing.Active())[devices.ResourceName]
	return New(devices.ResourceName, offered, true, nil, settings, health.Ignored{})
}

func allocate(server *Server, ids ...string) (*pluginapi.ContainerAllocateResponse, error) {
	response, err := server.Allocate(context.Background(), &pluginapi.AllocateRequest{ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: ids}}})
	if err != nil {
		return nil, err
	}
	return response.ContainerResponses[0], nil
}

func TestAllocateByEachStrategy(t *testing.T) {
	const visible = "NVIDIA_VISIBLE_DEVICES"
	for _, test := range []struct {
		name        string
		environment map[string]string
		envs        map[string]string
		mounts, cdi []string
		annotation  string
	}{
		{"envvar", nil, map[string]string{visible: "GPU-a,GPU-b"}, nil, nil, ""},
		{"index", map[string]string{"DEVICE_ID_STRATEGY": "index"}, map[string]string{visible: "0,1"}, nil, nil, ""},
		{
			"volume-mounts",
			map[string]string{"DEVICE_LIST_STRATEGY": "volume-mounts"},
			map[string]string{visible: "/var/run/nvidia-container-devices"},
			[]string{"/dev/null:/var/run/nvidia-container-devices/GPU-a", "/dev/null:/var/run/nvidia-container-devices/GPU-b"}, nil, "",
		},
		{
			"cdi-cri",
			map[string]string{"DEVICE_LIST_STRATEGY": "cdi-cri", "PASS_DEVICE_SPECS": "true"},
			map[string]string{}, nil, []string{"k8s.device-plugin.nvidia.com/gpu=GPU-a", "k8s.device-plugin.nvidia.com/gpu=GPU-b"}, "",
		},
		{
			"cdi-annotations",
			map[string]string{"DEVICE_LIST_STRATEGY": "cdi-annotations", "CDI_ANNOTATION_PREFIX": "lab/"},
			map[string]string{}, nil, nil, "k8s.device-plugin.nvidia.com/gpu=GPU-a,k8s.device-plugin.nvidia.com/gpu=GPU-b",
		},
		{
			"several, and more",
			map[string]string{"DEVICE_LIST_STRATEGY": "envvar,cdi-cri", "GDS_ENABLED": "true", "MOFED_ENABLED": "true", "GDRCOPY_ENABLED": "true"},
			map[string]string{visible: "GPU-a,GPU-b", "NVIDIA_GDS": "enabled", "NVIDIA_MOFED": "enabled", "NVIDIA_GDRCOPY": "enabled"},
			nil, []string{"k8s.device-plugin.nvidia.com/gpu=GPU-a", "k8s.device-plugin.nvidia.com/gpu=GPU-b"}, "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := allocate(made(t, "", test.environment), "GPU-a", "GPU-b")
			if err != nil {
				t.Fatal(err)
			}
			var mounts, names []string
			for _, mount := range answer.Mounts {
				mounts = append(mounts, mount.HostPath+":"+mount.ContainerPath)
			}
			for _, device := range answer.CdiDevices {
				names = append(names, device.Name)
			}
			if !reflect.DeepEqual(answer.Envs, test.envs) || !reflect.DeepEqual(mounts, test.mounts) || !reflect.DeepEqual(names, test.cdi) || len(answer.Devices) != 0 {
				t.Errorf("%v", answer)
			}
			for key, value := range answer.Annotations {
				if !strings.HasPrefix(key, "lab/nvidia-device-plugin_") || value != test.annotation {
					t.Errorf("annotation %s: %s", key, value)
				}
			}
			if (len(answer.Annotations) == 1) != (test.annotation != "") {
				t.Errorf("annotations %v", answer.Annotations)
			}
		})
	}
}

func TestAllocatePassesDeviceNodes(t *testing.T) {
	answer, err := allocate(made(t, "", map[string]string{"PASS_DEVICE_SPECS": "true", "NVIDIA_DRIVER_ROOT": "/driver"}), "GPU-b")
	if err != nil {
		t.Fatal(err)
	}
	node := answer.Devices[len(answer.Devices)-1]
	if node.HostPath != "/driver/dev/nvidia1" || node.ContainerPath != "/dev/nvidia1" || node.Permissions != "rw" {
		t.Errorf("%v", node)
	}
}

func TestAllocateForMPS(t *testing.T) {
	answer, err := allocate(made(t, byMPS, nil), "GPU-a::1")
	if err != nil {
		t.Fatal(err)
	}
	if answer.Envs["CUDA_MPS_PIPE_DIRECTORY"] != "/mps/nvidia.com/gpu/pipe" || answer.Mounts[0].HostPath != "/run/nvidia/mps/nvidia.com/gpu/pipe" || answer.Mounts[1].HostPath != "/run/nvidia/mps/shm" || answer.Mounts[1].ContainerPath != "/dev/shm" {
		t.Errorf("%v", answer)
	}
}

func TestAllocateRefuses(t *testing.T) {
	for _, test := range []struct {
		content, words string
		ids            []string
	}{
		{"", "unknown device: GPU-c", []string{"GPU-c"}},
		{"", "", []string{"GPU-a", "GPU-b"}},
		{fmt.Sprintf(sliced, true), `invalid allocation request for "nvidia.com/gpu": invalid request: maximum request size for shared resources is 1; found 2`, []string{"GPU-a::0", "GPU-b::0"}},
		{fmt.Sprintf(sliced, true), "", []string{"GPU-a::0"}},
		{fmt.Sprintf(sliced, false), "", []string{"GPU-a::0", "GPU-a::1"}},
		{byMPS, "maximum request size for shared resources is 1; found 2", []string{"GPU-a::0", "GPU-a::1"}},
	} {
		if _, err := allocate(made(t, test.content, nil), test.ids...); (err == nil) != (test.words == "") || err != nil && !strings.Contains(err.Error(), test.words) {
			t.Errorf("%q, %v: %v", test.content, test.ids, err)
		}
	}
}

func TestStartWaitsForMPS(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	waiting := made(t, byMPS, nil)
	control := func(script string) {
		if err := os.WriteFile(filepath.Join(folder, "nvidia-cuda-mps-control"), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := waiting.Start(""); err == nil || !strings.Contains(err.Error(), "error waiting for MPS daemon") {
		t.Errorf("without MPS: %v", err)
	}
	control("echo nobody there; exit 1")
	if err := waiting.waitForMPS(); err == nil || !strings.Contains(err.Error(), "nobody there") {
		t.Errorf("without its daemon: %v", err)
	}
	control(`read -r line || [ "$line" = get_default_active_thread_percentage ] && [ "$CUDA_MPS_PIPE_DIRECTORY" = /mps/nvidia.com/gpu/pipe ]`)
	if err := waiting.waitForMPS(); err != nil {
		t.Error(err)
	}
}
