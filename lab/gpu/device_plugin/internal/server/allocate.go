// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"homelab.gpu/lab/gpu/device_plugin/internal/cdispec"
	"homelab.gpu/lab/gpu/device_plugin/internal/config"
	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
)

const (
	visibleDevices   = "NVIDIA_VISIBLE_DEVICES"
	volumeMountsRoot = "/var/run/nvidia-container-devices"
)

// Nodes that all containers with a GPU get where they exist
var controlNodes = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"}

var errInvalidRequest = errors.New("invalid request")

// Allocate says what a container needs to reach its devices.
func (server *Server) Allocate(_ context.Context, request *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	response := &pluginapi.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		if err := server.validate(container.DevicesIds); err != nil {
			return nil, fmt.Errorf("invalid allocation request for %q: %w", server.resource, err)
		}
		answer, err := server.answer(container.DevicesIds)
		if err != nil {
			return nil, fmt.Errorf("failed to get allocate response: %w", err)
		}
		response.ContainerResponses = append(response.ContainerResponses, answer)
	}
	return response, nil
}

func (server *Server) validate(ids []string) error {
	for _, id := range ids {
		if server.devices[id] == nil {
			return fmt.Errorf("%w: unknown device: %s", errInvalidRequest, id)
		}
	}
	sharing := server.settings.Sharing.Active()
	if sharing != nil && sharing.FailRequestsGreaterThanOne && len(ids) > 1 && slices.ContainsFunc(ids, devices.IsReplica) {
		return fmt.Errorf("%w: maximum request size for shared resources is 1; found %d", errInvalidRequest, len(ids))
	}
	return nil
}

func (server *Server) answer(requested []string) (*pluginapi.ContainerAllocateResponse, error) {
	flags := server.settings.Flags
	strategies := *flags.Plugin.DeviceListStrategy
	answer := &pluginapi.ContainerAllocateResponse{Envs: map[string]string{}}
	ids := server.names(requested)
	if strategies.AnyCDI() {
		if err := addCDI(answer, flags, strategies, ids); err != nil {
			return nil, fmt.Errorf("failed to get allocate response for CDI: %w", err)
		}
	}
	if server.settings.Sharing.MPS != nil {
		server.addMPS(answer)
	}
	if strategies.OnlyCDI() {
		return answer, nil
	}
	if slices.Contains(strategies, "envvar") {
		answer.Envs[visibleDevices] = strings.Join(ids, ",")
	}
	if slices.Contains(strategies, "volume-mounts") {
		answer.Envs[visibleDevices] = volumeMountsRoot
		for _, id := range ids {
			answer.Mounts = append(answer.Mounts, &pluginapi.Mount{HostPath: "/dev/null", ContainerPath: filepath.Join(volumeMountsRoot, id)})
		}
	}
	if *flags.Plugin.PassDeviceSpecs {
		answer.Devices = server.nodes(*flags.NvidiaDevRoot, requested)
	}
	for name, enabled := range map[string]bool{"NVIDIA_GDRCOPY": *flags.GDRCopyEnabled, "NVIDIA_GDS": *flags.GDSEnabled, "NVIDIA_MOFED": *flags.MOFEDEnabled} {
		if enabled {
			answer.Envs[name] = "enabled"
		}
	}
	return answer, nil
}

// names are what the runtime calls the devices.
func (server *Server) names(requested []string) []string {
	names := make([]string, 0, len(requested))
	for _, id := range requested {
		if *server.settings.Flags.Plugin.DeviceIDStrategy == "index" {
			names = append(names, server.devices[id].Index)
		} else {
			names = append(names, devices.GPUOf(id))
		}
	}
	return names
}

func (server *Server) nodes(root string, requested []string) []*pluginapi.DeviceSpec {
	var paths []string
	if server.watched {
		paths = slices.DeleteFunc(slices.Clone(controlNodes), func(path string) bool {
			_, err := os.Stat(path)
			return err != nil
		})
	}
	for _, id := range requested {
		paths = append(paths, server.devices[id].Paths...)
	}
	var nodes []*pluginapi.DeviceSpec
	for _, path := range paths {
		nodes = append(nodes, &pluginapi.DeviceSpec{ContainerPath: path, HostPath: filepath.Join(root, path), Permissions: "rw"})
	}
	return nodes
}

func addCDI(answer *pluginapi.ContainerAllocateResponse, flags config.Flags, strategies config.Words, ids []string) error {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, cdispec.QualifiedName(id))
	}
	if len(names) == 0 {
		return nil
	}
	if slices.Contains(strategies, "cdi-annotations") {
		annotations, err := cdi.UpdateAnnotations(map[string]string{}, "nvidia-device-plugin", uuid.NewString(), names)
		if err != nil {
			return fmt.Errorf("failed to add CDI annotations: %w", err)
		}
		answer.Annotations = map[string]string{}
		for _, key := range slices.Sorted(maps.Keys(annotations)) {
			answer.Annotations[*flags.Plugin.CDIAnnotationPrefix+strings.TrimPrefix(key, cdi.AnnotationPrefix)] = annotations[key]
		}
	}
	if slices.Contains(strategies, "cdi-cri") {
		for _, name := range names {
			answer.CdiDevices = append(answer.CdiDevices, &pluginapi.CDIDevice{Name: name})
		}
	}
	return nil
}
