// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package join is the node's side of joining: it checks the CA before it shows the token, then asks for certificates.
package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"homelab.gpu/lab/distribution/internal/atomicfile"
	"homelab.gpu/lab/distribution/internal/pki"
	"homelab.gpu/lab/distribution/internal/supervisor"
	"homelab.gpu/lab/distribution/internal/token"
)

const timeout = 10 * time.Second

// Node is who joins.
type Node struct {
	Name     string
	IP       string
	Password string
}

// Client talks to the supervisor of a server.
type Client struct {
	url   string
	token token.Token
	ca    []byte
	http  *http.Client
}

// Connect fetches the CA of the server and refuses one that does not belong to the token.
func Connect(ctx context.Context, url string, t token.Token) (*Client, error) {
	// The CA itself cannot be verified by TLS; a secure token carries its hash, a short one trusts the first answer.
	insecure := &http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	ca, err := do(ctx, insecure, http.MethodGet, url+"/cacerts", nil, nil)
	if err != nil {
		return nil, fmt.Errorf("failed to get CA certs: %w", err)
	}
	if err := t.CheckCA(ca); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s/cacerts is no PEM certificate", url)
	}
	secure := &http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	return &Client{url: url, token: t, ca: ca, http: secure}, nil
}

// Config fetches the cluster's settings.
func (c *Client) Config(ctx context.Context) (supervisor.ClusterConfig, error) {
	var config supervisor.ClusterConfig
	b, err := c.call(ctx, http.MethodGet, "/v1-k3s/config", nil, Node{})
	if err != nil {
		return config, err
	}
	if err := json.Unmarshal(b, &config); err != nil {
		return config, fmt.Errorf("cluster configuration: %w", err)
	}
	return config, nil
}

// Certificates fetches the CAs and the node's certificates into dir.
func (c *Client) Certificates(ctx context.Context, dir string, n Node) error {
	if err := atomicfile.Write(filepath.Join(dir, "server-ca.crt"), c.ca, 0o644); err != nil {
		return err
	}
	clientCA, err := c.call(ctx, http.MethodGet, "/v1-k3s/client-ca.crt", nil, n)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, "client-ca.crt"), clientCA, 0o644); err != nil {
		return err
	}
	for _, name := range []string{"client-kubelet", "serving-kubelet", "client-kube-proxy", "client-k3s-controller"} {
		csr, err := pki.NewCSR(filepath.Join(dir, name+".key"), n.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		cert, err := c.call(ctx, http.MethodPost, "/v1-k3s/"+name+".crt", csr, n)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(filepath.Join(dir, name+".crt"), cert, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, n Node) ([]byte, error) {
	return do(ctx, c.http, method, c.url+path, body, func(r *http.Request) {
		r.SetBasicAuth(c.token.User, c.token.Password)
		if n.Name != "" {
			r.Header.Set(supervisor.HeaderNodeName, n.Name)
			r.Header.Set(supervisor.HeaderNodePassword, n.Password)
			r.Header.Set(supervisor.HeaderNodeIP, n.IP)
		}
	})
}

func do(ctx context.Context, client *http.Client, method, url string, body []byte, prepare func(*http.Request)) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		prepare(r)
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return b, nil
	case http.StatusUnauthorized:
		return nil, fmt.Errorf("%s: 401 Unauthorized: the token is not the server's", url)
	}
	return nil, fmt.Errorf("%s: %s: %s", url, answer.Status, strings.TrimSpace(string(b)))
}

// NodePassword reads the node's password, or makes one that lasts as long as the host's /etc.
func NodePassword(path string) (string, error) {
	if password, err := token.ReadFile(path); err == nil {
		return password, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("node password: %w", err)
	}
	password, err := token.Random()
	if err != nil {
		return "", err
	}
	return password, atomicfile.Write(path, []byte(password+"\n"), 0o600)
}
