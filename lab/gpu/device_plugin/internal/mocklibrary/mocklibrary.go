// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package mocklibrary runs tests on the lab's mock of NVML.
package mocklibrary

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The checkout's root, from a package of this module
const checkout = "../../../../.."

// Build compiles the library, unless the environment names its folder, and gives it.
func Build() (string, error) {
	if folder := os.Getenv("MOCK_NVML_LIBRARY"); folder != "" {
		return folder, nil
	}
	command := exec.Command("python3", "-c", "from lab.gpu import build; print(build.build())")
	command.Dir = checkout
	command.Stderr = os.Stderr
	output, err := command.Output()
	return strings.TrimSpace(string(output)), err
}

// State is a state file with some GPUs of one kind.
type State struct {
	Path string

	lines map[string]string
	gpus  int
}

// UUID is that of a GPU.
func UUID(number int) string { return fmt.Sprintf("GPU-%08d-0000-4000-8000-000000000000", number) }

// NewState makes a file with so many GPUs.
func NewState(t *testing.T, product string, gpus int) *State {
	t.Helper()
	state := &State{Path: filepath.Join(t.TempDir(), "state"), gpus: gpus, lines: map[string]string{"driver": "580.95.05", "cuda": "13000"}}
	for number := range gpus {
		for key, value := range map[string]string{
			"name":               product,
			"memory_mib":         "12288",
			"compute_capability": "8.6",
			"pci_id":             "2504",
			"uuid":               UUID(number),
			"pci_address":        fmt.Sprintf("fffe:%02x:00.0", 1+number),
			"minor":              fmt.Sprint(number),
			"present":            "1",
		} {
			state.lines[fmt.Sprintf("gpu%d.%s", number, key)] = value
		}
	}
	state.write(t)
	return state
}

// Set changes lines of the file, all at once: key, value, key, value.
func (state *State) Set(t *testing.T, pairs ...any) {
	t.Helper()
	for index := 0; index < len(pairs); index += 2 {
		state.lines[fmt.Sprint(pairs[index])] = fmt.Sprint(pairs[index+1])
	}
	state.write(t)
}

// Xid lets the driver report an error of a GPU.
func (state *State) Xid(t *testing.T, gpu, xid int) {
	t.Helper()
	number := fmt.Sprintf("gpu%d.xid_number", gpu)
	var before int
	_, _ = fmt.Sscan(state.lines[number], &before)
	state.Set(t, fmt.Sprintf("gpu%d.xid", gpu), xid, number, before+1)
}

func (state *State) write(t *testing.T) {
	t.Helper()
	var content strings.Builder
	for key, value := range state.lines {
		content.WriteString(key + "=" + value + "\n")
	}
	if err := os.WriteFile(state.Path+".new", []byte(content.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(state.Path+".new", state.Path); err != nil {
		t.Fatal(err)
	}
}
