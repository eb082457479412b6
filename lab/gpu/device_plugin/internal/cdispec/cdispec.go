// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package cdispec writes the file by which container engines know the devices that the plugin names.
package cdispec

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"
	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi/transform/root"
	"k8s.io/klog/v2"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
)

const (
	// Folder is where container engines look.
	Folder = "/var/run/cdi"
	vendor = "k8s.device-plugin.nvidia.com"
	class  = "gpu"
)

// QualifiedName is a device's name for CDI.
func QualifiedName(id string) string {
	return parser.QualifiedName(vendor, class, id)
}

// Write writes the file if the configuration uses CDI at all.
func Write(driver *devices.Driver, settings *config.Config, folder string) error {
	flags := settings.Flags
	if !flags.Plugin.DeviceListStrategy.AnyCDI() {
		return nil
	}
	if !driver.HasLibrary() && *flags.DeviceDiscoveryStrategy != "tegra" {
		klog.Warning("No valid resources detected, creating a null CDI handler")
		return nil
	}
	klog.Infof("Generating CDI spec for resource: %s/%s", vendor, class)
	namer, err := nvcdi.NewDeviceNamer(*flags.Plugin.DeviceIDStrategy)
	if err != nil {
		return err
	}
	library, err := nvcdi.New(
		nvcdi.WithClass(class),
		nvcdi.WithDeviceLib(driver.Devices),
		nvcdi.WithDeviceNamers(namer),
		nvcdi.WithDevRoot(driver.Root),
		nvcdi.WithDriverRoot(driver.Root),
		nvcdi.WithInfoLib(driver.Info),
		nvcdi.WithNVIDIACDIHookPath(*flags.Plugin.NvidiaCTKPath),
		nvcdi.WithNvmlLib(driver.NVML),
		nvcdi.WithVendor(vendor),
	)
	if err != nil {
		return fmt.Errorf("failed to create nvcdi library: %w", err)
	}
	spec, err := library.GetSpec()
	if err != nil {
		return fmt.Errorf("failed to get CDI spec: %w", err)
	}
	onHost := root.New(root.WithRoot(driver.Root), root.WithTargetRoot(*flags.NvidiaDriverRoot), root.WithRelativeTo("host"))
	if err := onHost.Transform(spec.Raw()); err != nil {
		return fmt.Errorf("failed to transform driver root in CDI spec: %w", err)
	}
	name, err := cdi.GenerateNameForSpec(spec.Raw())
	if err != nil {
		return fmt.Errorf("failed to generate spec name: %w", err)
	}
	if err := spec.Save(filepath.Join(folder, name+".json")); err != nil {
		if strings.Contains(err.Error(), "invalid device, empty device edits") {
			klog.ErrorS(err, "Ignoring empty CDI specs", "vendor", vendor, "class", class)
			return nil
		}
		return fmt.Errorf("failed to save CDI spec: %w", err)
	}
	return nil
}
