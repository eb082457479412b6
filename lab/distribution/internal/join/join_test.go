// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package join

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"homelab.gpu/lab/distribution/internal/pki"
	"homelab.gpu/lab/distribution/internal/supervisor"
	"homelab.gpu/lab/distribution/internal/token"
)

type anyPassword struct{}

func (anyPassword) Ensure(context.Context, string, string) error { return nil }

// server is a supervisor whose serving certificate is its own CA; asked notes the paths that came with a token.
type server struct {
	*httptest.Server
	ca    []byte
	mu    sync.Mutex
	asked []string
}

func newServer(t *testing.T, password string) *server {
	t.Helper()
	dir := t.TempDir()
	if _, err := pki.EnsureCA(filepath.Join(dir, "server/tls/client-ca"), "client-ca"); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.EnsureCA(filepath.Join(dir, "server/tls/server-ca"), "server-ca"); err != nil {
		t.Fatal(err)
	}
	s := &server{}
	handler := (&supervisor.Supervisor{DataDir: dir, Config: supervisor.ClusterConfig{ServiceCIDR: "10.43.0.0/16"}, Passwords: anyPassword{}}).Wrap(http.NotFoundHandler())
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			s.mu.Lock()
			s.asked = append(s.asked, r.URL.Path)
			s.mu.Unlock()
		}
		if r.URL.Path == "/cacerts" {
			_, _ = w.Write(s.ca)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	text := token.Token{User: token.ServerUser, Password: password}.Secure(s.ca)
	for _, name := range []string{"token", "agent-token"} {
		if err := os.WriteFile(filepath.Join(dir, "server", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestJoin(t *testing.T) {
	s := newServer(t, "secret")
	hash := token.HashCA(s.ca)
	tests := map[string]struct {
		token    token.Token
		wantErr  string
		noSecret bool // the token must not have been sent
	}{
		"short token":          {token: token.Token{User: "node", Password: "secret"}},
		"secure token":         {token: token.Token{CAHash: hash, User: "server", Password: "secret"}},
		"wrong short token":    {token: token.Token{User: "node", Password: "wrong"}, wantErr: "401 Unauthorized"},
		"wrong secure token":   {token: token.Token{CAHash: hash, User: "server", Password: "wrong"}, wantErr: "401 Unauthorized"},
		"token of another CA":  {token: token.Token{CAHash: strings.Repeat("0", 64), User: "server", Password: "secret"}, wantErr: "does not match", noSecret: true},
		"server token by node": {token: token.Token{CAHash: hash, User: "node", Password: "secret"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s.asked = nil
			dir := t.TempDir()
			err := func() error {
				c, err := Connect(context.Background(), s.URL, tt.token)
				if err != nil {
					return err
				}
				config, err := c.Config(context.Background())
				if err != nil {
					return err
				}
				if config.ServiceCIDR != "10.43.0.0/16" {
					t.Errorf("config %+v", config)
				}
				return c.Certificates(context.Background(), dir, Node{Name: "n", IP: "192.0.2.1", Password: "p"})
			}()
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want an error about %q", err, tt.wantErr)
				}
				if tt.noSecret && len(s.asked) > 0 {
					t.Errorf("the token was sent to %v", s.asked)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for file, mode := range map[string]os.FileMode{
				"server-ca.crt": 0o644, "client-ca.crt": 0o644,
				"client-kubelet.crt": 0o644, "client-kubelet.key": 0o600,
				"serving-kubelet.crt": 0o644, "serving-kubelet.key": 0o600,
				"client-kube-proxy.crt": 0o644, "client-kube-proxy.key": 0o600,
				"client-k3s-controller.crt": 0o644, "client-k3s-controller.key": 0o600,
			} {
				info, err := os.Stat(filepath.Join(dir, file))
				if err != nil || info.Mode().Perm() != mode {
					t.Errorf("%s: %v, want mode %o", file, err, mode)
				}
			}
		})
	}
}

func TestConnectSaysWhatCannotBeReached(t *testing.T) {
	s := newServer(t, "x")
	url := s.URL
	s.Close()
	_, err := Connect(context.Background(), url, token.Token{User: "node", Password: "x"})
	if err == nil || !strings.Contains(err.Error(), "failed to get CA certs") {
		t.Errorf("got %v", err)
	}
}

func TestNodePasswordStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node/password")
	first, err := NodePassword(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := NodePassword(file)
	if err != nil || first != second || len(first) != 32 {
		t.Errorf("%q, then %q, %v", first, second, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
