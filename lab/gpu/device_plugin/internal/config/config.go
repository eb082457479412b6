// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package config holds what the device plugin is told: by its file, its environment and its command line.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const version = "v1"

// Config is one configuration, in the file's own spelling.
type Config struct {
	Version   string    `json:"version"`
	Flags     Flags     `json:"flags"`
	Resources Resources `json:"resources"`
	Sharing   Sharing   `json:"sharing"`
}

// Flags are the settings that can also be given by environment and command line. Nil: not said.
type Flags struct {
	MigStrategy             *string     `json:"migStrategy"`
	FailOnInitError         *bool       `json:"failOnInitError"`
	MpsRoot                 *string     `json:"mpsRoot,omitempty"`
	NvidiaDriverRoot        *string     `json:"nvidiaDriverRoot,omitempty"`
	NvidiaDevRoot           *string     `json:"nvidiaDevRoot,omitempty"`
	GDRCopyEnabled          *bool       `json:"gdrcopyEnabled"`
	GDSEnabled              *bool       `json:"gdsEnabled"`
	MOFEDEnabled            *bool       `json:"mofedEnabled"`
	DeviceDiscoveryStrategy *string     `json:"deviceDiscoveryStrategy"`
	Plugin                  PluginFlags `json:"plugin"`
}

// PluginFlags are those that NVIDIA's feature discovery, which reads the same file, does not share.
type PluginFlags struct {
	PassDeviceSpecs               *bool   `json:"passDeviceSpecs"`
	DeviceListStrategy            *Words  `json:"deviceListStrategy"`
	DeviceIDStrategy              *string `json:"deviceIDStrategy"`
	CDIAnnotationPrefix           *string `json:"cdiAnnotationPrefix"`
	NvidiaCTKPath                 *string `json:"nvidiaCTKPath"`
	ContainerDriverRoot           *string `json:"containerDriverRoot"`
	SharedDevicesAllocationPolicy *string `json:"sharedDevicesAllocationPolicy"`
}

// Words is a list that may be written as one word.
type Words []string

// UnmarshalJSON takes both spellings.
func (words *Words) UnmarshalJSON(content []byte) error {
	var one string
	if json.Unmarshal(content, &one) == nil {
		*words = split(one)
		return nil
	}
	return json.Unmarshal(content, (*[]string)(words))
}

// Resources would give GPUs other names; the plugin takes no notice.
type Resources struct {
	GPUs []any `json:"gpus,omitempty"`
	MIGs []any `json:"mig,omitempty"`
}

// DeviceListStrategies are the ways in which a container can be told its devices.
var DeviceListStrategies = []string{"envvar", "volume-mounts", "cdi-annotations", "cdi-cri"}

// Load reads the file that the options name, if any, and lets environment and command line go first.
func Load(options *Options, warn func(format string, args ...any)) (*Config, error) {
	config := &Config{Version: version}
	if path := options.ConfigFile(); path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("unable to finalize config: unable to parse config file: error opening config file: %w", err)
		}
		if config, err = Parse(content); err != nil {
			return nil, fmt.Errorf("unable to finalize config: unable to parse config file: error parsing config file: %w", err)
		}
	}
	if err := options.settle(&config.Flags); err != nil {
		return nil, fmt.Errorf("unable to finalize config: %w", err)
	}
	if *config.Flags.NvidiaDevRoot == "" {
		config.Flags.NvidiaDevRoot = config.Flags.NvidiaDriverRoot
	}
	if config.Sharing.MPS != nil {
		config.Sharing.MPS.FailRequestsGreaterThanOne = true
	}
	config.ignoreNames(warn)
	return config, nil
}

// Parse reads a file's content. Keys that it does not know are passed over in silence.
func Parse(content []byte) (*Config, error) {
	var config Config
	if err := yaml.Unmarshal(content, &config); err != nil {
		return nil, fmt.Errorf("unmarshal error: %w", err)
	}
	if config.Version == "" {
		config.Version = version
	}
	if config.Version != version {
		return nil, fmt.Errorf("unknown version: %v", config.Version)
	}
	if config.Sharing.MPS != nil && config.Sharing.TimeSlicing != nil {
		return nil, errors.New("sharing.timeSlicing and sharing.mps cannot be used together")
	}
	return &config, nil
}

func (config *Config) ignoreNames(warn func(format string, args ...any)) {
	if len(config.Resources.GPUs)+len(config.Resources.MIGs) > 0 {
		warn("Customizing the 'resources' field is not yet supported in the config. Ignoring...")
		config.Resources = Resources{}
	}
	config.Sharing.TimeSlicing.ignoreNames("timeSlicing", warn)
	config.Sharing.MPS.ignoreNames("mps", warn)
}

// Check tells what cannot be right.
func (config *Config) Check(hasNVML bool) error {
	flags, plugin := config.Flags, config.Flags.Plugin
	strategies := *plugin.DeviceListStrategy
	if len(strategies) == 0 {
		return fmt.Errorf("invalid --device-list-strategy option: no device list strategy specified; at least one of %v is required", DeviceListStrategies)
	}
	for _, strategy := range strategies {
		if !slices.Contains(DeviceListStrategies, strategy) {
			return fmt.Errorf("invalid --device-list-strategy option: invalid strategy: %v", strategy)
		}
	}
	if strategies.AnyCDI() && !hasNVML && *flags.DeviceDiscoveryStrategy != "tegra" {
		return errors.New("CDI --device-list-strategy options are only supported on NVML-based systems")
	}
	if strategy := *plugin.DeviceIDStrategy; strategy != "uuid" && strategy != "index" {
		return fmt.Errorf("invalid --device-id-strategy option: %v", strategy)
	}
	if config.Sharing.MPS != nil {
		if *flags.MigStrategy == "mixed" {
			return errors.New("using --mig-strategy=mixed is not supported with MPS")
		}
		if *flags.MpsRoot == "" {
			return errors.New("using MPS requires --mps-root to be specified")
		}
	}
	if strategy := *flags.DeviceDiscoveryStrategy; !slices.Contains([]string{"auto", "nvml", "tegra"}, strategy) {
		return fmt.Errorf("invalid --device-discovery-strategy option %v", strategy)
	}
	if strategy := *flags.MigStrategy; !slices.Contains([]string{"none", "single", "mixed"}, strategy) {
		return fmt.Errorf("unknown MIG strategy: %v", strategy)
	}
	if policy := *plugin.SharedDevicesAllocationPolicy; policy != "distributed" && policy != "packed" {
		return fmt.Errorf("invalid --shared-devices-allocation-policy option: %v", policy)
	}
	return nil
}

// AnyCDI says whether one of the strategies names devices for CDI.
func (words Words) AnyCDI() bool {
	return slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(word, "cdi-") })
}

// OnlyCDI says whether all of them do.
func (words Words) OnlyCDI() bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.HasPrefix(word, "cdi-") })
}
