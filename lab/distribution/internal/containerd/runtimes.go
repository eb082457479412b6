// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package containerd finds container runtimes on the host and writes containerd's configuration.
package containerd

import (
	"fmt"
	"os"
	"path/filepath"
)

// SearchFirst are folders that are searched before PATH, in this order.
var SearchFirst = []string{"/usr/local/nvidia/toolkit", "/opt/kwasm/bin"}

const runcName = "runc"

// Runtime is a container runtime that containerd can start by name.
type Runtime struct {
	Name   string
	Binary string
}

// known are the runtimes that are looked for.
var known = []Runtime{
	{"crun", "crun"},
	{"nvidia", "nvidia-container-runtime"},
	{"nvidia-cdi", "nvidia-container-runtime.cdi"},
	{"nvidia-experimental", "nvidia-container-runtime-experimental"},
}

// Detect looks the known runtimes up in first and then in the folders of path.
func Detect(first []string, path string) []Runtime {
	folders := append(append([]string{}, first...), filepath.SplitList(path)...)
	var found []Runtime
	for _, r := range known {
		if binary := lookUp(r.Binary, folders); binary != "" {
			found = append(found, Runtime{r.Name, binary})
		}
	}
	return found
}

func lookUp(name string, folders []string) string {
	for _, folder := range folders {
		if !filepath.IsAbs(folder) {
			continue
		}
		file := filepath.Join(folder, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// CheckDefault refuses a default runtime that is not there: pods would wait for it for ever.
func CheckDefault(name string, found []Runtime) error {
	if name == "" || name == runcName {
		return nil
	}
	for _, r := range found {
		if r.Name == name {
			return nil
		}
	}
	return fmt.Errorf("default runtime %s was not found", name)
}
