// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// ErrHelp is returned when help was asked for.
var ErrHelp = errors.New("help requested")

// Help lists the flags of a role.
func Help(role string) string {
	var names []string
	for name, o := range options {
		if o.role != "" && o.role != role {
			continue
		}
		line := "  --" + name
		if o.short != "" {
			line += ", -" + o.short
		}
		if o.env != "" {
			line += " [$" + o.env + "]"
		}
		if o.bind == nil {
			line += " (accepted without effect)"
		}
		names = append(names, line)
	}
	slices.Sort(names)
	return "Usage: k3s " + role + " [flags]\n\n  --config, -c [$K3S_CONFIG_FILE] (default " + DefaultFile + ")\n" + strings.Join(names, "\n") + "\n"
}

// parseArgs reads the command line. The configuration file is named separately because it is read first.
func parseArgs(role string, args []string) (values map[string][]string, file string, err error) {
	values = map[string][]string{}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") || arg == "-" || arg == "--" {
			return nil, "", fmt.Errorf("unexpected argument %q", arg)
		}
		if arg == "-h" || arg == "--help" {
			return nil, "", ErrHelp
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if name == "c" {
			name = "config"
		}
		name = longName(name)
		o, known := options[name]
		if name != "config" && (!known || o.role != "" && o.role != role) {
			return nil, "", fmt.Errorf("flag provided but not defined: -%s", name)
		}
		if !hasValue {
			switch {
			case o.kind == boolean:
				value = "true"
			case i+1 < len(args):
				i++
				value = args[i]
			default:
				return nil, "", fmt.Errorf("flag needs an argument: --%s", name)
			}
		}
		if name == "config" {
			file = value
			continue
		}
		values[name] = append(values[name], value)
	}
	return values, file, nil
}

func longName(name string) string {
	for long, o := range options {
		if o.short == name {
			return long
		}
	}
	return name
}

// readFiles merges the file and its drop-ins: the last value wins, "key+" appends.
func readFiles(file string, mustExist bool) (map[string][]string, error) {
	dropIns, err := filepath.Glob(filepath.Join(file+".d", "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("%s.d: %w", file, err)
	}
	more, err := filepath.Glob(filepath.Join(file+".d", "*.yml"))
	if err != nil {
		return nil, fmt.Errorf("%s.d: %w", file, err)
	}
	dropIns = append(dropIns, more...)
	slices.Sort(dropIns)
	merged := map[string][]string{}
	for i, path := range append([]string{file}, dropIns...) {
		b, err := os.ReadFile(path)
		if err != nil {
			if i == 0 && errors.Is(err, os.ErrNotExist) && (!mustExist || len(dropIns) > 0) {
				continue
			}
			return nil, fmt.Errorf("configuration: %w", err)
		}
		if err := merge(merged, b); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return merged, nil
}

func merge(into map[string][]string, document []byte) error {
	var raw map[string]any
	if err := yaml.Unmarshal(document, &raw); err != nil {
		return fmt.Errorf("not a YAML mapping of keys to values: %w", err)
	}
	keys := make([]string, 0, len(raw))
	for key := range raw {
		keys = append(keys, key)
	}
	slices.Sort(keys) // "key" sorts before "key+"
	for _, key := range keys {
		values, err := texts(raw[key])
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		name, isAppend := strings.CutSuffix(key, "+")
		name = longName(name)
		if isAppend {
			values = append(slices.Clone(into[name]), values...)
		}
		into[name] = values
	}
	return nil
}

func texts(value any) ([]string, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case []any:
		var all []string
		for _, item := range v {
			one, err := texts(item)
			if err != nil {
				return nil, err
			}
			all = append(all, one...)
		}
		return all, nil
	case map[string]any:
		return nil, errors.New("a mapping is not allowed here; use a value or a list of values")
	case float64:
		return []string{fmt.Sprintf("%g", v)}, nil
	default:
		return []string{fmt.Sprint(v)}, nil
	}
}
