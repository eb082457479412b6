// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// option is one setting: on the command line, in the environment and, unless it is the process' own, in the file.
type option struct {
	names    []string
	envs     []string
	standard string
	usage    string
	bool     bool
	repeats  bool
	place    func(flags *Flags) place
}

// place is where a setting lies in Flags.
type place struct {
	empty bool
	set   func(text string) error
}

func text(at **string) place {
	return place{*at == nil, func(text string) error { *at = &text; return nil }}
}

func truth(at **bool) place {
	return place{*at == nil, func(text string) error {
		value := false
		if text != "" {
			var err error
			if value, err = strconv.ParseBool(text); err != nil {
				return fmt.Errorf("could not parse %q as bool value", text)
			}
		}
		*at = &value
		return nil
	}}
}

func words(at **Words) place {
	return place{*at == nil, func(text string) error { list := Words(split(text)); *at = &list; return nil }}
}

func split(text string) []string {
	list := []string{}
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list = append(list, word)
		}
	}
	return list
}

const (
	configFile    = "config-file"
	kubeletSocket = "kubelet-socket"
)

var options = []option{
	{names: []string{configFile}, envs: []string{"CONFIG_FILE"}, usage: "a file with these settings"},
	{names: []string{kubeletSocket}, envs: []string{"KUBELET_SOCKET"}, standard: pluginapi.KubeletSocket, usage: "the kubelet's socket; its folder takes the plugin's own; empty: register nowhere"},
	{names: []string{"mig-strategy"}, envs: []string{"MIG_STRATEGY"}, standard: "none", usage: "none, single or mixed", place: func(flags *Flags) place { return text(&flags.MigStrategy) }},
	{names: []string{"fail-on-init-error"}, envs: []string{"FAIL_ON_INIT_ERROR"}, standard: "true", usage: "end if the driver cannot be used, else wait for ever", bool: true, place: func(flags *Flags) place { return truth(&flags.FailOnInitError) }},
	{names: []string{"driver-root", "nvidia-driver-root"}, envs: []string{"NVIDIA_DRIVER_ROOT"}, standard: "/", usage: "the driver's root on the host", place: func(flags *Flags) place { return text(&flags.NvidiaDriverRoot) }},
	{names: []string{"dev-root", "nvidia-dev-root"}, envs: []string{"NVIDIA_DEV_ROOT"}, usage: "the root of the device nodes on the host", place: func(flags *Flags) place { return text(&flags.NvidiaDevRoot) }},
	{names: []string{"pass-device-specs"}, envs: []string{"PASS_DEVICE_SPECS"}, standard: "false", usage: "answer with device nodes, too", bool: true, place: func(flags *Flags) place { return truth(&flags.Plugin.PassDeviceSpecs) }},
	{names: []string{"device-list-strategy"}, envs: []string{"DEVICE_LIST_STRATEGY"}, standard: "envvar", repeats: true, usage: "how the runtime is told the devices: " + strings.Join(DeviceListStrategies, ", "), place: func(flags *Flags) place { return words(&flags.Plugin.DeviceListStrategy) }},
	{names: []string{"device-id-strategy"}, envs: []string{"DEVICE_ID_STRATEGY"}, standard: "uuid", usage: "uuid or index", place: func(flags *Flags) place { return text(&flags.Plugin.DeviceIDStrategy) }},
	{names: []string{"gdrcopy-enabled"}, envs: []string{"GDRCOPY_ENABLED"}, standard: "false", usage: "ask for GDRCopy", bool: true, place: func(flags *Flags) place { return truth(&flags.GDRCopyEnabled) }},
	{names: []string{"gds-enabled"}, envs: []string{"GDS_ENABLED"}, standard: "false", usage: "ask for GPUDirect Storage", bool: true, place: func(flags *Flags) place { return truth(&flags.GDSEnabled) }},
	{names: []string{"mofed-enabled"}, envs: []string{"MOFED_ENABLED"}, standard: "false", usage: "ask for MOFED", bool: true, place: func(flags *Flags) place { return truth(&flags.MOFEDEnabled) }},
	{names: []string{"cdi-annotation-prefix"}, envs: []string{"CDI_ANNOTATION_PREFIX"}, standard: "cdi.k8s.io/", usage: "the prefix of annotations for CDI", place: func(flags *Flags) place { return text(&flags.Plugin.CDIAnnotationPrefix) }},
	{names: []string{"nvidia-cdi-hook-path", "nvidia-ctk-path"}, envs: []string{"NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"}, standard: "/usr/bin/nvidia-ctk", usage: "the hooks' program on the host", place: func(flags *Flags) place { return text(&flags.Plugin.NvidiaCTKPath) }},
	{names: []string{"driver-root-ctr-path", "container-driver-root"}, envs: []string{"DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"}, standard: "/driver-root", usage: "the driver's root in the container", place: func(flags *Flags) place { return text(&flags.Plugin.ContainerDriverRoot) }},
	{names: []string{"mps-root"}, envs: []string{"MPS_ROOT"}, usage: "the folder of MPS on the host", place: func(flags *Flags) place { return text(&flags.MpsRoot) }},
	{names: []string{"device-discovery-strategy"}, envs: []string{"DEVICE_DISCOVERY_STRATEGY"}, standard: "auto", usage: "auto, nvml or tegra", place: func(flags *Flags) place { return text(&flags.DeviceDiscoveryStrategy) }},
	{names: []string{"shared-devices-allocation-policy"}, envs: []string{"SHARED_DEVICES_ALLOCATION_POLICY"}, standard: "distributed", usage: "distributed or packed", place: func(flags *Flags) place { return text(&flags.Plugin.SharedDevicesAllocationPolicy) }},
}

// Options are what command line and environment say; the first go before the second.
type Options struct {
	given map[string]string
}

// ParseOptions reads them. Environment variables that are set to nothing count as set.
func ParseOptions(arguments []string, lookup func(string) (string, bool)) (*Options, error) {
	parsed := &Options{given: map[string]string{}}
	set := flag.NewFlagSet(filepath.Base(os.Args[0]), flag.ContinueOnError)
	for _, option := range options {
		for _, env := range option.envs {
			if value, found := lookup(env); found {
				parsed.given[option.names[0]] = value
				break
			}
		}
		onCommandLine := false
		take := func(value string) error {
			if option.repeats && onCommandLine {
				value = parsed.given[option.names[0]] + "," + value
			}
			onCommandLine = true
			parsed.given[option.names[0]] = value
			return nil
		}
		for _, name := range option.names {
			if option.bool {
				set.BoolFunc(name, option.usage, take)
			} else {
				set.Func(name, option.usage, take)
			}
		}
	}
	if err := set.Parse(arguments); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	return parsed, nil
}

func (given *Options) value(name string) string {
	if value, found := given.given[name]; found {
		return value
	}
	for _, option := range options {
		if option.names[0] == name {
			return option.standard
		}
	}
	return ""
}

// ConfigFile is the file's path, or nothing.
func (given *Options) ConfigFile() string { return given.value(configFile) }

// KubeletSocket is where to register, or nothing.
func (given *Options) KubeletSocket() string { return given.value(kubeletSocket) }

// settle fills in what the file leaves open, and puts what was given in place of what the file says.
func (given *Options) settle(flags *Flags) error {
	for _, option := range options {
		if option.place == nil {
			continue
		}
		place, value := option.place(flags), option.standard
		said, found := given.given[option.names[0]]
		if found {
			value = said
		} else if !place.empty {
			continue
		}
		if err := place.set(value); err != nil {
			return fmt.Errorf("invalid value for --%s: %w", option.names[0], err)
		}
	}
	return nil
}
