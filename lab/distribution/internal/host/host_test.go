// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package host

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func embedded(shim string) fstest.MapFS {
	return fstest.MapFS{"embed/.gitkeep": {}, "embed/containerd-shim-runc-v2": {Data: []byte(shim)}, "embed/runc": {Data: []byte("runc")}}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestExtract(t *testing.T) {
	for name, revision := range map[string][2]string{"by revision": {"r1", "r2"}, "by content": {"", ""}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := Extract(embedded("one"), "embed", dir, "/usr/local/bin/k3s", revision[0]); err != nil {
				t.Fatal(err)
			}
			first, err := os.Readlink(filepath.Join(dir, "data/current"))
			if err != nil {
				t.Fatal(err)
			}
			shim := filepath.Join(BinDir(dir), "containerd-shim-runc-v2")
			if read(t, shim) != "one" {
				t.Error("wrong content")
			}
			if info, err := os.Stat(shim); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%v, %v", info, err)
			}
			if link, err := os.Readlink(filepath.Join(BinDir(dir), "kubectl")); err != nil || link != "/usr/local/bin/k3s" {
				t.Errorf("kubectl: %s, %v", link, err)
			}
			if _, err := os.Stat(filepath.Join(BinDir(dir), ".gitkeep")); err == nil {
				t.Error("the placeholder was extracted")
			}
			// A second start of the same version; then another version, in which shims of the first go on running.
			if err := Extract(embedded("one"), "embed", dir, "/usr/local/bin/k3s", revision[0]); err != nil {
				t.Fatal(err)
			}
			if err := Extract(embedded("two"), "embed", dir, "/usr/local/bin/k3s", revision[1]); err != nil {
				t.Fatal(err)
			}
			if read(t, shim) != "two" || read(t, filepath.Join(first, "bin/containerd-shim-runc-v2")) != "one" {
				t.Error("versions are mixed")
			}
			if previous, err := os.Readlink(filepath.Join(dir, "data/previous")); err != nil || previous != first {
				t.Errorf("previous is %s, %v; want %s", previous, err, first)
			}
		})
	}
}

func TestExtractReplacesWhatWasCutOff(t *testing.T) {
	dir := t.TempDir()
	if err := Extract(embedded("one"), "embed", dir, "/k3s", "r"); err != nil {
		t.Fatal(err)
	}
	target, _ := os.Readlink(filepath.Join(dir, "data/current"))
	if err := os.Rename(target, target+".new"); err != nil {
		t.Fatal(err)
	}
	if err := Extract(embedded("one"), "embed", dir, "/k3s", "r"); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(BinDir(dir), "runc")) != "runc" {
		t.Error("not extracted")
	}
}

func TestRunc(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if _, err := Runc(dir, other); err == nil {
		t.Error("found what is not there")
	}
	if err := os.WriteFile(filepath.Join(other, "runc"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := Runc(dir, other); err != nil || got != filepath.Join(other, "runc") {
		t.Errorf("%s, %v", got, err)
	}
	if err := Extract(embedded("one"), "embed", dir, "/k3s", "r"); err != nil {
		t.Fatal(err)
	}
	if got, err := Runc(dir, other); err != nil || got != filepath.Join(BinDir(dir), "runc") {
		t.Errorf("the embedded one goes first: %s, %v", got, err)
	}
}

func TestSystemdCgroups(t *testing.T) {
	v1 := "12:cpuset:/\n4:cpu,cpuacct:/system.slice\n0::/\n"
	for name, tt := range map[string]struct {
		invocation, cgroups, controllers string
		want                             bool
	}{
		"systemd, v2":              {"id", "0::/system.slice\n", "cpuset cpu io memory pids\n", true},
		"systemd, v1":              {"id", v1, "", true},
		"systemd, v1 with groups":  {"id", "3:cpuset,cpu:/\n", "", true},
		"by hand":                  {"", v1, "cpuset\n", false},
		"systemd without cpuset":   {"id", "4:cpu,cpuacct:/\n0::/\n", "cpu memory\n", false},
		"systemd, nothing to read": {"id", "", "", false},
	} {
		if got := SystemdCgroups(tt.invocation, []byte(tt.cgroups), []byte(tt.controllers)); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestResolvConf(t *testing.T) {
	for name, tt := range map[string]struct {
		texts []string
		want  int // index of the file; -1: the one made
	}{
		"an address":             {[]string{"nameserver 192.0.2.1\n"}, 0},
		"loopback, then another": {[]string{"nameserver 127.0.0.53\n", "search x\nnameserver 192.0.2.1\n"}, 1},
		"only loopback":          {[]string{"nameserver ::1\n"}, -1},
		"mixed":                  {[]string{"nameserver 192.0.2.1\nnameserver 127.0.0.1\n"}, -1},
		"empty":                  {[]string{"# nothing\n"}, -1},
		"missing":                {nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := []string{filepath.Join(dir, "missing")}
			for i, text := range tt.texts {
				file := filepath.Join(dir, string(rune('a'+i)))
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				files = append(files, file)
			}
			fallback := filepath.Join(dir, "made")
			got, err := ResolvConf(files, fallback)
			if err != nil {
				t.Fatal(err)
			}
			want := fallback
			if tt.want >= 0 {
				want = files[tt.want+1]
			} else if read(t, fallback) != "nameserver 8.8.8.8\n" {
				t.Error("wrong fallback")
			}
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
