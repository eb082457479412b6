// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package health

import (
	"io"
	"os"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"k8s.io/klog/v2"

	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
)

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func TestIgnored(t *testing.T) {
	for _, test := range []struct {
		disabled, enabled string
		everything        bool
		ignored, heeded   []uint64
	}{
		{"", "", false, []uint64{13, 31, 43, 45, 68, 109}, []uint64{48, 74, 79}},
		{"79, 48,,x", "", false, []uint64{13, 48, 79}, []uint64{74}},
		{"all", "", true, []uint64{79}, nil},
		{"XIDS", "", true, []uint64{79}, nil},
		{"all", "79", true, []uint64{48, 13}, []uint64{79}},
		{"48", "48,13", false, []uint64{31}, []uint64{48, 13}},
		{"all", "all", false, nil, []uint64{13, 79}},
	} {
		ignored := NewIgnored(test.disabled, test.enabled)
		if ignored.Everything() != test.everything {
			t.Errorf("%q, %q: everything is ignored: %v", test.disabled, test.enabled, ignored.Everything())
		}
		for _, xid := range test.ignored {
			if !ignored.Has(xid) {
				t.Errorf("%q, %q: %d is not ignored", test.disabled, test.enabled, xid)
			}
		}
		for _, xid := range test.heeded {
			if ignored.Has(xid) {
				t.Errorf("%q, %q: %d is ignored", test.disabled, test.enabled, xid)
			}
		}
	}
}

func library(wait func() (nvml.EventData, nvml.Return)) *mock.Interface {
	gpu := &mock.Device{
		GetSupportedEventTypesFunc: func() (uint64, nvml.Return) { return nvml.EventTypeXidCriticalError, nvml.SUCCESS },
		RegisterEventsFunc:         func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS },
	}
	events := &mock.EventSet{
		FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		WaitFunc: func(uint32) (nvml.EventData, nvml.Return) { return wait() },
	}
	return &mock.Interface{
		InitFunc:                  func() nvml.Return { return nvml.SUCCESS },
		ShutdownFunc:              func() nvml.Return { return nvml.SUCCESS },
		EventSetCreateFunc:        func() (nvml.EventSet, nvml.Return) { return events, nvml.SUCCESS },
		DeviceGetHandleByUUIDFunc: func(string) (nvml.Device, nvml.Return) { return gpu, nvml.SUCCESS },
	}
}

func watch(t *testing.T, library nvml.Interface, watched devices.Devices) (<-chan *devices.Device, func()) {
	t.Helper()
	stop, unhealthy, ended := make(chan struct{}), make(chan *devices.Device), make(chan error, 1)
	go func() { ended <- Watch(library, NewIgnored("", ""), true, watched, stop, unhealthy) }()
	return unhealthy, func() {
		close(stop)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestErrorOfTheWaitIsToldAgainAndAgainWithoutAPause(t *testing.T) {
	watched := devices.Devices{"a::0": {ID: "a::0"}, "a::1": {ID: "a::1"}}
	unhealthy, end := watch(t, library(func() (nvml.EventData, nvml.Return) { return nvml.EventData{}, nvml.ERROR_UNKNOWN }), watched)
	told := map[string]int{}
	for range 10000 {
		told[(<-unhealthy).ID]++
	}
	// Nobody takes the next one, and it ends all the same
	end()
	if told["a::0"] != 5000 || told["a::1"] != 5000 {
		t.Errorf("told %v", told)
	}
}

func TestErrorsOfOneGPULeaveTheOther(t *testing.T) {
	device := &mock.Device{GetUUIDFunc: func() (string, nvml.Return) { return "b", nvml.SUCCESS }}
	waits := 0
	wait := func() (nvml.EventData, nvml.Return) {
		waits++
		switch waits {
		case 1:
			return nvml.EventData{EventType: nvml.EventTypeDoubleBitEccError, Device: device}, nvml.SUCCESS
		case 2:
			return nvml.EventData{EventType: nvml.EventTypeXidCriticalError, EventData: 79, Device: device}, nvml.SUCCESS
		}
		return nvml.EventData{}, nvml.ERROR_TIMEOUT
	}
	unhealthy, end := watch(t, library(wait), devices.Devices{"a": {ID: "a"}, "b": {ID: "b"}})
	if told := (<-unhealthy).ID; told != "b" {
		t.Errorf("told %s", told)
	}
	end()
}

func TestDeviceThatCannotBeWatchedIsUnhealthy(t *testing.T) {
	lost := library(func() (nvml.EventData, nvml.Return) { return nvml.EventData{}, nvml.ERROR_TIMEOUT })
	lost.DeviceGetHandleByUUIDFunc = func(string) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_GPU_IS_LOST }
	unhealthy, end := watch(t, lost, devices.Devices{"a": {ID: "a"}})
	if told := (<-unhealthy).ID; told != "a" {
		t.Errorf("told %s", told)
	}
	end()
}
