// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package devices

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/NVIDIA/go-nvlib/pkg/nvlib/device"
	"github.com/NVIDIA/go-nvlib/pkg/nvlib/info"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"k8s.io/klog/v2"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
)

// Driver is the way to the driver's libraries, found once for one run of the plugin.
type Driver struct {
	NVML    nvml.Interface
	Devices device.Interface
	Info    info.Interface
	Root    string
}

const library = "libnvidia-ml.so.1"

// Where libraries lie below a driver's root
var libraryFolders = []string{"usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"}

// NewDriver looks for the library below root, and leaves it to the loader if it is not there.
func NewDriver(root string) *Driver {
	path := library
	if root != "" && root != "/" {
		for _, folder := range libraryFolders {
			if found, err := filepath.EvalSymlinks(filepath.Join(root, folder, library)); err == nil {
				path = found
				break
			}
		}
	}
	driver := &Driver{NVML: nvml.New(nvml.WithLibraryPath(path)), Root: root}
	driver.Devices = device.New(driver.NVML)
	driver.Info = info.New(info.WithRoot(root), info.WithNvmlLib(driver.NVML), info.WithDeviceLib(driver.Devices))
	return driver
}

// HasLibrary says whether NVML's library can be loaded.
func (driver *Driver) HasLibrary() bool {
	found, _ := driver.Info.HasNvml()
	return found
}

// Discovered is what was found: devices by resource, and whether NVML can watch them.
type Discovered struct {
	Named   Named
	Watched bool
}

// Discover finds the devices. Without a usable driver it fails or finds nothing, as the configuration says.
func Discover(driver *Driver, settings *config.Config) (*Discovered, error) {
	fail := *settings.Flags.FailOnInitError
	switch strategy := driver.strategy(*settings.Flags.DeviceDiscoveryStrategy); strategy {
	case "nvml":
		if ret := driver.NVML.Init(); ret != nvml.SUCCESS {
			klog.Errorf("Failed to initialize NVML: %v.", ret)
			explain("did you set the docker default runtime to `nvidia`?")
			if fail {
				return nil, fmt.Errorf("nvml init failed: %w", ret)
			}
			klog.Warningf("nvml init failed: %v", ret)
			return &Discovered{}, nil
		}
		defer driver.shutdown()
		found, err := driver.gpus()
		if err != nil {
			return nil, fmt.Errorf("error building device map: error building device map from config.resources: error building GPU device map: %w", err)
		}
		return &Discovered{Named: Replicated(found, settings.Sharing.Active()), Watched: true}, nil
	case "tegra":
		found := Devices{"tegra": {ID: "tegra", Index: "0", Healthy: true}}
		return &Discovered{Named: Replicated(found, settings.Sharing.Active())}, nil
	default:
		klog.Errorf("Incompatible strategy detected %v", strategy)
		explain("did you configure the NVIDIA Container Toolkit?")
		if fail {
			return nil, fmt.Errorf("invalid device discovery strategy")
		}
		return &Discovered{}, nil
	}
}

func explain(question string) {
	klog.Error("If this is a GPU node, " + question)
	klog.Error("You can check the prerequisites at: https://github.com/NVIDIA/k8s-device-plugin#prerequisites")
	klog.Error("You can learn how to set the runtime at: https://github.com/NVIDIA/k8s-device-plugin#quick-start")
	klog.Error("If this is not a GPU node, you should set up a toleration or nodeSelector to only deploy this plugin on GPU nodes")
}

func (driver *Driver) strategy(wanted string) string {
	if wanted != "auto" {
		return wanted
	}
	switch driver.Info.ResolvePlatform() {
	case info.PlatformNVML, info.PlatformWSL:
		return "nvml"
	case info.PlatformTegra:
		return "tegra"
	}
	return wanted
}

func (driver *Driver) shutdown() {
	if ret := driver.NVML.Shutdown(); ret != nvml.SUCCESS {
		klog.Infof("Error shutting down NVML: %v", ret)
	}
}

// gpus asks NVML. One GPU that does not answer makes all of it fail.
func (driver *Driver) gpus() (Devices, error) {
	found := Devices{}
	err := driver.Devices.VisitDevices(func(index int, gpu device.Device) error {
		if _, ret := gpu.GetName(); ret != nvml.SUCCESS {
			return fmt.Errorf("error getting product name for GPU: %w", ret)
		}
		if _, err := gpu.IsMigEnabled(); err != nil {
			return fmt.Errorf("error checking if MIG is enabled on GPU: %w", err)
		}
		made, err := describe(index, gpu)
		if err != nil {
			return fmt.Errorf("error building Device: %w", err)
		}
		found[made.ID] = made
		return nil
	})
	return found, err
}

func describe(index int, gpu device.Device) (*Device, error) {
	uuid, ret := gpu.GetUUID()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("error getting UUID device: %w", ret)
	}
	minor, ret := gpu.GetMinorNumber()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("error getting device paths: error getting GPU device minor number: %w", ret)
	}
	numa, err := numaNode(gpu)
	if err != nil {
		return nil, fmt.Errorf("error getting device NUMA node: %w", err)
	}
	memory, ret := gpu.GetMemoryInfo()
	if ret != nvml.SUCCESS {
		klog.Warningf("Ignoring error getting device memory: %v", ret)
	}
	major, minorCapability, ret := gpu.GetCudaComputeCapability()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("error getting device compute capability: %w", ret)
	}
	paths := []string{fmt.Sprintf("/dev/nvidia%d", minor)}
	return &Device{
		ID: uuid, Index: strconv.Itoa(index), Paths: paths, Numa: numa, Healthy: true, Memory: memory.Total, Capability: [2]int{major, minorCapability},
	}, nil
}

func numaNode(gpu device.Device) (*int64, error) {
	pci, ret := gpu.GetPciInfo()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("error getting PCI Bus Info of device: %w", ret)
	}
	address := make([]byte, 0, len(pci.BusId))
	for _, letter := range pci.BusId {
		if letter == 0 {
			break
		}
		address = append(address, byte(letter))
	}
	// NVML writes eight digits for the domain, sysfs four
	path := "/sys/bus/pci/devices/" + strings.ToLower(strings.TrimPrefix(string(address), "0000")) + "/numa_node"
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, nil
	}
	node, err := strconv.ParseInt(string(bytes.TrimSpace(content)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("error parsing value for NUMA node: %w", err)
	}
	if node < 0 {
		return nil, nil
	}
	return &node, nil
}
