// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A workload for tests: it opens the GPUs that its container sees, tells them as nvidia-smi -L does, and can keep them open.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

func main() {
	hold := flag.Bool("hold", false, "keep the devices open until SIGTERM")
	folder := flag.String("devices", "/dev", "where the device nodes are")
	flag.Parse()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	opened, err := open(*folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpu-open:", err)
		os.Exit(1)
	}
	if *hold {
		fmt.Printf("holding %d\n", len(opened))
		<-ended
	}
	for _, file := range opened {
		_ = file.Close()
	}
}

// open opens each GPU whose node is there; NVML tells of all that the driver has.
func open(folder string) ([]*os.File, error) {
	library := nvml.New()
	if ret := library.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("NVML does not start: %w", ret)
	}
	defer func() { _ = library.Shutdown() }()
	count, ret := library.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("NVML does not count: %w", ret)
	}
	var opened []*os.File
	for index := range count {
		gpu, ret := library.DeviceGetHandleByIndex(index)
		if ret != nvml.SUCCESS {
			return nil, fmt.Errorf("GPU %d: %w", index, ret)
		}
		name, uuid, minor, err := describe(gpu)
		if err != nil {
			return nil, fmt.Errorf("GPU %d: %w", index, err)
		}
		file, err := os.OpenFile(fmt.Sprintf("%s/nvidia%d", folder, minor), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		opened = append(opened, file)
		fmt.Printf("GPU %d: %s (UUID: %s)\n", index, name, uuid)
	}
	if len(opened) == 0 {
		return nil, fmt.Errorf("no GPU of the driver's %d has a device node in %s", count, folder)
	}
	return opened, nil
}

func describe(gpu nvml.Device) (name, uuid string, minor int, err error) {
	name, ret := gpu.GetName()
	if ret == nvml.SUCCESS {
		uuid, ret = gpu.GetUUID()
	}
	if ret == nvml.SUCCESS {
		minor, ret = gpu.GetMinorNumber()
	}
	if ret != nvml.SUCCESS {
		err = ret
	}
	return name, uuid, minor, err
}
