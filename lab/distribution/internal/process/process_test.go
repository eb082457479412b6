// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package process

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is the component, as the real binary is: its name says what to do.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case "blocks":
		fmt.Fprintln(os.Stdout, "up", os.Getpid(), strings.Join(os.Args[1:], " "), os.Getenv("PROCESS_TEST"))
		time.Sleep(time.Hour)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Fprintln(os.Stdout, "up", os.Getpid())
		time.Sleep(time.Hour)
	case "ends":
		fmt.Fprintln(os.Stdout, "up", os.Getpid())
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// component starts a component and returns what it prints, a line at each start.
func component(t *testing.T, g *Group, s Spec) *bufio.Reader {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	g.minDelay = time.Millisecond
	s.Log = w
	g.Start(s)
	return bufio.NewReader(r)
}

func nextStart(t *testing.T, r *bufio.Reader) (line string, pid int) {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(line, "up %d", &pid); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return strings.TrimSpace(line), pid
}

func TestStartAndStop(t *testing.T) {
	g := NewGroup()
	output := component(t, g, Spec{Name: "blocks", Args: []string{"--a=1"}, Env: []string{"PROCESS_TEST=here"}})
	line, pid := nextStart(t, output)
	if !strings.HasSuffix(line, "--a=1 here") {
		t.Errorf("started as %q", line)
	}
	g.Stop(10 * time.Second)
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("still there: %v", err)
	}
	if err := g.runOnce(Spec{Name: "blocks"}); err != errStopping {
		t.Errorf("a stopped group starts something: %v", err)
	}
}

func TestAComponentThatHeedsNoSignalIsKilled(t *testing.T) {
	g := NewGroup()
	_, pid := nextStart(t, component(t, g, Spec{Name: "deaf"}))
	g.Stop(time.Millisecond)
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("still there: %v", err)
	}
}

func TestAKilledComponentIsStartedAgain(t *testing.T) {
	g := NewGroup()
	defer g.Stop(10 * time.Second)
	output := component(t, g, Spec{Name: "blocks"})
	_, first := nextStart(t, output)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, second := nextStart(t, output); first == second {
		t.Errorf("%d again", first)
	}
}

func TestAComponentThatNeverRunsHasFailed(t *testing.T) {
	g := NewGroup()
	output := component(t, g, Spec{Name: "ends"})
	for range maxQuick {
		nextStart(t, output)
	}
	if err := <-g.Failed(); !strings.Contains(err.Error(), "ends ended 4 times in a row: exit status 3") {
		t.Errorf("got %v", err)
	}
	g.Stop(10 * time.Second)
}

func TestNextDelay(t *testing.T) {
	for _, tt := range []struct{ last, ran, want time.Duration }{
		{0, 0, time.Second},
		{time.Second, 0, 2 * time.Second},
		{4 * time.Second, time.Second, 8 * time.Second},
		{8 * time.Second, time.Second, maxDelay},
		{maxDelay, settledRun, time.Second},
	} {
		if got := nextDelay(time.Second, tt.last, tt.ran); got != tt.want {
			t.Errorf("after %s, having run %s: %s, want %s", tt.last, tt.ran, got, tt.want)
		}
	}
}
