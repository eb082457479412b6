// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func shared(resource string) string {
	return "sharing: {timeSlicing: {resources: [" + resource + "]}}"
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, content, words string }{
		{"no YAML", "a: [", "unmarshal error"},
		{"another version", "version: v2", "unknown version: v2"},
		{"one replica", shared("{name: gpu, replicas: 1}"), "number of replicas must be >= 2"},
		{"a number in quotes", shared(`{name: gpu, replicas: "4"}`), "cannot unmarshal string"},
		{"a fraction", shared("{name: gpu, replicas: 2.5}"), "cannot unmarshal number"},
		{"no replicas", shared("{name: gpu}"), "no replicas specified"},
		{"no name", shared("{replicas: 4}"), "no resource name specified"},
		{"a wrong name", shared("{name: GPU, replicas: 4}"), "incorrect format for resource name 'nvidia.com/GPU'"},
		{"a long name", shared("{name: " + strings.Repeat("g", 60) + ", replicas: 4}"), "must be 63 characters or less"},
		{"no resources", "sharing: {timeSlicing: {}}", "no resources specified"},
		{"no resource", "sharing: {mps: {resources: []}}", "no resources specified"},
		{"both means of sharing", "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2}]}, mps: {resources: [{name: gpu, replicas: 2}]}}", "cannot be used together"},
		{"a word for devices", shared("{name: gpu, replicas: 4, devices: some}"), "the only valid string input is 'all'"},
		{"no devices", shared("{name: gpu, replicas: 4, devices: 0}"), "a count of devices must be > 0"},
		{"a name for a device", shared("{name: gpu, replicas: 4, devices: [first]}"), "unsupported type for device"},
		{"a table of devices", shared("{name: gpu, replicas: 4, devices: {}}"), "unrecognized type for devices"},
		{"a word for a truth", "flags: {failOnInitError: maybe}", "cannot unmarshal string"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Parse([]byte(test.content)); err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("%v does not say %q", err, test.words)
			}
		})
	}
}

func TestParseTakes(t *testing.T) {
	for _, test := range []struct{ name, content string }{
		{"nothing", ""},
		{"unknown keys", "version: v1\nflag: {migStrategy: all}\nflags: {plugin: {passDeviceSpec: 1}}"},
		{"devices by index and UUID", shared(`{name: gpu, replicas: 4, devices: [0, "1", "0:1", GPU-b1028956-cfa2-0990-bf4a-5da9abb51763, MIG-GPU-b1028956-cfa2-0990-bf4a-5da9abb51763/3/0]}`)},
		{"a number of devices", shared("{name: nvidia.com/gpu, replicas: 4, devices: 2}")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Parse([]byte(test.content)); err != nil {
				t.Error(err)
			}
		})
	}
}

type given struct {
	arguments   []string
	environment map[string]string
	file        string
}

func load(t *testing.T, given given) (*Config, []string, error) {
	t.Helper()
	environment := map[string]string{}
	for name, value := range given.environment {
		environment[name] = value
	}
	if given.file != "" {
		environment["CONFIG_FILE"] = filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(environment["CONFIG_FILE"], []byte(given.file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options, err := ParseOptions(given.arguments, func(name string) (string, bool) {
		value, found := environment[name]
		return value, found
	})
	if err != nil {
		return nil, nil, err
	}
	var warnings []string
	config, err := Load(options, func(format string, values ...any) { warnings = append(warnings, fmt.Sprintf(format, values...)) })
	return config, warnings, err
}

func TestCommandLineGoesBeforeEnvironmentBeforeFile(t *testing.T) {
	file := "flags: {migStrategy: single, failOnInitError: false, plugin: {deviceListStrategy: cdi-cri, deviceIDStrategy: index}}"
	environment := map[string]string{"MIG_STRATEGY": "mixed", "FAIL_ON_INIT_ERROR": "true", "DEVICE_LIST_STRATEGY": "envvar,cdi-annotations"}
	for _, test := range []struct {
		name  string
		given given
		mig   string
		fail  bool
		list  Words
		id    string
	}{
		{"nothing", given{}, "none", true, Words{"envvar"}, "uuid"},
		{"file", given{file: file}, "single", false, Words{"cdi-cri"}, "index"},
		{"environment", given{file: file, environment: environment}, "mixed", true, Words{"envvar", "cdi-annotations"}, "index"},
		{
			"command line",
			given{file: file, environment: environment, arguments: []string{"--mig-strategy=none", "--fail-on-init-error=false", "--device-list-strategy", "volume-mounts", "--device-list-strategy", "envvar"}},
			"none", false, Words{"volume-mounts", "envvar"}, "index",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, _, err := load(t, test.given)
			if err != nil {
				t.Fatal(err)
			}
			flags := config.Flags
			if *flags.MigStrategy != test.mig || *flags.FailOnInitError != test.fail || !reflect.DeepEqual(*flags.Plugin.DeviceListStrategy, test.list) || *flags.Plugin.DeviceIDStrategy != test.id {
				t.Errorf("%v %v %v %v", *flags.MigStrategy, *flags.FailOnInitError, *flags.Plugin.DeviceListStrategy, *flags.Plugin.DeviceIDStrategy)
			}
		})
	}
}

func TestNamesOfOptions(t *testing.T) {
	config, _, err := load(t, given{
		arguments:   []string{"--nvidia-driver-root=/driver", "--pass-device-specs", "--container-driver-root", "/"},
		environment: map[string]string{"NVIDIA_CTK_PATH": "/ctk", "NVIDIA_DEV_ROOT": "", "MPS_ROOT": "/mps", "DEVICE_DISCOVERY_STRATEGY": "tegra", "SHARED_DEVICES_ALLOCATION_POLICY": "packed"},
	})
	if err != nil {
		t.Fatal(err)
	}
	flags := config.Flags
	found := []string{*flags.NvidiaDriverRoot, *flags.NvidiaDevRoot, *flags.Plugin.NvidiaCTKPath, *flags.Plugin.ContainerDriverRoot, *flags.MpsRoot, *flags.DeviceDiscoveryStrategy, *flags.Plugin.SharedDevicesAllocationPolicy}
	if !reflect.DeepEqual(found, []string{"/driver", "/driver", "/ctk", "/", "/mps", "tegra", "packed"}) || !*flags.Plugin.PassDeviceSpecs {
		t.Error(found)
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		given given
		words string
	}{
		{given{arguments: []string{"--colour"}}, "not defined: -colour"},
		{given{arguments: []string{"now"}}, `unexpected argument "now"`},
		{given{environment: map[string]string{"PASS_DEVICE_SPECS": "maybe"}}, `invalid value for --pass-device-specs: could not parse "maybe" as bool value`},
		{given{environment: map[string]string{"CONFIG_FILE": "/nowhere"}}, "error opening config file"},
	} {
		if _, _, err := load(t, test.given); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%v does not say %q", err, test.words)
		}
	}
}

func TestNamesAndDevicesAreIgnoredWithAWarning(t *testing.T) {
	for _, test := range []struct {
		name, file, rename string
		warnings           int
	}{
		{"nothing to warn of", shared("{name: gpu, replicas: 2}"), "", 0},
		{"renamed by default", "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, replicas: 2}]}}", "nvidia.com/gpu.shared", 0},
		{"a name of one's own", shared("{name: gpu, replicas: 2, rename: nvidia.com/mine}"), "", 1},
		{"a name of one's own, renamed by default", "sharing: {mps: {renameByDefault: true, resources: [{name: gpu, replicas: 2, rename: mine}]}}", "nvidia.com/gpu.shared", 1},
		{"some devices", shared("{name: gpu, replicas: 2, devices: [0]}"), "", 1},
		{"resources", "resources: {gpus: [{pattern: '*', name: mine}]}\n" + shared("{name: gpu, replicas: 2}"), "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, warnings, err := load(t, given{file: test.file})
			if err != nil {
				t.Fatal(err)
			}
			resource := config.Sharing.Active().Resources[0]
			if resource.Name != "nvidia.com/gpu" || resource.Rename != test.rename || string(resource.Devices) != `"all"` || len(config.Resources.GPUs) != 0 {
				t.Errorf("%+v", resource)
			}
			if len(warnings) != test.warnings {
				t.Errorf("warned %q", warnings)
			}
		})
	}
}

func TestMPSNeverGivesMoreThanOne(t *testing.T) {
	config, _, err := load(t, given{file: "sharing: {mps: {failRequestsGreaterThanOne: false, resources: [{name: gpu, replicas: 2}]}}"})
	if err != nil || !config.Sharing.Active().FailRequestsGreaterThanOne {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	mps := "sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}"
	for _, test := range []struct {
		given   given
		library bool
		words   string
	}{
		{given{}, true, ""},
		{given{environment: map[string]string{"DEVICE_LIST_STRATEGY": "envvars"}}, true, "invalid --device-list-strategy option: invalid strategy: envvars"},
		{given{environment: map[string]string{"DEVICE_LIST_STRATEGY": ""}}, true, "no device list strategy specified"},
		{given{environment: map[string]string{"DEVICE_LIST_STRATEGY": "cdi-cri"}}, false, "only supported on NVML-based systems"},
		{given{environment: map[string]string{"DEVICE_LIST_STRATEGY": "cdi-cri", "DEVICE_DISCOVERY_STRATEGY": "tegra"}}, false, ""},
		{given{environment: map[string]string{"DEVICE_ID_STRATEGY": "name"}}, true, "invalid --device-id-strategy option: name"},
		{given{environment: map[string]string{"DEVICE_DISCOVERY_STRATEGY": "cdi"}}, true, "invalid --device-discovery-strategy option cdi"},
		{given{environment: map[string]string{"MIG_STRATEGY": "all"}}, true, "unknown MIG strategy: all"},
		{given{environment: map[string]string{"SHARED_DEVICES_ALLOCATION_POLICY": "spread"}}, true, "invalid --shared-devices-allocation-policy option: spread"},
		{given{file: mps}, true, "using MPS requires --mps-root to be specified"},
		{given{file: mps, environment: map[string]string{"MPS_ROOT": "/mps"}}, true, ""},
		{given{file: mps, environment: map[string]string{"MPS_ROOT": "/mps", "MIG_STRATEGY": "mixed"}}, true, "not supported with MPS"},
	} {
		config, _, err := load(t, test.given)
		if err != nil {
			t.Fatal(err)
		}
		if err = config.Check(test.library); (err == nil) != (test.words == "") || err != nil && !strings.Contains(err.Error(), test.words) {
			t.Errorf("%v does not say %q", err, test.words)
		}
	}
}
