// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package server

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"homelab.gpu/lab/distribution/internal/components"
	"homelab.gpu/lab/distribution/internal/config"
	"homelab.gpu/lab/distribution/internal/token"
)

func TestEnsureTokens(t *testing.T) {
	ca := []byte("ca")
	secure := func(user, password string) string { return token.Token{User: user, Password: password}.Secure(ca) }
	tests := map[string]struct {
		stored, configured, agent string
		wantToken, wantAgent      string
		wantErr                   string
	}{
		"short token":                        {configured: "a", wantToken: secure("server", "a"), wantAgent: secure("server", "a")},
		"secure token of this CA":            {configured: secure("server", "a"), wantToken: secure("server", "a"), wantAgent: secure("server", "a")},
		"secure token of another CA":         {configured: token.Token{User: "server", Password: "a"}.Secure([]byte("other")), wantErr: "does not match"},
		"same token again":                   {stored: secure("server", "a"), configured: "a", wantToken: secure("server", "a"), wantAgent: secure("server", "a")},
		"another token":                      {stored: secure("server", "a"), configured: "b", wantErr: "different token"},
		"no token keeps the stored one":      {stored: secure("server", "a"), wantToken: secure("server", "a"), wantAgent: secure("server", "a")},
		"agent token of its own":             {configured: "a", agent: "b", wantToken: secure("server", "a"), wantAgent: secure("node", "b")},
		"agent token in secure form":         {configured: "a", agent: secure("node", "b"), wantToken: secure("server", "a"), wantAgent: secure("node", "b")},
		"a stored token that is broken":      {stored: "K10x", wantErr: "CA hash"},
		"a stored token for which CA is new": {stored: token.Token{User: "server", Password: "a"}.Secure([]byte("old")), wantToken: secure("server", "a"), wantAgent: secure("server", "a")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.stored != "" {
				if err := os.WriteFile(filepath.Join(dir, "token"), []byte(tt.stored+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := ensureTokens(dir, tt.configured, tt.agent, ca)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want an error about %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for file, want := range map[string]string{"token": tt.wantToken, "node-token": tt.wantToken, "agent-token": tt.wantAgent} {
				got, err := token.ReadFile(filepath.Join(dir, file))
				if err != nil || got != want {
					t.Errorf("%s: got %q, %v; want %q", file, got, err, want)
				}
				if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
				}
			}
		})
	}
}

func TestAMadeTokenStays(t *testing.T) {
	dir := t.TempDir()
	first, err := ensureTokens(dir, "", "", []byte("ca"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := ensureTokens(dir, "", "", []byte("ca"))
	if err != nil || first.Password != second.Password || first.Password == "" {
		t.Errorf("%v, then %v, %v", first, second, err)
	}
}

func prepare(t *testing.T, dir string) *Server {
	t.Helper()
	s := &Server{Config: &config.Config{
		Role: config.Server, DataDir: dir, NodeName: "n", NodeIP: "192.0.2.1", AdvertiseAddress: "192.0.2.1", KubeconfigPath: filepath.Join(dir, "k3s.yaml"), KubeconfigMode: 0o600,
		ClusterCIDR: "10.42.0.0/16", ServiceCIDR: "10.43.0.0/16", ClusterDNS: "10.43.0.10", ClusterDomain: "cluster.local", LocalStoragePath: dir + "/storage", Token: "x",
		Disable: []string{"metrics-server"}, DisableNetworkPolicy: true, APIServerArgs: []string{"v=2"},
	}}
	if _, err := s.Prepare(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPrepareMakesTheFilesOfK3s(t *testing.T) {
	dir := t.TempDir()
	prepare(t, dir)
	for file, mode := range map[string]os.FileMode{
		"k3s.yaml": 0o600, "server": 0o700 | os.ModeDir, "server/tls": 0o700 | os.ModeDir, "server/cred": 0o700 | os.ModeDir,
		"server/token": 0o600, "server/node-token": 0o600, "server/agent-token": 0o600,
		"server/tls/server-ca.crt": 0o644, "server/tls/server-ca.key": 0o600, "server/tls/client-ca.crt": 0o644, "server/tls/client-ca.key": 0o600,
		"server/tls/request-header-ca.crt": 0o644, "server/tls/service.key": 0o600, "server/tls/client-admin.key": 0o600,
		"server/tls/serving-kube-apiserver.crt": 0o644, "server/tls/serving-kube-apiserver.key": 0o600,
		"server/cred/admin.kubeconfig": 0o600, "server/cred/controller.kubeconfig": 0o600, "server/cred/scheduler.kubeconfig": 0o600,
		"server/manifests/coredns.yaml": 0o600, "server/manifests/local-storage.yaml": 0o600, "server/manifests/rolebindings.yaml": 0o600, "server/manifests/runtimes.yaml": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v; want %v", file, info, mode)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "server/manifests/metrics-server.yaml")); err == nil {
		t.Error("a disabled manifest is there")
	}
	text, err := os.ReadFile(filepath.Join(dir, "k3s.yaml"))
	if err != nil || !strings.Contains(string(text), "server: https://127.0.0.1:6443\n") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestNodesLearnWhetherPoliciesAreEnforced(t *testing.T) {
	dir := t.TempDir()
	s := prepare(t, dir)
	b, err := os.ReadFile(s.supervisorSettings())
	if err != nil {
		t.Fatal(err)
	}
	var settings components.SupervisorSettings
	if err := json.Unmarshal(b, &settings); err != nil || !settings.Cluster.DisableNetworkPolicy {
		t.Errorf("%s, %v", b, err)
	}
}

func TestASecondStartChangesNoFile(t *testing.T) {
	dir := t.TempDir()
	read := func() map[string]string {
		all := map[string]string{}
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				var b []byte
				b, err = os.ReadFile(path)
				all[path] = info.ModTime().String() + string(b)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	prepare(t, dir)
	before := read()
	prepare(t, dir)
	for path, text := range read() {
		if before[path] != text {
			t.Errorf("%s changed", path)
		}
	}
}

func TestArguments(t *testing.T) {
	s := prepare(t, t.TempDir())
	args := s.apiServerArgs()
	if args[len(args)-1] != "--v=2" {
		t.Errorf("the user's arguments come last: %v", args)
	}
	for _, arg := range append(append(append(args, s.etcdArgs()...), s.controllerManagerArgs()...), s.schedulerArgs()...) {
		if strings.Contains(arg, "::") || strings.Contains(arg, "token=") {
			t.Errorf("a secret on a command line: %s", arg)
		}
	}
}
