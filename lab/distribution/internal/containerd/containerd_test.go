// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package containerd

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func program(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!"), mode); err != nil {
		t.Fatal(err)
	}
}

func TestDetect(t *testing.T) {
	tests := map[string]struct {
		programs map[string]os.FileMode
		path     string
		want     map[string]string
	}{
		"nothing":                         {path: "usr/bin", want: map[string]string{}},
		"in PATH":                         {programs: map[string]os.FileMode{"usr/bin/nvidia-container-runtime": 0o755}, path: "usr/bin", want: map[string]string{"nvidia": "usr/bin/nvidia-container-runtime"}},
		"not in PATH":                     {programs: map[string]os.FileMode{"opt/nvidia-container-runtime": 0o755}, path: "usr/bin", want: map[string]string{}},
		"the toolkit's folder goes first": {programs: map[string]os.FileMode{"usr/bin/nvidia-container-runtime": 0o755, "toolkit/nvidia-container-runtime": 0o755}, path: "usr/bin", want: map[string]string{"nvidia": "toolkit/nvidia-container-runtime"}},
		"the first of PATH":               {programs: map[string]os.FileMode{"a/crun": 0o755, "b/crun": 0o755}, path: "b:a", want: map[string]string{"crun": "b/crun"}},
		"not executable":                  {programs: map[string]os.FileMode{"usr/bin/nvidia-container-runtime": 0o644}, path: "usr/bin", want: map[string]string{}},
		"all of NVIDIA's": {
			programs: map[string]os.FileMode{"usr/bin/nvidia-container-runtime": 0o755, "usr/bin/nvidia-container-runtime.cdi": 0o755, "usr/bin/nvidia-container-runtime-experimental": 0o755},
			path:     "usr/bin",
			want:     map[string]string{"nvidia": "usr/bin/nvidia-container-runtime", "nvidia-cdi": "usr/bin/nvidia-container-runtime.cdi", "nvidia-experimental": "usr/bin/nvidia-container-runtime-experimental"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, mode := range tt.programs {
				program(t, filepath.Join(root, file), mode)
			}
			var path []string
			for _, folder := range strings.Split(tt.path, ":") {
				path = append(path, filepath.Join(root, folder))
			}
			got := map[string]string{}
			for _, r := range Detect([]string{filepath.Join(root, "toolkit")}, strings.Join(path, ":")) {
				got[r.Name] = strings.TrimPrefix(r.Binary, root+"/")
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDetectIgnoresRelativeFolders(t *testing.T) {
	dir := t.TempDir()
	program(t, filepath.Join(dir, "crun"), 0o755)
	t.Chdir(dir)
	if got := Detect(nil, ".:"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestCheckDefault(t *testing.T) {
	found := []Runtime{{"nvidia", "/n"}}
	for name, good := range map[string]bool{"": true, "runc": true, "nvidia": true, "nvidia-cdi": false} {
		if err := CheckDefault(name, found); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func render(t *testing.T, s Settings, user string) map[string]any {
	t.Helper()
	text, err := Render(s, user)
	if err != nil {
		t.Fatal(err)
	}
	var parsed map[string]any
	if err := toml.Unmarshal(text, &parsed); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return parsed
}

func at(t *testing.T, v any, keys ...string) any {
	t.Helper()
	for _, key := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no table at %s", key)
		}
		v = m[key]
	}
	return v
}

func TestRender(t *testing.T) {
	s := Settings{
		DataDir: "/data", BinDir: "/data/bin", Runc: "/data/bin/runc", PauseImage: "pause:1", SystemdCgroup: true,
		Runtimes: []Runtime{{"nvidia", "/usr/bin/nvidia-container-runtime"}, {"nvidia-cdi", "/usr/bin/nvidia-container-runtime.cdi"}},
	}
	got := render(t, s, "")
	runtime := at(t, got, "plugins", "io.containerd.cri.v1.runtime")
	for _, tt := range []struct {
		keys []string
		want any
	}{
		{[]string{"enable_cdi"}, true},
		{[]string{"cdi_spec_dirs"}, []any{"/etc/cdi", "/var/run/cdi"}},
		{[]string{"restrict_oom_score_adj"}, true},
		{[]string{"cni", "conf_dir"}, "/data/agent/etc/cni/net.d"},
		{[]string{"cni", "bin_dirs"}, []any{"/data/bin"}},
		{[]string{"containerd", "default_runtime_name"}, "runc"},
		{[]string{"containerd", "runtimes", "runc", "options", "BinaryName"}, "/data/bin/runc"},
		{[]string{"containerd", "runtimes", "nvidia", "options", "BinaryName"}, "/usr/bin/nvidia-container-runtime"},
		{[]string{"containerd", "runtimes", "nvidia", "options", "SystemdCgroup"}, true},
		{[]string{"containerd", "runtimes", "nvidia-cdi", "options", "BinaryName"}, "/usr/bin/nvidia-container-runtime.cdi"},
		{[]string{"containerd", "runtimes", "nvidia-experimental"}, nil},
	} {
		if v := at(t, runtime, tt.keys...); !reflect.DeepEqual(v, tt.want) {
			t.Errorf("%v: got %v, want %v", tt.keys, v, tt.want)
		}
	}
	if v := at(t, got, "grpc", "address"); v != "/run/k3s/containerd/containerd.sock" {
		t.Errorf("address %v", v)
	}
	if v := at(t, got, "imports"); !reflect.DeepEqual(v, []any{"/data/agent/etc/containerd/config-v3.toml.d/*.toml"}) {
		t.Errorf("imports %v", v)
	}
	if v := at(t, got, "plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"); v != "pause:1" {
		t.Errorf("sandbox %v", v)
	}
	s.DefaultRuntime = "nvidia"
	if v := at(t, render(t, s, ""), "plugins", "io.containerd.cri.v1.runtime", "containerd", "default_runtime_name"); v != "nvidia" {
		t.Errorf("default runtime %v", v)
	}
}

func TestUserTemplate(t *testing.T) {
	got := render(t, Settings{DataDir: "/data"}, "{{ template \"base\" . }}\n[plugins.'x.y']\n  here = true\n")
	if at(t, got, "plugins", "x.y", "here") != true || at(t, got, "root") != "/data/agent/containerd" {
		t.Errorf("got %v", got)
	}
	if _, err := Render(Settings{}, "{{ broken"); err == nil || !strings.Contains(err.Error(), "config-v3.toml.tmpl") {
		t.Errorf("got %v", err)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	s := Settings{DataDir: dir, Runc: "/runc"}
	path, err := Write(s)
	if err != nil || path != filepath.Join(dir, "agent/etc/containerd/config.toml") {
		t.Fatalf("%s, %v", path, err)
	}
	if err := os.WriteFile(filepath.Join(Dir(dir), userTemplate), []byte("# mine\n{{ template \"base\" . }}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(s); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(b), "# mine\n") || !strings.Contains(string(b), `BinaryName = "/runc"`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestRenderRegistries(t *testing.T) {
	tests := map[string]struct {
		document  string
		noDefault bool
		want      map[string][]string // parts of each file
		without   string
		warning   string
		wantErr   string
	}{
		"none":   {want: map[string][]string{}},
		"mirror": {document: "mirrors: {docker.io: {endpoint: [https://m.example:5000]}}", want: map[string][]string{"docker.io": {`[host."https://m.example:5000"]`}}, without: "server ="},
		"no default endpoint": {
			document: "mirrors: {docker.io: {endpoint: [https://m.example]}}", noDefault: true,
			want: map[string][]string{"docker.io": {`server = "https://m.example"`}},
		},
		"a mirror without scheme": {document: "mirrors: {docker.io: {endpoint: [m.example]}}", want: map[string][]string{"docker.io": {`[host."https://m.example"]`}}},
		"everything":              {document: "mirrors: {'*': {endpoint: [https://m.example]}}", noDefault: true, want: map[string][]string{"_default": {`[host."https://m.example"]`}}, without: "server ="},
		"credentials": {
			document: "mirrors: {r.example: {endpoint: [https://m.example]}}\nconfigs: {m.example: {auth: {username: u, password: p}}}",
			want:     map[string][]string{"r.example": {`Authorization = "Basic dTpw"`}, "m.example": {`Authorization = "Basic dTpw"`}},
		},
		"TLS": {
			document: "configs: {r.example: {tls: {ca_file: /ca, cert_file: /c, key_file: /k, insecure_skip_verify: true}}}",
			want:     map[string][]string{"r.example": {"skip_verify = true", `ca = ["/ca"]`, `client = [["/c", "/k"]]`}},
		},
		"rewriting is warned of": {document: "mirrors: {r: {endpoint: [https://m], rewrite: {a: b}}}", want: map[string][]string{"r": {"https://m"}}, warning: "rewrite"},
		"no URL":                 {document: "mirrors: {r: {endpoint: ['https://']}}", wantErr: "not a URL"},
		"no registries":          {document: "mirrors: [a]", wantErr: "cannot unmarshal"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			files, warnings, err := renderRegistries([]byte(tt.document), tt.noDefault)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want an error about %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != len(tt.want) {
				t.Errorf("files %v", files)
			}
			for file, parts := range tt.want {
				var parsed map[string]any
				if err := toml.Unmarshal([]byte(files[file]), &parsed); err != nil {
					t.Errorf("%s is no TOML: %v\n%s", file, err, files[file])
				}
				for _, part := range parts {
					if !strings.Contains(files[file], part) {
						t.Errorf("%s lacks %s:\n%s", file, part, files[file])
					}
				}
				if tt.without != "" && strings.Contains(files[file], tt.without) {
					t.Errorf("%s has %s:\n%s", file, tt.without, files[file])
				}
			}
			if got := strings.Join(warnings, "\n"); !strings.Contains(got, tt.warning) || tt.warning == "" && got != "" {
				t.Errorf("warnings %q", got)
			}
		})
	}
}

func TestWriteRegistriesRemovesOldOnes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "registries.yaml")
	steps := []struct{ document, there, gone string }{
		{"mirrors: {a.example: {endpoint: [https://m]}}", "a.example", "b.example"},
		{"mirrors: {b.example: {endpoint: [https://m]}}", "b.example", "a.example"},
	}
	for _, step := range steps {
		if err := os.WriteFile(file, []byte(step.document), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := WriteRegistries(dir, file, false); err != nil {
			t.Fatal(err)
		}
		certs := filepath.Join(Dir(dir), "certs.d")
		if info, err := os.Stat(filepath.Join(certs, step.there, "hosts.toml")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", step.there, err)
		}
		if _, err := os.Stat(filepath.Join(certs, step.gone)); err == nil {
			t.Errorf("%s is still there", step.gone)
		}
	}
	if err := WriteRegistries(dir, filepath.Join(dir, "none.yaml"), false); err != nil {
		t.Errorf("without registries.yaml: %v", err)
	}
}
