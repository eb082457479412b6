// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "config.yaml")
}

func TestLoadMerges(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		env   map[string]string
		args  []string
		role  string
		want  func(*Config) any
		equal any
	}{
		"scalar of config.yaml": {
			files: map[string]string{"config.yaml": "token: a"},
			want:  func(c *Config) any { return c.Token }, equal: "a",
		},
		"a later drop-in wins": {
			files: map[string]string{"config.yaml": "token: a", "config.yaml.d/10-x.yaml": "token: b", "config.yaml.d/20-x.yaml": "token: c"},
			want:  func(c *Config) any { return c.Token }, equal: "c",
		},
		"a drop-in replaces a list": {
			files: map[string]string{"config.yaml": "node-label: [a=1, b=2]", "config.yaml.d/x.yaml": "node-label: [c=3]"},
			want:  func(c *Config) any { return c.NodeLabels }, equal: []string{"c=3"},
		},
		"key+ appends": {
			files: map[string]string{"config.yaml": "node-label: [a=1]", "config.yaml.d/x.yaml": "node-label+: [b=2]", "config.yaml.d/y.yaml": "node-label+: c=3"},
			want:  func(c *Config) any { return c.NodeLabels }, equal: []string{"a=1", "b=2", "c=3"},
		},
		"key and key+ in one file": {
			files: map[string]string{"config.yaml": "node-label+: [b=2]\nnode-label: [a=1]"},
			want:  func(c *Config) any { return c.NodeLabels }, equal: []string{"a=1", "b=2"},
		},
		"a flag replaces the whole list": {
			files: map[string]string{"config.yaml": "node-label: [a=1, b=2]"},
			args:  []string{"--node-label", "c=3", "--node-label=d=4"},
			want:  func(c *Config) any { return c.NodeLabels }, equal: []string{"c=3", "d=4"},
		},
		"the file wins over the environment": {
			files: map[string]string{"config.yaml": "token: file"},
			env:   map[string]string{"K3S_TOKEN": "env"},
			want:  func(c *Config) any { return c.Token }, equal: "file",
		},
		"the environment fills in": {
			env:  map[string]string{"K3S_TOKEN": "env"},
			want: func(c *Config) any { return c.Token }, equal: "env",
		},
		"K3S_URL": {
			role: Agent,
			env:  map[string]string{"K3S_URL": "https://h:6443"},
			want: func(c *Config) any { return c.ServerURL }, equal: "https://h:6443",
		},
		"short flags": {
			role: Agent,
			args: []string{"-s", "https://h:6443", "-t", "x", "-d", "/d"},
			want: func(c *Config) any { return []string{c.ServerURL, c.Token, c.DataDir} }, equal: []string{"https://h:6443", "x", "/d"},
		},
		"a switch needs no value": {
			args: []string{"--debug", "--token", "x"},
			want: func(c *Config) any { return c.Debug }, equal: true,
		},
		"a switch may have one": {
			args: []string{"--debug=false"},
			want: func(c *Config) any { return c.Debug }, equal: false,
		},
		"disable is split at commas": {
			files: map[string]string{"config.yaml": "disable: coredns, metrics-server"},
			want:  func(c *Config) any { return c.Disable }, equal: []string{"coredns", "metrics-server"},
		},
		"network policies can be switched off": {
			files: map[string]string{"config.yaml": "disable-network-policy: true"},
			want:  func(c *Config) any { return c.DisableNetworkPolicy }, equal: true,
		},
		"component arguments are not": {
			files: map[string]string{"config.yaml": "kubelet-arg:\n- feature-gates=A=true,B=true"},
			want:  func(c *Config) any { return c.KubeletArgs }, equal: []string{"feature-gates=A=true,B=true"},
		},
		"numbers become text": {
			files: map[string]string{"config.yaml": "kubelet-arg: [max-pods=20]\nnode-name: 7"},
			want:  func(c *Config) any { return c.NodeName }, equal: "7",
		},
		"an empty value is no value": {
			files: map[string]string{"config.yaml": "token:\nserver:"},
			want:  func(c *Config) any { return c.Token }, equal: "",
		},
		"unknown keys are warned of": {
			files: map[string]string{"config.yaml": "no-such-key: 1"},
			want:  func(c *Config) any { return c.Warnings }, equal: []string{"unknown flag --no-such-key found in config file, skipping"},
		},
		"keys of the other role are unknown": {
			role:  Agent,
			files: map[string]string{"config.yaml": "tls-san: [a]"},
			want:  func(c *Config) any { return c.Warnings }, equal: []string{"unknown flag --tls-san found in config file, skipping"},
		},
		"accepted keys say that they do nothing": {
			files: map[string]string{"config.yaml": "flannel-backend: wireguard-native"},
			want:  func(c *Config) any { return c.Warnings }, equal: []string{"flannel-backend is accepted without effect"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := write(t, t.TempDir(), tt.files)
			if _, err := os.Stat(file); err != nil {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			role := tt.role
			if role == "" {
				role = Server
			}
			c, err := Load(role, append([]string{"--config", file}, tt.args...), func(k string) string { return tt.env[k] })
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.want(c); !reflect.DeepEqual(got, tt.equal) {
				t.Errorf("got %#v, want %#v", got, tt.equal)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := map[string]struct {
		file string
		args []string
		want string
	}{
		"a file that is not there":   {args: []string{"--config", "/no/such/file"}, want: "/no/such/file"},
		"a file that is no mapping":  {file: "- a", want: "mapping"},
		"a mapping as a value":       {file: "token: {a: 1}", want: "token"},
		"a switch with a wrong word": {file: "debug: maybe", want: "debug"},
		"an unknown flag":            {args: []string{"--no-such-flag"}, want: "no-such-flag"},
		"a flag of the other role":   {args: []string{"--disable-apiserver-lb"}, want: "disable-apiserver-lb"},
		"a flag without its value":   {args: []string{"--token"}, want: "needs an argument: --token"},
		"a stray word":               {args: []string{"start"}, want: "start"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := tt.args
			if tt.file != "" {
				args = append([]string{"-c", write(t, t.TempDir(), map[string]string{"config.yaml": tt.file})}, args...)
			}
			_, err := Load(Server, args, func(string) string { return "" })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about %q", err, tt.want)
			}
		})
	}
}

func TestCompleteServer(t *testing.T) {
	tests := map[string]struct {
		file    string
		check   func(*Config) bool
		wantErr string
	}{
		"defaults": {file: "{}", check: func(c *Config) bool {
			return c.ClusterCIDR == "10.42.0.0/16" && c.ServiceCIDR == "10.43.0.0/16" && c.ClusterDNS == "10.43.0.10" && c.ClusterDomain == "cluster.local" &&
				c.KubeconfigMode == 0o600 && c.KubeconfigPath == DefaultKubeconfig && c.AdvertiseAddress == "192.0.2.1"
		}},
		"cluster-dns follows service-cidr":    {file: "service-cidr: 10.96.0.0/12", check: func(c *Config) bool { return c.ClusterDNS == "10.96.0.10" }},
		"kubeconfig mode":                     {file: `write-kubeconfig-mode: "0640"`, check: func(c *Config) bool { return c.KubeconfigMode == 0o640 }},
		"storage is below data-dir":           {file: "data-dir: /x", check: func(c *Config) bool { return c.LocalStoragePath == "/x/storage" }},
		"node names become lower case":        {file: "node-name: Box", check: func(c *Config) bool { return c.NodeName == "box" }},
		"a further server is refused":         {file: "server: https://h:6443", wantErr: "server"},
		"a wrong mode is refused":             {file: `write-kubeconfig-mode: "rw"`, wantErr: "write-kubeconfig-mode"},
		"a wrong network is refused":          {file: "cluster-cidr: 10.42.0.0", wantErr: "cluster-cidr"},
		"two networks are refused":            {file: "service-cidr: 10.1.0.0/16,10.2.0.0/16", wantErr: "service-cidr"},
		"a wrong name is refused":             {file: "node-name: a_b", wantErr: "node-name"},
		"a broken secure token is refused":    {file: "token: K10abc", wantErr: "token"},
		"a missing token file is refused":     {file: "token-file: /no/such", wantErr: "token-file"},
		"a wrong advertise-address":           {file: "advertise-address: here", wantErr: "advertise-address"},
		"an IPv6 node address is refused":     {file: "node-ip: 'fd00::1'", wantErr: "node-ip"},
		"a second node address is refused":    {file: "node-ip: 192.0.2.1,192.0.2.2", wantErr: "node-ip"},
		"a second name server is refused":     {file: "cluster-dns: 10.43.0.10,10.43.0.11", wantErr: "cluster-dns"},
		"a name server that is not an IP":     {file: "cluster-dns: dns", wantErr: "cluster-dns"},
		"a broken secure agent-token refused": {file: "agent-token: K10abc", wantErr: "agent-token"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := load(t, Server, "node-ip: 192.0.2.1\nnode-name: n\n", tt.file)
			err := c.Complete()
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got %v, want an error about %s", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(c) {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func load(t *testing.T, role, base, more string) *Config {
	t.Helper()
	file := write(t, t.TempDir(), map[string]string{"config.yaml": base, "config.yaml.d/x.yaml": more})
	c, err := Load(role, []string{"-c", file}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCompleteAgent(t *testing.T) {
	tests := map[string]struct {
		file, url, wantErr string
	}{
		"address and port":          {file: "server: https://h:6443\ntoken: x", url: "https://h:6443"},
		"the port has a default":    {file: "server: https://h\ntoken: x", url: "https://h:6443"},
		"no server":                 {file: "token: x", wantErr: "--server is required"},
		"no token":                  {file: "server: https://h:6443", wantErr: "--token is required"},
		"no https":                  {file: "server: http://h:6443\ntoken: x", wantErr: "https://"},
		"no address":                {file: "server: 'https://'\ntoken: x", wantErr: "https://"},
		"a token of another kind":   {file: "server: https://h\ntoken: 'abc:x'", wantErr: "token"},
		"a secure token cut in two": {file: "server: https://h\ntoken: K10aa::server:x", wantErr: "CA hash"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := load(t, Agent, "node-ip: 192.0.2.1\nnode-name: n\n", tt.file)
			err := c.Complete()
			if tt.wantErr == "" && (err != nil || c.ServerURL != tt.url) {
				t.Errorf("got %q, %v; want %q", c.ServerURL, err, tt.url)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("got %v, want an error about %q", err, tt.wantErr)
			}
		})
	}
}

func TestTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := load(t, Agent, "node-ip: 192.0.2.1\nserver: https://h\ntoken: other\n", "token-file: "+file)
	if err := c.Complete(); err != nil || c.Token != "secret" {
		t.Errorf("got %q, %v", c.Token, err)
	}
}

func TestHelpNamesEveryFlagOfItsRole(t *testing.T) {
	for name, o := range options {
		for _, role := range []string{Server, Agent} {
			want := o.role == "" || o.role == role
			if got := strings.Contains(Help(role), "  --"+name+"\n") || strings.Contains(Help(role), "  --"+name+" ") || strings.Contains(Help(role), "  --"+name+","); got != want {
				t.Errorf("help of %s names %s: %v, want %v", role, name, got, want)
			}
		}
	}
}
