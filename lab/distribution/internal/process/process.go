// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package process keeps components running: each is this binary again, started under the component's name.
package process

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	minDelay   = time.Second
	maxDelay   = 10 * time.Second
	settledRun = 30 * time.Second
	maxQuick   = 4
	killWait   = 2 * time.Second
)

// Spec describes a component.
type Spec struct {
	Name string
	Args []string
	Env  []string // in addition to the environment of this process
	Log  *os.File // nil: the journal of this process
}

// Group is a set of components that are stopped together.
type Group struct {
	mu       sync.Mutex
	stopping bool
	running  map[string]*os.Process
	stop     chan struct{}
	done     sync.WaitGroup
	minDelay time.Duration
	failed   chan error
}

// NewGroup makes an empty group.
func NewGroup() *Group {
	return &Group{running: map[string]*os.Process{}, stop: make(chan struct{}), minDelay: minDelay, failed: make(chan error, 1)}
}

// Failed tells of a component that ended quickly several times in a row: it would never run.
func (g *Group) Failed() <-chan error { return g.failed }

// Start runs the component and starts it again whenever it ends, until the group is stopped or the component has failed.
func (g *Group) Start(s Spec) {
	g.done.Add(1)
	go func() {
		defer g.done.Done()
		// The kernel sends Pdeathsig when the thread that forked ends, so this thread must live as long as the component.
		runtime.LockOSThread()
		var delay time.Duration
		quick := 0
		for {
			began := time.Now()
			err := g.runOnce(s)
			if errors.Is(err, errStopping) {
				return
			}
			ran := time.Since(began)
			if quick++; ran >= settledRun {
				quick = 1
			}
			if quick == maxQuick {
				select {
				case g.failed <- fmt.Errorf("%s ended %d times in a row: %w", s.Name, quick, err):
				default: // another one failed first
				}
				return
			}
			delay = nextDelay(g.minDelay, delay, ran)
			slog.Error("component ended, starting it again", "component", s.Name, "err", err, "after", delay)
			select {
			case <-g.stop:
				return
			case <-time.After(delay):
			}
		}
	}()
}

// nextDelay doubles the pause for a component that ends quickly again.
func nextDelay(first, last, ran time.Duration) time.Duration {
	if last == 0 || ran >= settledRun {
		return first
	}
	return min(2*last, maxDelay)
}

var errStopping = errors.New("stopping")

func (g *Group) runOnce(s Spec) error {
	cmd := exec.Command("/proc/self/exe", s.Args...)
	cmd.Args[0] = s.Name
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if s.Log != nil {
		cmd.Stdout, cmd.Stderr = s.Log, s.Log
	}
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	g.mu.Lock()
	if g.stopping {
		g.mu.Unlock()
		return errStopping
	}
	if err := cmd.Start(); err != nil {
		g.mu.Unlock()
		return fmt.Errorf("start: %w", err)
	}
	g.running[s.Name] = cmd.Process
	g.mu.Unlock()
	err := cmd.Wait()
	g.mu.Lock()
	delete(g.running, s.Name)
	stopping := g.stopping
	g.mu.Unlock()
	if stopping {
		return errStopping
	}
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Stop asks all components to end, kills those that are still there after grace, and waits for them.
func (g *Group) Stop(grace time.Duration) {
	g.mu.Lock()
	if !g.stopping {
		g.stopping = true
		close(g.stop)
	}
	g.signal(syscall.SIGTERM)
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		g.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-time.After(grace):
	}
	g.mu.Lock()
	g.signal(syscall.SIGKILL)
	g.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(killWait):
		slog.Warn("some components could not be killed")
	}
}

func (g *Group) signal(sig os.Signal) {
	for name, p := range g.running {
		if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			slog.Warn("signal", "component", name, "err", err)
		}
	}
}
