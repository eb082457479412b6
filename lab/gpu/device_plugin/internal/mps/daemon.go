// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package mps starts the driver's MPS daemon for a resource, sets its limits, and speaks with it.
package mps

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
)

const (
	// ContainerRoot is the folder of MPS in all containers.
	ContainerRoot = "/mps"
	// PipeVariable tells clients where the daemon listens.
	PipeVariable = "CUDA_MPS_PIPE_DIRECTORY"

	logVariable    = "CUDA_MPS_LOG_DIRECTORY"
	control        = "nvidia-cuda-mps-control"
	folderMode     = 0o755
	mebibyte       = 1024 * 1024
	everything     = 100
	fewestClients  = 16
	mostClients    = 48
	exclusiveMode  = "EXCLUSIVE_PROCESS"
	ordinaryMode   = "DEFAULT"
	askIfItIsThere = "get_default_active_thread_percentage"
)

// The first compute capability whose GPUs serve mostClients
var manyClients = [2]int{7, 5}

// Daemon is the MPS daemon of one resource.
type Daemon struct {
	Resource string
	Devices  devices.Devices
	root     string
}

// New is the daemon of a resource below a root, which need not run.
func New(root, resource string, shared devices.Devices) *Daemon {
	return &Daemon{Resource: resource, Devices: shared, root: root}
}

// Daemons are those of all resources that are shared. More replicas than MPS has clients are refused.
func Daemons(root string, named devices.Named) ([]*Daemon, error) {
	var daemons []*Daemon
	for _, resource := range slices.Sorted(maps.Keys(named)) {
		shared := named[resource]
		if !slices.ContainsFunc(shared.Sorted(), func(device *devices.Device) bool { return devices.IsReplica(device.ID) }) {
			klog.InfoS("Resource is not shared", "resource", resource)
			continue
		}
		for _, device := range shared.Sorted() {
			if most := clients(device.Capability); device.Replicas > most {
				return nil, fmt.Errorf("invalid MPS configuration: invalid device maximum allowed replicas exceeded: %d > %d", device.Replicas, most)
			}
		}
		daemons = append(daemons, New(root, resource, shared))
	}
	return daemons, nil
}

func clients(capability [2]int) int {
	if slices.Compare(capability[:], manyClients[:]) >= 0 {
		return mostClients
	}
	return fewestClients
}

// Folder is one of the daemon's own, pipe or log.
func (daemon *Daemon) Folder(name string) string {
	return filepath.Join(daemon.root, daemon.Resource, name)
}

// Start takes the GPUs for MPS alone, starts the daemon in the background and sets the limit of each client.
func (daemon *Daemon) Start() error {
	if err := daemon.setComputeMode(exclusiveMode); err != nil {
		return err
	}
	klog.InfoS("Staring MPS daemon", "resource", daemon.Resource)
	for _, name := range []string{"pipe", "log"} {
		if err := os.MkdirAll(daemon.Folder(name), folderMode); err != nil {
			return fmt.Errorf("error creating directory %v: %w", daemon.Folder(name), err)
		}
	}
	if output, err := daemon.command("-d").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(output)))
	}
	for index, limit := range daemon.memoryLimits() {
		if _, err := daemon.Ask(fmt.Sprintf("set_default_device_pinned_mem_limit %s %s", index, limit)); err != nil {
			return fmt.Errorf("error setting pinned memory limit for device %v: %w", index, err)
		}
	}
	if _, err := daemon.Ask(fmt.Sprintf("set_default_active_thread_percentage %d", everything*len(daemon.uuids())/len(daemon.Devices))); err != nil {
		return fmt.Errorf("error setting active thread percentage: %w", err)
	}
	return os.WriteFile(daemon.started(), nil, 0o644)
}

// Stop ends the daemon and gives the GPUs back.
func (daemon *Daemon) Stop() error {
	if _, err := daemon.Ask("quit"); err != nil {
		return fmt.Errorf("error sending quit message: %w", err)
	}
	klog.InfoS("Stopped MPS control daemon", "resource", daemon.Resource)
	if err := daemon.setComputeMode(ordinaryMode); err != nil {
		return err
	}
	if err := os.Remove(daemon.started()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("failed to remove started file: %w", err)
	}
	return os.RemoveAll(daemon.Folder("log"))
}

// AssertHealthy fails if the daemon does not answer.
func (daemon *Daemon) AssertHealthy() error {
	_, err := daemon.Ask(askIfItIsThere)
	return err
}

// Ask gives the daemon a command and returns what it says.
func (daemon *Daemon) Ask(words string) (string, error) {
	command := daemon.command()
	command.Stdin = strings.NewReader(words)
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("failed to send command to MPS daemon: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return strings.TrimSpace(string(output)), nil
}

func (daemon *Daemon) command(arguments ...string) *exec.Cmd {
	command := exec.Command(control, arguments...)
	command.Env = []string{PipeVariable + "=" + daemon.Folder("pipe"), logVariable + "=" + daemon.Folder("log")}
	return command
}

func (daemon *Daemon) setComputeMode(mode string) error {
	for _, uuid := range daemon.uuids() {
		if output, err := exec.Command("nvidia-smi", "-i", uuid, "-c", mode).CombinedOutput(); err != nil {
			klog.Errorf("\n%s", output)
			return fmt.Errorf("error setting compute mode %v: error running nvidia-smi: %w", mode, err)
		}
	}
	return nil
}

func (daemon *Daemon) uuids() []string {
	uuids := map[string]bool{}
	for _, device := range daemon.Devices {
		uuids[device.UUID()] = true
	}
	return slices.Sorted(maps.Keys(uuids))
}

// memoryLimits are an equal part of each GPU's memory for each of its replicas, by the GPU's index.
func (daemon *Daemon) memoryLimits() map[string]string {
	limits := map[string]string{}
	for _, device := range daemon.Devices {
		if device.Memory > 0 {
			limits[device.Index] = fmt.Sprintf("%dM", device.Memory/uint64(device.Replicas)/mebibyte)
		}
	}
	return limits
}

func (daemon *Daemon) started() string { return daemon.Folder(".started") }
