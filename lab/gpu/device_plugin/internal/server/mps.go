// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package server

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	mpsControl       = "nvidia-cuda-mps-control"
	mpsContainerRoot = "/mps"
	mpsPipeVariable  = "CUDA_MPS_PIPE_DIRECTORY"
)

// waitForMPS asks MPS' daemon for an answer, which another pod of the node runs.
func (server *Server) waitForMPS() error {
	if server.settings.Sharing.MPS == nil {
		return nil
	}
	command := exec.Command(mpsControl)
	command.Env = []string{mpsPipeVariable + "=" + server.mpsFolder("pipe"), "CUDA_MPS_LOG_DIRECTORY=" + server.mpsFolder("log")}
	command.Stdin = strings.NewReader("get_default_active_thread_percentage")
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("error checking MPS daemon health: failed to send command to MPS daemon: %w: %s", err, strings.TrimSpace(output.String()))
	}
	klog.InfoS("MPS daemon is healthy", "resource", server.resource)
	return nil
}

func (server *Server) mpsFolder(name string) string {
	return filepath.Join(mpsContainerRoot, server.resource, name)
}

func (server *Server) addMPS(answer *pluginapi.ContainerAllocateResponse) {
	root := *server.settings.Flags.MpsRoot
	answer.Envs[mpsPipeVariable] = server.mpsFolder("pipe")
	answer.Mounts = append(answer.Mounts,
		&pluginapi.Mount{ContainerPath: server.mpsFolder("pipe"), HostPath: filepath.Join(root, server.resource, "pipe")},
		&pluginapi.Mount{ContainerPath: "/dev/shm", HostPath: filepath.Join(root, "shm")},
	)
}
