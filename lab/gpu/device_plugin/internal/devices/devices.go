// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package devices finds the node's GPUs and makes of them what the kubelet is offered.
package devices

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
)

// ResourceName is the name of whole GPUs that are not renamed.
const ResourceName = "nvidia.com/gpu"

const separator = "::"

// Device is a GPU, or one of the replicas of a GPU.
type Device struct {
	ID       string
	Index    string
	Paths    []string
	Numa     *int64
	Replicas int
	Healthy  bool

	// Memory is in bytes, 0 if the GPU does not tell it.
	Memory     uint64
	Capability [2]int
}

// UUID is that of the GPU.
func (device *Device) UUID() string { return GPUOf(device.ID) }

// GPUOf is the UUID within the ID of a device or replica.
func GPUOf(id string) string {
	gpu, _, _ := strings.Cut(id, separator)
	return gpu
}

// IsReplica says whether an ID is that of a replica.
func IsReplica(id string) bool { return strings.Contains(id, separator) }

// Devices are all of one resource, by their IDs.
type Devices map[string]*Device

// Sorted lists them by ID.
func (devices Devices) Sorted() []*Device {
	list := make([]*Device, 0, len(devices))
	for _, id := range slices.Sorted(maps.Keys(devices)) {
		list = append(list, devices[id])
	}
	return list
}

// ForKubelet is how the kubelet is told them.
func (devices Devices) ForKubelet() []*pluginapi.Device {
	list := make([]*pluginapi.Device, 0, len(devices))
	for _, device := range devices.Sorted() {
		told := &pluginapi.Device{ID: device.ID, Health: pluginapi.Unhealthy}
		if device.Healthy {
			told.Health = pluginapi.Healthy
		}
		if device.Numa != nil {
			told.Topology = &pluginapi.TopologyInfo{Nodes: []*pluginapi.NUMANode{{ID: *device.Numa}}}
		}
		list = append(list, told)
	}
	return list
}

// Named are the devices of each resource.
type Named map[string]Devices

// Replicated gives each device that is shared its replicas, under the resource's new name if it has one.
func Replicated(found Devices, sharing *config.Replicated) Named {
	var shared *config.Resource
	if sharing != nil {
		for index := range sharing.Resources {
			if sharing.Resources[index].Name == ResourceName {
				shared = &sharing.Resources[index]
			}
		}
	}
	if len(found) == 0 {
		return Named{}
	}
	if shared == nil {
		return Named{ResourceName: found}
	}
	replicas := Devices{}
	for _, device := range found {
		for number := range shared.Replicas {
			replica := *device
			replica.ID = fmt.Sprintf("%s%s%d", device.ID, separator, number)
			replica.Replicas = shared.Replicas
			replicas[replica.ID] = &replica
		}
	}
	if shared.Rename != "" {
		return Named{shared.Rename: replicas}
	}
	return Named{ResourceName: replicas}
}
