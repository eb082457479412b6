// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"homelab.gpu/lab/distribution/internal/config"
	"homelab.gpu/lab/distribution/internal/supervisor"
)

func TestKubeletArgs(t *testing.T) {
	base := []string{"--config-dir=/d/agent/etc/kubelet.conf.d", "--kubeconfig=/d/agent/kubelet.kubeconfig", "--node-ip=192.0.2.1", "--hostname-override=n"}
	for name, tt := range map[string]struct {
		config config.Config
		want   []string
	}{
		"plain":     {config.Config{}, nil},
		"labels":    {config.Config{NodeLabels: []string{"a=1", "b=2"}}, []string{"--node-labels=a=1,b=2"}},
		"taints":    {config.Config{NodeTaints: []string{"a=1:NoSchedule", "b=2:NoExecute"}}, []string{"--register-with-taints=a=1:NoSchedule,b=2:NoExecute"}},
		"arguments": {config.Config{KubeletArgs: []string{"max-pods=20", "--v=4"}}, []string{"--max-pods=20", "--v=4"}},
	} {
		tt.config.NodeIP, tt.config.NodeName = "192.0.2.1", "n"
		a := &Agent{Config: &tt.config, dir: "/d/agent"}
		if got, want := a.kubeletArgs(), append(slices.Clone(base), tt.want...); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestKubeletDefaults(t *testing.T) {
	dir := t.TempDir()
	cluster := supervisor.ClusterConfig{ClusterDNS: "10.43.0.10", ClusterDomain: "cluster.local"}
	for systemd, driver := range map[bool]string{true: "systemd", false: "cgroupfs"} {
		if err := writeKubeletDefaults(dir, "/etc/resolv.conf", systemd, cluster); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "etc/kubelet.conf.d/00-k3s-defaults.conf"))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := yaml.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]any{"cgroupDriver": driver, "failCgroupV1": false, "failSwapOn": false, "resolvConf": "/etc/resolv.conf", "clusterDomain": "cluster.local"} {
			if got[key] != want {
				t.Errorf("%s: got %v, want %v", key, got[key], want)
			}
		}
	}
}

func TestOpenLogStartsAnewWhenLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, tt := range []struct {
		size int64
		old  bool
	}{{10, false}, {maxLog + 1, true}} {
		if err := os.WriteFile(path, nil, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, tt.size); err != nil {
			t.Fatal(err)
		}
		f, err := openLog(path)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if _, err := os.Stat(path + ".1"); (err == nil) != tt.old {
			t.Errorf("%d bytes: moved away %v, want %v", tt.size, err == nil, tt.old)
		}
	}
}

func TestLabelPatch(t *testing.T) {
	have := map[string]string{"a": "1", "kubernetes.io/hostname": "n"}
	for name, tt := range map[string]struct {
		configured []string
		want       string
	}{
		"nothing configured": {nil, ""},
		"nothing new":        {[]string{"a=1"}, ""},
		"another value":      {[]string{"a=2"}, `{"metadata":{"labels":{"a":"2"}}}`},
		"a new label":        {[]string{"a=1", "b=x=y"}, `{"metadata":{"labels":{"b":"x=y"}}}`},
		"without a value":    {[]string{"b"}, `{"metadata":{"labels":{"b":""}}}`},
	} {
		got, err := labelPatch(have, tt.configured)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, tt.want)
		}
	}
}
