// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package server

import (
	"fmt"
	"path/filepath"

	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"homelab.gpu/lab/gpu/device_plugin/internal/mps"
)

// waitForMPS asks MPS' daemon for an answer, which another pod of the node runs.
func (server *Server) waitForMPS() error {
	if server.settings.Sharing.MPS == nil {
		return nil
	}
	if err := server.daemon().AssertHealthy(); err != nil {
		return fmt.Errorf("error checking MPS daemon health: %w", err)
	}
	klog.InfoS("MPS daemon is healthy", "resource", server.resource)
	return nil
}

func (server *Server) daemon() *mps.Daemon {
	return mps.New(mps.ContainerRoot, server.resource, server.devices)
}

func (server *Server) addMPS(answer *pluginapi.ContainerAllocateResponse) {
	root, pipe := *server.settings.Flags.MpsRoot, server.daemon().Folder("pipe")
	answer.Envs[mps.PipeVariable] = pipe
	answer.Mounts = append(answer.Mounts,
		&pluginapi.Mount{ContainerPath: pipe, HostPath: filepath.Join(root, server.resource, "pipe")},
		&pluginapi.Mount{ContainerPath: "/dev/shm", HostPath: filepath.Join(root, "shm")},
	)
}
