// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package node runs a server or an agent from its start to its end.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	distribution "homelab.gpu/lab/distribution"
	"homelab.gpu/lab/distribution/internal/agent"
	"homelab.gpu/lab/distribution/internal/config"
	"homelab.gpu/lab/distribution/internal/host"
	"homelab.gpu/lab/distribution/internal/process"
	"homelab.gpu/lab/distribution/internal/server"
	"homelab.gpu/lab/distribution/internal/token"
	"homelab.gpu/lab/distribution/internal/version"
)

const (
	grace          = 3 * time.Second
	datastoreGrace = 5 * time.Second
	notifyVariable = "NOTIFY_SOCKET"
)

// Run runs a node until it is told to stop by a signal.
func Run(role string, args []string) error {
	c, err := config.Load(role, args, os.Getenv)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.Debug {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	for _, w := range c.Warnings {
		slog.Warn(w)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s must be run as root", role)
	}
	if err := c.Complete(); err != nil {
		return err
	}
	slog.Info("Starting "+version.Program, "role", role, "version", version.Kubernetes(), "revision", version.Revision, "node", c.NodeName, "address", c.NodeIP)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := host.Extract(distribution.Programs, "embed", c.DataDir, self, version.Revision); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return run(ctx, c)
}

func run(ctx context.Context, c *config.Config) error {
	notifier := newNotifier()
	components, datastore := process.NewGroup(), process.NewGroup()
	defer func() {
		components.Stop(grace)
		datastore.Stop(datastoreGrace)
	}()
	a := &agent.Agent{Config: c, Group: components, ServerURL: c.ServerURL, Local: c.Role == config.Server}
	ended := make(chan error, 2)
	ready := make(chan struct{})
	start := func(run func(context.Context) error, isReady bool) {
		go func() {
			err := run(ctx)
			if err == nil && isReady {
				close(ready)
			}
			ended <- err
		}()
	}
	// As on K3s, a server is ready with its API, an agent with its node.
	if c.Role == config.Server {
		s := &server.Server{Config: c, Group: components, Datastore: datastore}
		own, err := s.Prepare()
		if err != nil {
			return err
		}
		a.ServerURL, a.Token = server.URL(), own
		start(s.Start, true)
		start(a.Run, false)
	} else {
		t, err := token.Parse(c.Token, token.NodeUser)
		if err != nil {
			return fmt.Errorf("token: %w", err)
		}
		a.Token = t
		start(a.Run, true)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-components.Failed():
			return err
		case err := <-datastore.Failed():
			return err
		case <-ready:
			ready = nil
			if err := notifier.ready(); err != nil {
				slog.Warn("tell systemd", "err", err)
			}
			slog.Info(version.Program + " is up and running")
		case err := <-ended:
			if err != nil && ctx.Err() == nil {
				return err
			}
			debug.FreeOSMemory() // starting takes several times the memory that staying up does
		}
	}
}

// notifier keeps the components from telling systemd that they are ready: etcd and kube-apiserver would.
type notifier struct {
	socket string
}

func newNotifier() notifier {
	n := notifier{os.Getenv(notifyVariable)}
	_ = os.Unsetenv(notifyVariable)
	return n
}

func (n notifier) ready() error {
	if n.socket == "" {
		return nil
	}
	if err := os.Setenv(notifyVariable, n.socket); err != nil {
		return err
	}
	defer os.Unsetenv(notifyVariable)
	_, err := daemon.SdNotify(false, daemon.SdNotifyReady)
	return err
}
