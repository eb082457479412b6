// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package containerd

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"homelab.gpu/lab/distribution/internal/atomicfile"
)

// registries is the part of registries.yaml that is understood.
type registries struct {
	Mirrors map[string]struct {
		Endpoint []string          `json:"endpoint"`
		Rewrite  map[string]string `json:"rewrite"`
	} `json:"mirrors"`
	Configs map[string]struct {
		Auth *struct {
			Username string `json:"username"`
			Password string `json:"password"`
			Auth     string `json:"auth"`
		} `json:"auth"`
		TLS *struct {
			CAFile             string `json:"ca_file"`
			CertFile           string `json:"cert_file"`
			KeyFile            string `json:"key_file"`
			InsecureSkipVerify bool   `json:"insecure_skip_verify"`
		} `json:"tls"`
	} `json:"configs"`
}

// WriteRegistries turns registries.yaml into containerd's certs.d/<registry>/hosts.toml and removes what an earlier one left.
func WriteRegistries(dataDir, path string, noDefaultEndpoint bool) error {
	target := filepath.Join(Dir(dataDir), "certs.d")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		b = nil
	} else if err != nil {
		return fmt.Errorf("registries: %w", err)
	}
	files, warnings, err := renderRegistries(b, noDefaultEndpoint)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, w := range warnings {
		slog.Warn(w, "file", path)
	}
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := atomicfile.Write(filepath.Join(target, name, "hosts.toml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func renderRegistries(document []byte, noDefaultEndpoint bool) (files map[string]string, warnings []string, err error) {
	var r registries
	if err := yaml.Unmarshal(document, &r); err != nil {
		return nil, nil, err
	}
	names := map[string]bool{}
	for name := range r.Mirrors {
		names[name] = true
	}
	for name := range r.Configs {
		names[name] = true
	}
	files = map[string]string{}
	for name := range names {
		mirror := r.Mirrors[name]
		if len(mirror.Rewrite) > 0 {
			warnings = append(warnings, fmt.Sprintf("mirrors.%s.rewrite has no effect: containerd has no rewriting", name))
		}
		var text strings.Builder
		if noDefaultEndpoint && len(mirror.Endpoint) > 0 && name != "*" {
			// The first endpoint stands in for the registry's own.
			fmt.Fprintf(&text, "server = %q\n", mirror.Endpoint[0])
		}
		endpoints := mirror.Endpoint
		if len(endpoints) == 0 && name != "*" {
			endpoints = []string{"https://" + name}
		}
		for _, endpoint := range endpoints {
			if !strings.Contains(endpoint, "://") {
				endpoint = "https://" + endpoint
			}
			u, err := url.Parse(endpoint)
			if err != nil || u.Host == "" {
				return nil, nil, fmt.Errorf("mirrors.%s.endpoint %q is not a URL", name, endpoint)
			}
			fmt.Fprintf(&text, "\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", endpoint)
			c, ok := r.Configs[u.Host]
			if !ok {
				continue
			}
			if c.TLS != nil {
				if c.TLS.InsecureSkipVerify {
					text.WriteString("  skip_verify = true\n")
				}
				if c.TLS.CAFile != "" {
					fmt.Fprintf(&text, "  ca = [%q]\n", c.TLS.CAFile)
				}
				if c.TLS.CertFile != "" {
					fmt.Fprintf(&text, "  client = [[%q, %q]]\n", c.TLS.CertFile, c.TLS.KeyFile)
				}
			}
			if c.Auth != nil {
				auth := c.Auth.Auth
				if auth == "" {
					auth = base64.StdEncoding.EncodeToString([]byte(c.Auth.Username + ":" + c.Auth.Password))
				}
				fmt.Fprintf(&text, "  [host.%q.header]\n    Authorization = %q\n", endpoint, "Basic "+auth)
			}
		}
		dir := name
		if name == "*" {
			dir = "_default"
		}
		files[strings.ReplaceAll(dir, "/", "_")] = text.String()
	}
	slices.Sort(warnings)
	return files, warnings, nil
}
