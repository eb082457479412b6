// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"homelab.gpu/lab/distribution/internal/atomicfile"
	"homelab.gpu/lab/distribution/internal/kubeconfig"
	"homelab.gpu/lab/distribution/internal/pki"
	"homelab.gpu/lab/distribution/internal/token"
)

// certificates returns the server CA, to which tokens are bound.
func (s *Server) certificates() ([]byte, error) {
	tls := filepath.Join(s.dir, "tls")
	if err := os.MkdirAll(tls, 0o700); err != nil {
		return nil, err
	}
	cas := map[string]*pki.CA{}
	for _, name := range []string{"server-ca", "client-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca"} {
		ca, err := pki.EnsureCA(filepath.Join(tls, name), "lab-"+filepath.Base(name))
		if err != nil {
			return nil, err
		}
		cas[name] = ca
	}
	apiIP, err := s.Config.APIServiceIP()
	if err != nil {
		return nil, err
	}
	serving := append([]string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + s.Config.ClusterDomain,
		"localhost", "127.0.0.1", apiIP, s.Config.NodeIP, s.Config.NodeName, s.Config.AdvertiseAddress,
	}, s.Config.TLSSANs...)
	local := []string{"localhost", "127.0.0.1"}
	masters := []string{"system:masters"}
	for _, c := range []struct {
		ca, file string
		request  pki.Request
	}{
		{"server-ca", "serving-kube-apiserver", pki.Request{CommonName: "kube-apiserver", Names: serving, Usage: pki.ServerUsage}},
		{"client-ca", "client-admin", pki.Request{CommonName: "system:admin", Organization: masters, Usage: pki.ClientUsage}},
		{"client-ca", "client-controller", pki.Request{CommonName: "system:kube-controller-manager", Usage: pki.ClientUsage}},
		{"client-ca", "client-scheduler", pki.Request{CommonName: "system:kube-scheduler", Usage: pki.ClientUsage}},
		{"client-ca", "client-kube-apiserver", pki.Request{CommonName: "system:apiserver", Organization: masters, Usage: pki.ClientUsage}},
		{"request-header-ca", "client-auth-proxy", pki.Request{CommonName: "system:auth-proxy", Usage: pki.ClientUsage}},
		{"etcd/server-ca", "etcd/server-client", pki.Request{CommonName: "etcd-server", Names: local, Usage: pki.PeerUsage}},
		{"etcd/server-ca", "etcd/client", pki.Request{CommonName: "etcd-client", Usage: pki.ClientUsage}},
		{"etcd/peer-ca", "etcd/peer-server-client", pki.Request{CommonName: "etcd-peer", Names: local, Usage: pki.PeerUsage}},
	} {
		if err := cas[c.ca].Ensure(filepath.Join(tls, c.file), c.request); err != nil {
			return nil, fmt.Errorf("%s: %w", c.file, err)
		}
	}
	return cas["server-ca"].PEM, pki.EnsureKey(filepath.Join(tls, "service.key"))
}

func (s *Server) cred(name string) string { return filepath.Join(s.dir, "cred", name+".kubeconfig") }

func (s *Server) kubeconfigs() error {
	tls := filepath.Join(s.dir, "tls")
	if err := os.MkdirAll(filepath.Join(s.dir, "cred"), 0o700); err != nil {
		return err
	}
	for _, k := range []struct {
		path, cert string
		mode       os.FileMode
	}{
		{s.cred("admin"), "client-admin", 0o600},
		{s.cred("controller"), "client-controller", 0o600},
		{s.cred("scheduler"), "client-scheduler", 0o600},
		{s.Config.KubeconfigPath, "client-admin", s.Config.KubeconfigMode},
	} {
		if err := kubeconfig.Write(k.path, URL(), filepath.Join(tls, "server-ca.crt"), filepath.Join(tls, k.cert), k.mode); err != nil {
			return err
		}
	}
	return nil
}

// errOtherToken is what a changed token leads to; K3s' data is encrypted with the token, here it would only lock the nodes out.
var errOtherToken = errors.New("bootstrap data already found and encrypted with different token")

// ensureTokens keeps server/token, server/agent-token and server/node-token, and returns the server's token.
func ensureTokens(dir, configured, configuredAgent string, ca []byte) (token.Token, error) {
	path := filepath.Join(dir, "token")
	own, err := chooseToken(path, configured, ca)
	if err != nil {
		return own, err
	}
	if err := atomicfile.Write(path, []byte(own.Secure(ca)+"\n"), 0o600); err != nil {
		return own, err
	}
	agentPath := filepath.Join(dir, "agent-token")
	if configuredAgent == "" {
		err = atomicfile.Symlink(path, agentPath)
	} else {
		var t token.Token
		if t, err = token.Parse(configuredAgent, token.NodeUser); err != nil {
			return own, fmt.Errorf("agent-token: %w", err)
		}
		t.User = token.NodeUser
		err = atomicfile.Write(agentPath, []byte(t.Secure(ca)+"\n"), 0o600)
	}
	if err != nil {
		return own, err
	}
	return own, atomicfile.Symlink(path, filepath.Join(dir, "node-token"))
}

func chooseToken(path, configured string, ca []byte) (token.Token, error) {
	var own token.Token
	stored, err := token.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return own, err
	}
	if stored != "" {
		if own, err = token.Parse(stored, token.ServerUser); err != nil {
			return own, fmt.Errorf("%s: %w", path, err)
		}
	}
	if configured == "" {
		if stored == "" {
			own.User = token.ServerUser
			own.Password, err = token.Random()
		}
		return own, err
	}
	wanted, err := token.Parse(configured, token.ServerUser)
	if err != nil {
		return wanted, fmt.Errorf("token: %w", err)
	}
	if err := wanted.CheckCA(ca); err != nil {
		return wanted, fmt.Errorf("token: %w", err)
	}
	if stored != "" && !own.Matches(wanted.Password) {
		return wanted, fmt.Errorf("token: %w", errOtherToken)
	}
	wanted.User = token.ServerUser
	return wanted, nil
}
