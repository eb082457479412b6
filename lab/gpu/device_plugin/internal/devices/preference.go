// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package devices

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/NVIDIA/go-gpuallocator/gpuallocator"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Preferred chooses size devices of those that are available, the required ones among them.
func (devices Devices) Preferred(library nvml.Interface, policy string, available, required []string, size int) ([]string, error) {
	if library != nil && !slices.ContainsFunc(available, IsReplica) {
		return linked(library, available, required, size)
	}
	return devices.shared(policy, available, required, size)
}

// linked takes whole GPUs by the links between them. It asks each GPU of the node, those that are lost, too.
func linked(library nvml.Interface, available, required []string, size int) ([]string, error) {
	all, err := gpuallocator.NewDevices(gpuallocator.WithNvmlLib(library))
	if err != nil {
		return nil, fmt.Errorf("unable to get device link information: %w", err)
	}
	choice, err := all.Filter(available)
	if err != nil {
		return nil, fmt.Errorf("unable to retrieve list of available devices: %w", err)
	}
	needed, err := all.Filter(required)
	if err != nil {
		return nil, fmt.Errorf("unable to retrieve list of required devices: %w", err)
	}
	ids := []string{}
	for _, gpu := range gpuallocator.NewBestEffortPolicy().Allocate(choice, needed, size) {
		ids = append(ids, gpu.UUID)
	}
	return ids, nil
}

// shared takes replicas one by one: each from the GPU with the fewest in use, or with the most.
func (devices Devices) shared(policy string, available, required []string, size int) ([]string, error) {
	free := map[string][]string{}
	for _, id := range slices.Sorted(slices.Values(available)) {
		if devices[id] != nil && !slices.Contains(required, id) {
			free[GPUOf(id)] = append(free[GPUOf(id)], id)
		}
	}
	total := map[string]int{}
	for id := range devices {
		total[GPUOf(id)]++
	}
	chosen := slices.Clone(required)
	for len(chosen) < size {
		gpus := slices.Sorted(maps.Keys(free))
		if len(gpus) == 0 {
			return nil, errors.New("not enough available devices to satisfy allocation")
		}
		best := gpus[0]
		for _, gpu := range gpus[1:] {
			used, usedByBest := total[gpu]-len(free[gpu]), total[best]-len(free[best])
			if policy == "packed" && used > usedByBest || policy != "packed" && used < usedByBest {
				best = gpu
			}
		}
		chosen = append(chosen, free[best][0])
		if free[best] = free[best][1:]; len(free[best]) == 0 {
			delete(free, best)
		}
	}
	return chosen, nil
}
