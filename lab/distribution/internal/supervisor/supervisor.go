// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package supervisor answers joining nodes on the port of the API server: /ping, /cacerts and /v1-k3s/.
package supervisor

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"homelab.gpu/lab/distribution/internal/pki"
	"homelab.gpu/lab/distribution/internal/token"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Headers by which a node says who it is; the names are those of K3s.
const (
	HeaderNodeName     = "k3s-Node-Name"
	HeaderNodePassword = "k3s-Node-Password"
	HeaderNodeIP       = "k3s-Node-IP"
)

const maxBody = 64 << 10

// ClusterConfig is what a joining node needs to know.
type ClusterConfig struct {
	ClusterCIDR   string `json:"clusterCIDR"`
	ServiceCIDR   string `json:"serviceCIDR"`
	ClusterDNS    string `json:"clusterDNS"`
	ClusterDomain string `json:"clusterDomain"`

	DisableNetworkPolicy bool `json:"disableNetworkPolicy"`
}

// Passwords checks node passwords.
type Passwords interface {
	// Ensure remembers the password of a new node and compares it for a known one.
	Ensure(ctx context.Context, node, password string) error
}

// Supervisor is the joining side of a server.
type Supervisor struct {
	DataDir   string
	Config    ClusterConfig
	Passwords Passwords
	// Ready tells whether the API server is ready.
	Ready func(ctx context.Context) error
}

// Wrap puts the supervisor's paths before the API server's.
func (s *Supervisor) Wrap(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "pong")
	})
	mux.HandleFunc("GET /cacerts", s.file("server/tls/server-ca.crt"))
	mux.HandleFunc("GET /v1-k3s/server-ca.crt", s.authenticated(s.file("server/tls/server-ca.crt")))
	mux.HandleFunc("GET /v1-k3s/client-ca.crt", s.authenticated(s.file("server/tls/client-ca.crt")))
	mux.HandleFunc("GET /v1-k3s/config", s.authenticated(s.config))
	mux.HandleFunc("GET /v1-k3s/readyz", s.authenticated(s.readyz))
	mux.HandleFunc("POST /v1-k3s/client-kubelet.crt", s.authenticated(s.kubeletClient))
	mux.HandleFunc("POST /v1-k3s/serving-kubelet.crt", s.authenticated(s.kubeletServing))
	mux.HandleFunc("POST /v1-k3s/client-kube-proxy.crt", s.authenticated(s.kubeProxyClient))
	mux.HandleFunc("POST /v1-k3s/client-k3s-controller.crt", s.authenticated(s.controllerClient))
	mux.HandleFunc("/v1-k3s/", http.NotFound)
	mux.Handle("/", api)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; p == "/ping" || p == "/cacerts" || strings.HasPrefix(p, "/v1-k3s/") {
			mux.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

func (s *Supervisor) file(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := os.ReadFile(filepath.Join(s.DataDir, name))
		if err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(b)
	}
}

func (s *Supervisor) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if ok {
			err := s.authenticate(user, password)
			if err == nil {
				next(w, r)
				return
			}
			if !errors.Is(err, errWrongToken) {
				fail(w, http.StatusInternalServerError, err)
				return
			}
		}
		slog.Warn("join refused: wrong token", "from", r.RemoteAddr, "node", printable(r.Header.Get(HeaderNodeName)), "path", r.URL.Path)
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	}
}

var errWrongToken = errors.New("wrong token")

// authenticate reads the token files at each request: they are small, and joins are rare.
func (s *Supervisor) authenticate(user, password string) error {
	files := []string{"server/token"}
	if user == token.NodeUser {
		files = append(files, "server/agent-token")
	}
	for _, name := range files {
		text, err := token.ReadFile(filepath.Join(s.DataDir, name))
		if err != nil {
			return err
		}
		t, err := token.Parse(text, token.ServerUser)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if t.Matches(password) {
			return nil
		}
	}
	return errWrongToken
}

func (s *Supervisor) config(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.Config)
}

func (s *Supervisor) readyz(w http.ResponseWriter, r *http.Request) {
	if err := s.Ready(r.Context()); err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	_, _ = io.WriteString(w, "ok")
}

func (s *Supervisor) kubeletClient(w http.ResponseWriter, r *http.Request) {
	node, ok := s.node(w, r)
	if !ok {
		return
	}
	s.sign(w, r, "client-ca", pki.Request{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}, Usage: pki.ClientUsage})
}

func (s *Supervisor) kubeletServing(w http.ResponseWriter, r *http.Request) {
	node, ok := s.node(w, r)
	if !ok {
		return
	}
	names := []string{node, "localhost", "127.0.0.1"}
	for _, text := range strings.Split(r.Header.Get(HeaderNodeIP), ",") {
		ip := net.ParseIP(strings.TrimSpace(text))
		if ip == nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("%s %q is not an address", HeaderNodeIP, text))
			return
		}
		names = append(names, ip.String())
	}
	s.sign(w, r, "server-ca", pki.Request{CommonName: node, Names: names, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func (s *Supervisor) kubeProxyClient(w http.ResponseWriter, r *http.Request) {
	s.sign(w, r, "client-ca", pki.Request{CommonName: "system:kube-proxy", Usage: pki.ClientUsage})
}

func (s *Supervisor) controllerClient(w http.ResponseWriter, r *http.Request) {
	s.sign(w, r, "client-ca", pki.Request{CommonName: "system:k3s-controller", Usage: pki.ClientUsage})
}

// node checks that the caller may speak for the node it names.
func (s *Supervisor) node(w http.ResponseWriter, r *http.Request) (string, bool) {
	name, password := r.Header.Get(HeaderNodeName), r.Header.Get(HeaderNodePassword)
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		fail(w, http.StatusBadRequest, fmt.Errorf("%s %q: %s", HeaderNodeName, printable(name), strings.Join(errs, "; ")))
		return "", false
	}
	if password == "" {
		fail(w, http.StatusBadRequest, fmt.Errorf("%s is missing", HeaderNodePassword))
		return "", false
	}
	err := s.Passwords.Ensure(r.Context(), name, password)
	switch {
	case errors.Is(err, ErrRejected):
		slog.Warn("join refused: node password", "node", name, "from", r.RemoteAddr)
		fail(w, http.StatusForbidden, err)
		return "", false
	case err != nil:
		fail(w, http.StatusServiceUnavailable, err)
		return "", false
	}
	return name, true
}

func (s *Supervisor) sign(w http.ResponseWriter, r *http.Request, caName string, request pki.Request) {
	csr, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	ca, err := pki.LoadCA(filepath.Join(s.DataDir, "server/tls", caName))
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	cert, err := ca.SignCSR(csr, request)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	_, _ = w.Write(cert)
}

func fail(w http.ResponseWriter, code int, err error) {
	if code >= http.StatusInternalServerError {
		slog.Error("supervisor", "err", err)
	}
	http.Error(w, err.Error(), code)
}

// printable keeps an untrusted value from breaking log lines.
func printable(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
