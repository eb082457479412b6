// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package choice puts one of several configurations where the device plugin reads it.
package choice

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"k8s.io/klog/v2"
)

const (
	defaultLabel   = "nvidia.com/device-plugin.config"
	defaultProcess = "nvidia-device-plugin"
	defaultName    = "default"
	nothing        = "/dev/null"
)

// Settings are what environment and command line say.
type Settings struct {
	Oneshot    bool
	Kubeconfig string
	NodeName   string
	NodeLabel  string
	Source     string
	Target     string
	Default    string
	Fallbacks  string
	SendSignal bool
	Signal     int
	Process    string
}

// Parse reads them; the command line goes first. Empty numbers in the environment count as not given.
func Parse(arguments []string, lookup func(string) (string, bool)) (*Settings, error) {
	settings := &Settings{}
	set := flag.NewFlagSet("config-manager", flag.ContinueOnError)
	var problems error
	text := func(at *string, name, env, standard, usage string) {
		if value, found := lookup(env); found {
			standard = value
		}
		set.StringVar(at, name, standard, usage)
	}
	truth := func(at *bool, name, env string, standard bool, usage string) {
		if value, found := lookup(env); found {
			parsed, err := strconv.ParseBool(value)
			if err != nil && value != "" {
				problems = errors.Join(problems, fmt.Errorf("could not parse %q as bool value from environment variable %q for flag %s", value, env, name))
			}
			standard = parsed
		}
		set.BoolVar(at, name, standard, usage)
	}
	truth(&settings.Oneshot, "oneshot", "ONESHOT", false, "choose once, then end")
	text(&settings.Kubeconfig, "kubeconfig", "KUBECONFIG", "", "how to reach the cluster; empty: as a pod of it")
	text(&settings.NodeName, "node-name", "NODE_NAME", "", "the node whose label chooses")
	text(&settings.NodeLabel, "node-label", "NODE_LABEL", defaultLabel, "the label that chooses")
	text(&settings.Source, "config-file-srcdir", "CONFIG_FILE_SRCDIR", "", "the folder of the configurations")
	text(&settings.Target, "config-file-dst", "CONFIG_FILE_DST", "", "where the chosen one is linked")
	text(&settings.Default, "default-config", "DEFAULT_CONFIG", "", "the one for nodes without the label")
	text(&settings.Fallbacks, "fallback-strategies", "FALLBACK_STRATEGIES", "", "without a default: named, single, empty, separated by commas")
	truth(&settings.SendSignal, "send-signal", "SEND_SIGNAL", true, "tell the device plugin")
	number := int(syscall.SIGHUP)
	if value, _ := lookup("SIGNAL"); value != "" {
		var err error
		if number, err = strconv.Atoi(value); err != nil {
			problems = errors.Join(problems, fmt.Errorf("could not parse %q as int value from environment variable \"SIGNAL\" for flag signal", value))
		}
	}
	set.IntVar(&settings.Signal, "signal", number, "by which signal")
	text(&settings.Process, "process-to-signal", "PROCESS_TO_SIGNAL", defaultProcess, "the device plugin's process")
	if err := errors.Join(problems, set.Parse(arguments)); err != nil {
		return nil, err
	}
	for _, needed := range []struct{ name, value string }{
		{"node-name", settings.NodeName},
		{"node-label", settings.NodeLabel},
		{"config-file-srcdir", settings.Source},
		{"config-file-dst", settings.Target},
	} {
		if needed.value == "" {
			return nil, fmt.Errorf("invalid <%s>: must not be empty string", needed.name)
		}
	}
	return settings, nil
}

// Apply links the configuration that the label's value chooses, and tells the device plugin if it is another one than before.
func (settings *Settings) Apply(label string) error {
	name, err := settings.choose(label)
	if err != nil {
		return err
	}
	words := "config: " + name
	if name == "" {
		words = "empty config"
	}
	klog.Infof("Updating to %s", words)
	changed, err := settings.link(name)
	if err != nil {
		return err
	}
	if !changed {
		klog.Info("Already configured. Skipping update...")
		return nil
	}
	klog.Infof("Successfully updated to %s", words)
	if !settings.SendSignal {
		return nil
	}
	number := syscall.Signal(settings.Signal)
	klog.Infof("Sending signal '%s' to '%s'", number, settings.Process)
	process, err := find(settings.Process)
	if err != nil {
		return fmt.Errorf("error finding pid: %w", err)
	}
	if err := syscall.Kill(process, number); err != nil {
		return fmt.Errorf("error sending signal: %w", err)
	}
	klog.Info("Successfully sent signal")
	return nil
}

func (settings *Settings) choose(label string) (string, error) {
	names, err := available(settings.Source)
	if err != nil {
		return "", fmt.Errorf("error getting list of configuration files: error reading directory: %w", err)
	}
	if len(names) == 0 {
		return "", errors.New("no configuration files available")
	}
	if label == "" && settings.Default != "" {
		klog.Infof("No value set. Selecting default name: %v", settings.Default)
		label = settings.Default
	}
	if label != "" {
		if !slices.Contains(names, label) {
			return "", fmt.Errorf("specified config %v does not exist", label)
		}
		return label, nil
	}
	fallbacks := strings.FieldsFunc(settings.Fallbacks, func(letter rune) bool { return letter == ',' })
	klog.Infof("No value set and no default set. Attempting fallback strategies: %v", fallbacks)
	for _, fallback := range fallbacks {
		switch strings.TrimSpace(fallback) {
		case "named":
			if slices.Contains(names, defaultName) {
				return defaultName, nil
			}
			klog.Infof("No configuration named '%v' was found", defaultName)
		case "single":
			if len(names) == 1 {
				return names[0], nil
			}
			klog.Infof("More than one configuration was found: %v", names)
		case "empty":
			klog.Info("Falling back to an empty configuration")
			return "", nil
		default:
			return "", fmt.Errorf("unknown fallback strategy: %v", fallback)
		}
	}
	return "", errors.New("no config was set, no default was provided, and all fallbacks failed")
}

// available are the files of a mounted ConfigMap; names that begin with two dots are the mount's own.
func available(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if !entry.IsDir() && !strings.HasPrefix(entry.Name(), "..") {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// link says whether the target is another one than before.
func (settings *Settings) link(name string) (bool, error) {
	source := nothing
	if name != "" {
		source = filepath.Join(settings.Source, name)
	}
	if info, err := os.Stat(settings.Target); err == nil && !info.IsDir() {
		wanted, err := filepath.EvalSymlinks(source)
		if err != nil {
			return false, fmt.Errorf("error evaluating realpath of '%v': %w", source, err)
		}
		there, err := filepath.EvalSymlinks(settings.Target)
		if err != nil {
			return false, fmt.Errorf("error evaluating realpath of '%v': %w", settings.Target, err)
		}
		if wanted == there {
			return false, nil
		}
		if err := os.Remove(settings.Target); err != nil {
			return false, fmt.Errorf("error removing existing config: %w", err)
		}
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("error checking if file '%s' exists: %w", settings.Target, err)
	}
	if err := os.Symlink(source, settings.Target); err != nil {
		return false, fmt.Errorf("error creating symlink: %w", err)
	}
	return true, nil
}

// find looks for a process by the first word of its command line, among those of all containers of the pod.
func find(name string) (int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		// Processes end while one looks
		content, err := os.ReadFile(path)
		if first, _, _ := strings.Cut(string(content), "\x00"); err == nil && first == name {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, errors.New("no process found")
}
