// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package health

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"k8s.io/klog/v2"

	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
)

const waitMilliseconds = 5000

// Watch tells the devices that the driver reports errors of, until stop is closed.
//
// A GPU's event is told of one of its replicas only, and an error of the wait itself of all devices, again and again without a pause: so
// does NVIDIA's plugin up to v0.20.0.
func Watch(library nvml.Interface, ignored Ignored, failOnInitError bool, watched devices.Devices, stop <-chan struct{}, unhealthy chan<- *devices.Device) error {
	if ignored.Everything() {
		return nil
	}
	if ret := library.Init(); ret != nvml.SUCCESS {
		if failOnInitError {
			return fmt.Errorf("failed to initialize NVML: %w", ret)
		}
		return nil
	}
	defer func() {
		if ret := library.Shutdown(); ret != nvml.SUCCESS {
			klog.Infof("Error shutting down NVML: %v", ret)
		}
	}()
	klog.Infof("Ignoring the following XIDs for health checks: %v", ignored)
	events, ret := library.EventSetCreate()
	if ret != nvml.SUCCESS {
		return fmt.Errorf("failed to create event set: %w", ret)
	}
	defer func() { _ = events.Free() }()
	// A device that nobody takes any more must not hold up the end
	tell := func(list ...*devices.Device) {
		for _, device := range list {
			select {
			case unhealthy <- device:
			case <-stop:
				return
			}
		}
	}
	all := watched.Sorted()
	byUUID := map[string]*devices.Device{}
	for _, device := range all {
		byUUID[device.UUID()] = device
		if !register(library, events, device) {
			tell(device)
		}
	}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		event, ret := events.Wait(waitMilliseconds)
		switch {
		case ret == nvml.ERROR_TIMEOUT:
		case ret != nvml.SUCCESS:
			klog.Infof("Error waiting for event: %v; Marking all devices as unhealthy", ret)
			tell(all...)
		case event.EventType != nvml.EventTypeXidCriticalError:
			klog.Infof("Skipping non-nvmlEventTypeXidCriticalError event: %+v", event)
		case ignored.Has(event.EventData):
			klog.Infof("Skipping event %+v", event)
		default:
			klog.Infof("Processing event %+v", event)
			tell(concerned(event, all, byUUID)...)
		}
	}
}

func register(library nvml.Interface, events nvml.EventSet, device *devices.Device) bool {
	const wanted = uint64(nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError | nvml.EventTypeSingleBitEccError)
	gpu, ret := library.DeviceGetHandleByUUID(device.UUID())
	if ret != nvml.SUCCESS {
		klog.Infof("unable to get device handle from UUID: %v; marking it as unhealthy", ret)
		return false
	}
	supported, ret := gpu.GetSupportedEventTypes()
	if ret != nvml.SUCCESS {
		klog.Infof("unable to determine the supported events for %v: %v; marking it as unhealthy", device.ID, ret)
		return false
	}
	ret = gpu.RegisterEvents(wanted&supported, events)
	if ret == nvml.ERROR_NOT_SUPPORTED {
		klog.Warningf("Device %v is too old to support healthchecking.", device.ID)
	}
	if ret != nvml.SUCCESS {
		klog.Infof("Marking device %v as unhealthy: %v", device.ID, ret)
		return false
	}
	return true
}

// concerned are the devices of an event: one, or all if the GPU no longer says which it is.
func concerned(event nvml.EventData, all []*devices.Device, byUUID map[string]*devices.Device) []*devices.Device {
	uuid, ret := event.Device.GetUUID()
	if ret != nvml.SUCCESS {
		klog.Infof("Failed to determine uuid for event %v: %v; Marking all devices as unhealthy.", event, ret)
		return all
	}
	device := byUUID[uuid]
	if device == nil {
		klog.Infof("Ignoring event for unexpected device: %v", uuid)
		return nil
	}
	klog.Infof("XidCriticalError: Xid=%d on Device=%s; marking device as unhealthy.", event.EventData, device.ID)
	return []*devices.Device{device}
}
