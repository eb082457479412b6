// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// The lab distribution: upstream Kubernetes behind those parts of K3s' command line, files and ports that roles for K3s use.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"homelab.gpu/lab/distribution/internal/components"
	"homelab.gpu/lab/distribution/internal/config"
	"homelab.gpu/lab/distribution/internal/containerd"
	"homelab.gpu/lab/distribution/internal/node"
	"homelab.gpu/lab/distribution/internal/version"
)

const usage = `Usage: k3s COMMAND [arguments]

  server      run a control plane and a node
  agent       run a node that joins a server
  kubectl     run kubectl against this server
  ctr         run containerd's client
  --version   say what this is

This is the lab distribution, not K3s: see lab/distribution/README.md.
`

func main() {
	os.Exit(run())
}

func run() int {
	name := filepath.Base(os.Args[0])
	component, found := components.Lookup(name)
	if !found {
		if len(os.Args) < 2 {
			fmt.Fprint(os.Stderr, usage)
			return 2
		}
		name = os.Args[1]
		os.Args = os.Args[1:]
		if slices.Contains([]string{components.Kubectl, components.Ctr}, name) {
			component, found = components.Lookup(name)
		}
	}
	if found {
		return runComponent(name, component)
	}
	switch name {
	case config.Server, config.Agent:
		err := node.Run(name, os.Args[1:])
		if errors.Is(err, config.ErrHelp) {
			fmt.Print(config.Help(name))
			return 0
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "level=fatal msg=%q\n", err.Error())
			return 1
		}
		return 0
	case "--version", "-v":
		fmt.Print(version.Text())
		return 0
	case "help", "--help", "-h":
		fmt.Print(usage)
		return 0
	}
	fmt.Fprintf(os.Stderr, "No help topic for '%s'\n", name)
	return 3
}

func runComponent(name string, component components.Main) int {
	// Children are started as /proc/self/exe: without this they would all be called "exe".
	comm, err := unix.BytePtrFromString(name)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(comm)), 0, 0, 0)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: set the process name: %v\n", name, err)
	}
	for _, d := range defaults[name] {
		if _, set := os.LookupEnv(d.name); !set && d.applies() {
			if err := os.Setenv(d.name, d.value); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", d.name, err)
				return 1
			}
		}
	}
	return component()
}

var defaults = map[string][]struct {
	name, value string
	applies     func() bool
}{
	components.Kubectl: {{"KUBECONFIG", config.DefaultKubeconfig, func() bool { return readable(config.DefaultKubeconfig) }}},
	components.Ctr: {
		{"CONTAINERD_ADDRESS", containerd.Socket, always},
		{"CONTAINERD_NAMESPACE", "k8s.io", always},
	},
}

func always() bool { return true }

func readable(path string) bool { return unix.Access(path, unix.R_OK) == nil }
