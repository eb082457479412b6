// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package netpol

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
)

const (
	destroyTries = 10
	destroyPause = 100 * time.Millisecond
)

// Kernel is the packet filter of the node.
type Kernel struct {
	iptables utiliptables.Interface
	// ipset runs the program with this input
	ipset func(input []byte, args ...string) ([]byte, error)
}

// NewKernel is the packet filter of the host.
func NewKernel() *Kernel {
	return &Kernel{iptables: utiliptables.New(utiliptables.ProtocolIPv4), ipset: runIPSet}
}

func runIPSet(input []byte, args ...string) ([]byte, error) {
	cmd := exec.Command("ipset", args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// Apply makes the rules hold, all at once: sets never change, so that only iptables' transaction counts. After an error those from before still hold.
func (k *Kernel) Apply(r Rules) error {
	if len(r.Sets) > 0 {
		if _, err := k.ipset(renderSets(r), "-exist", "restore"); err != nil {
			return fmt.Errorf("ipset restore: %w", err)
		}
	}
	saved, err := k.saved()
	if err != nil {
		return err
	}
	if err := k.restore(renderFilter(r, saved)); err != nil {
		return err
	}
	// The kernel lets go of a set some time after the last rule; what is in use yet is left to the next time
	_, err = k.destroyExcept(r)
	if errors.Is(err, exec.ErrNotFound) && len(r.Sets) == 0 {
		return nil
	}
	return err
}

// Remove leaves nothing of what Apply has made.
func (k *Kernel) Remove() error {
	saved, err := k.saved()
	if err != nil {
		return err
	}
	if removal := renderRemoval(saved); removal != nil {
		if err := k.restore(removal); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		left, err := k.destroyExcept(Rules{})
		if errors.Is(err, exec.ErrNotFound) {
			return nil // whoever has no ipset has no sets
		}
		if err != nil || len(left) == 0 {
			return err
		}
		if try == destroyTries {
			return fmt.Errorf("ipset: still in use: %s", strings.Join(left, ", "))
		}
		time.Sleep(destroyPause)
	}
}

func (k *Kernel) saved() (string, error) {
	var saved bytes.Buffer
	if err := k.iptables.SaveInto(utiliptables.TableFilter, &saved); err != nil {
		return "", fmt.Errorf("iptables-save: %w", err)
	}
	return saved.String(), nil
}

func (k *Kernel) restore(data []byte) error {
	if err := k.iptables.RestoreAll(data, utiliptables.NoFlushTables, utiliptables.NoRestoreCounters); err != nil {
		return fmt.Errorf("iptables-restore: %w", err)
	}
	return nil
}

// destroyExcept removes the sets that the rules do not use and returns those that could not be.
func (k *Kernel) destroyExcept(r Rules) (left []string, err error) {
	names, err := k.ipset(nil, "list", "-name")
	if err != nil {
		return nil, fmt.Errorf("ipset list: %w", err)
	}
	for _, name := range strings.Fields(string(names)) {
		if _, used := r.Sets[name]; used || !strings.HasPrefix(name, setPrefix) {
			continue
		}
		if _, err := k.ipset(nil, "destroy", name); err != nil {
			left = append(left, name)
		}
	}
	return left, nil
}
