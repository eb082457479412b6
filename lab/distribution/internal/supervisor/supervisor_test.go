// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package supervisor

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"homelab.gpu/lab/distribution/internal/pki"
	"homelab.gpu/lab/distribution/internal/token"
)

func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"server-ca", "client-ca"} {
		if _, err := pki.EnsureCA(filepath.Join(dir, "server/tls", name), name); err != nil {
			t.Fatal(err)
		}
	}
	ca, err := os.ReadFile(filepath.Join(dir, "server/tls/server-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tok := range map[string]token.Token{"token": {User: "server", Password: "server-secret"}, "agent-token": {User: "node", Password: "agent-secret"}} {
		if err := os.WriteFile(filepath.Join(dir, "server", name), []byte(tok.Secure(ca)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRoutes(t *testing.T) {
	dir := dataDir(t)
	csr, err := pki.NewCSR(filepath.Join(t.TempDir(), "k.key"), "x")
	if err != nil {
		t.Fatal(err)
	}
	notReady := errors.New("etcd is not ready")
	ready := notReady
	s := &Supervisor{
		DataDir: dir, Config: ClusterConfig{ClusterCIDR: "10.42.0.0/16"}, Passwords: SecretPasswords{fake.NewClientset()},
		Ready: func(context.Context) error { return ready },
	}
	api := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	handler := s.Wrap(api)
	node := map[string]string{HeaderNodeName: "n1", HeaderNodePassword: "p1", HeaderNodeIP: "192.0.2.1"}
	with := func(change map[string]string) map[string]string {
		all := map[string]string{}
		for k, v := range node {
			all[k] = v
		}
		for k, v := range change {
			all[k] = v
		}
		return all
	}
	tests := []struct {
		name, method, path, user, password string
		headers                            map[string]string
		ready                              error
		code                               int
		body                               string
	}{
		{name: "ping", path: "/ping", code: 200, body: "pong"},
		{name: "CA for everybody", path: "/cacerts", code: 200, body: "BEGIN CERTIFICATE"},
		{name: "the API answers the rest", path: "/api/v1/nodes", code: http.StatusTeapot},
		{name: "also what looks alike", path: "/pingpong", code: http.StatusTeapot},
		{name: "no token", path: "/v1-k3s/config", code: 401},
		{name: "wrong token", path: "/v1-k3s/config", user: "node", password: "wrong", code: 401},
		{name: "server token as node", path: "/v1-k3s/config", user: "node", password: "server-secret", code: 200, body: "10.42.0.0/16"},
		{name: "server token", path: "/v1-k3s/config", user: "server", password: "server-secret", code: 200},
		{name: "agent token", path: "/v1-k3s/config", user: "node", password: "agent-secret", code: 200},
		{name: "agent token is no server token", path: "/v1-k3s/config", user: "server", password: "agent-secret", code: 401},
		{name: "not ready", path: "/v1-k3s/readyz", user: "node", password: "agent-secret", ready: notReady, code: 503, body: "etcd"},
		{name: "ready", path: "/v1-k3s/readyz", user: "node", password: "agent-secret", code: 200, body: "ok"},
		{name: "ready needs a token", path: "/v1-k3s/readyz", code: 401},
		{name: "unknown path", path: "/v1-k3s/none", user: "node", password: "agent-secret", code: 404},
		{name: "certificate without token", method: "POST", path: "/v1-k3s/client-kubelet.crt", headers: node, code: 401},
		{name: "certificate", method: "POST", path: "/v1-k3s/client-kubelet.crt", user: "node", password: "agent-secret", headers: node, code: 200, body: "BEGIN CERTIFICATE"},
		{name: "serving certificate", method: "POST", path: "/v1-k3s/serving-kubelet.crt", user: "node", password: "agent-secret", headers: node, code: 200},
		{name: "proxy certificate", method: "POST", path: "/v1-k3s/client-kube-proxy.crt", user: "node", password: "agent-secret", headers: node, code: 200},
		{name: "controller certificate", method: "POST", path: "/v1-k3s/client-k3s-controller.crt", user: "node", password: "agent-secret", headers: node, code: 200, body: "BEGIN CERTIFICATE"},
		{name: "controller certificate without token", method: "POST", path: "/v1-k3s/client-k3s-controller.crt", headers: node, code: 401},
		{name: "somebody else's node", method: "POST", path: "/v1-k3s/client-kubelet.crt", user: "node", password: "agent-secret", headers: with(map[string]string{HeaderNodePassword: "p2"}), code: 403, body: "Node password rejected"},
		{name: "no node name", method: "POST", path: "/v1-k3s/client-kubelet.crt", user: "node", password: "agent-secret", headers: with(map[string]string{HeaderNodeName: ""}), code: 400},
		{name: "a name that is none", method: "POST", path: "/v1-k3s/client-kubelet.crt", user: "node", password: "agent-secret", headers: with(map[string]string{HeaderNodeName: "a/../b"}), code: 400},
		{name: "no node password", method: "POST", path: "/v1-k3s/client-kubelet.crt", user: "node", password: "agent-secret", headers: with(map[string]string{HeaderNodePassword: ""}), code: 400},
		{name: "no address", method: "POST", path: "/v1-k3s/serving-kubelet.crt", user: "node", password: "agent-secret", headers: with(map[string]string{HeaderNodeIP: "here"}), code: 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ready = tt.ready
			method := tt.method
			if method == "" {
				method = http.MethodGet
			}
			var body io.Reader
			if method == http.MethodPost {
				body = strings.NewReader(string(csr))
			}
			r := httptest.NewRequest(method, tt.path, body)
			if tt.user != "" {
				r.SetBasicAuth(tt.user, tt.password)
			}
			for k, v := range tt.headers {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tt.code, tt.body)
			}
		})
	}
}

func TestNodePasswordIsKeptAsAHash(t *testing.T) {
	client := fake.NewClientset()
	passwords := SecretPasswords{client}
	ctx := context.Background()
	for _, step := range []struct {
		node, password string
		want           error
	}{{"N1", "secret", nil}, {"n1", "secret", nil}, {"n1", "other", ErrRejected}, {"n2", "other", nil}} {
		if err := passwords.Ensure(ctx, step.node, step.password); !errors.Is(err, step.want) {
			t.Errorf("%s with %s: %v, want %v", step.node, step.password, err, step.want)
		}
	}
	secret, err := client.CoreV1().Secrets("kube-system").Get(ctx, "n1.node-password.k3s", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(secret.Data[passwordKey]), "secret") {
		t.Error("the password itself is stored")
	}
	if err := client.CoreV1().Secrets("kube-system").Delete(ctx, "n1.node-password.k3s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := passwords.Ensure(ctx, "n1", "other"); err != nil {
		t.Errorf("after its Secret is gone a node may come anew: %v", err)
	}
	if _, err := client.CoreV1().Secrets("kube-system").Get(ctx, "n3.node-password.k3s", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestVerify(t *testing.T) {
	hash, err := hashPassword("p")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		hash, password string
		want           bool
	}{{hash, "p", true}, {hash, "q", false}, {"", "p", false}, {"sha256:zz:00", "p", false}, {"md5:" + hash[7:], "p", false}} {
		if got := verify(tt.hash, tt.password); got != tt.want {
			t.Errorf("verify(%q, %q) = %v", tt.hash, tt.password, got)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\nb\x1b" + strings.Repeat("x", 100)); strings.ContainsAny(got, "\n\x1b") || len(got) > 64 {
		t.Errorf("%q", got)
	}
}
