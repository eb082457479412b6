// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	resourcePrefix      = "nvidia.com/"
	longestName         = 63
	sharedSuffix        = ".shared"
	allDevices          = `"all"`
	uuidPattern         = `[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`
	deviceNamePattern   = `^([0-9]+(:[0-9]+)?|(MIG-|GPU-)` + uuidPattern + `|MIG-GPU-` + uuidPattern + `/[0-9]+/[0-9]+)$`
	resourceNamePattern = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
)

var (
	deviceName   = regexp.MustCompile(deviceNamePattern)
	resourceName = regexp.MustCompile(resourceNamePattern)
)

// Sharing says which resources are given to several containers at once, and by what means.
type Sharing struct {
	TimeSlicing *Replicated `json:"timeSlicing,omitempty"`
	MPS         *Replicated `json:"mps,omitempty"`
}

// Replicated is what both means of sharing are told.
type Replicated struct {
	RenameByDefault            bool       `json:"renameByDefault,omitempty"`
	FailRequestsGreaterThanOne bool       `json:"failRequestsGreaterThanOne,omitempty"`
	Resources                  []Resource `json:"resources"`
}

// Resource is one resource and how many of it each device becomes.
type Resource struct {
	Name     string          `json:"name"`
	Rename   string          `json:"rename,omitempty"`
	Devices  json.RawMessage `json:"devices"`
	Replicas int             `json:"replicas"`
}

// Active is the sharing in force, or nil.
func (sharing *Sharing) Active() *Replicated {
	if sharing.MPS != nil {
		return sharing.MPS
	}
	return sharing.TimeSlicing
}

// UnmarshalJSON refuses what has no resources.
func (replicated *Replicated) UnmarshalJSON(content []byte) error {
	type plain Replicated
	if err := json.Unmarshal(content, (*plain)(replicated)); err != nil {
		return err
	}
	if len(replicated.Resources) == 0 {
		return errors.New("no resources specified")
	}
	for index := range replicated.Resources {
		if resource := &replicated.Resources[index]; replicated.RenameByDefault && resource.Rename == "" {
			resource.Rename = resource.Name + sharedSuffix
		}
	}
	return nil
}

// UnmarshalJSON refuses resources that lack something or have one replica only.
func (resource *Resource) UnmarshalJSON(content []byte) error {
	var given struct {
		Name     *string         `json:"name"`
		Rename   *string         `json:"rename"`
		Devices  json.RawMessage `json:"devices"`
		Replicas *int            `json:"replicas"`
	}
	if err := json.Unmarshal(content, &given); err != nil {
		return err
	}
	if given.Name == nil {
		return errors.New("no resource name specified")
	}
	var err error
	if resource.Name, err = fullName(*given.Name); err != nil {
		return err
	}
	resource.Devices = given.Devices
	if len(given.Devices) == 0 {
		resource.Devices = json.RawMessage(allDevices)
	}
	if err := checkDevices(resource.Devices); err != nil {
		return err
	}
	if given.Replicas == nil {
		return errors.New("no replicas specified")
	}
	if resource.Replicas = *given.Replicas; resource.Replicas < 2 {
		return errors.New("number of replicas must be >= 2")
	}
	if given.Rename != nil {
		resource.Rename, err = fullName(*given.Rename)
	}
	return err
}

func fullName(name string) (string, error) {
	if !strings.HasPrefix(name, resourcePrefix) {
		name = resourcePrefix + name
	}
	if len(name) > longestName {
		return "", fmt.Errorf("fully-qualified resource name must be %v characters or less: %v", longestName, name)
	}
	if !resourceName.MatchString(strings.TrimPrefix(name, resourcePrefix)) {
		return "", fmt.Errorf("incorrect format for resource name '%v'", name)
	}
	return name, nil
}

// checkDevices: all, a number, or a list of indices and UUIDs.
func checkDevices(content json.RawMessage) error {
	var word string
	if json.Unmarshal(content, &word) == nil {
		if word != "all" {
			return fmt.Errorf("devices set as '%v' but the only valid string input is 'all'", word)
		}
		return nil
	}
	var count int
	if json.Unmarshal(content, &count) == nil {
		if count <= 0 {
			return fmt.Errorf("devices set as '%v' but a count of devices must be > 0", count)
		}
		return nil
	}
	var items []any
	if json.Unmarshal(content, &items) != nil {
		return fmt.Errorf("unrecognized type for devices spec: %s", content)
	}
	for _, item := range items {
		if number, ok := item.(float64); ok {
			item = strconv.FormatFloat(number, 'f', -1, 64)
		}
		if text, ok := item.(string); !ok || !deviceName.MatchString(text) {
			return fmt.Errorf("unsupported type for device in devices list: %v, %T", item, item)
		}
	}
	return nil
}

func (replicated *Replicated) ignoreNames(key string, warn func(format string, args ...any)) {
	if replicated == nil {
		return
	}
	renamed, chosen := false, false
	for index := range replicated.Resources {
		resource := &replicated.Resources[index]
		standard := ""
		if replicated.RenameByDefault {
			standard = resource.Name + sharedSuffix
		}
		renamed = renamed || resource.Rename != standard
		chosen = chosen || string(resource.Devices) != allDevices
		resource.Rename, resource.Devices = standard, json.RawMessage(allDevices)
	}
	if renamed {
		warn("Setting the 'rename' field in sharing.%s.resources is not yet supported in the config. Ignoring...", key)
	}
	if chosen {
		warn("Customizing the 'devices' field in sharing.%s.resources is not yet supported in the config. Ignoring...", key)
	}
}
