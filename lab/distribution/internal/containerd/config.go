// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"homelab.gpu/lab/distribution/internal/atomicfile"
)

// Socket is where containerd listens, whatever the data directory is.
const (
	Socket = "/run/k3s/containerd/containerd.sock"
	state  = "/run/k3s/containerd"
)

const userTemplate = "config-v3.toml.tmpl"

// Settings are what the configuration file is made of.
type Settings struct {
	DataDir        string
	BinDir         string
	Runc           string
	Runtimes       []Runtime
	DefaultRuntime string
	Snapshotter    string
	PauseImage     string
	SystemdCgroup  bool
}

// base is the configuration; a template of the user's may take it in with {{ template "base" . }}.
//
// restrict_oom_score_adj lets pods start where the host may not lower the value of its own processes.
const base = `# Written at each start; put changes into config-v3.toml.tmpl or config-v3.toml.d/*.toml.
version = 3
imports = [{{ printf "%s/config-v3.toml.d/*.toml" .Dir | printf "%q" }}]
root = {{ printf "%q" .Root }}
state = {{ printf "%q" .State }}
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.erofs"]

[grpc]
  address = {{ printf "%q" .Socket }}

[plugins.'io.containerd.cri.v1.images']
  snapshotter = {{ printf "%q" .Snapshotter }}
  disable_snapshot_annotations = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = {{ printf "%q" .PauseImage }}

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = {{ printf "%s/certs.d" .Dir | printf "%q" }}

[plugins.'io.containerd.cri.v1.runtime']
  enable_selinux = false
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  restrict_oom_score_adj = true
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [{{ printf "%q" .BinDir }}]
  conf_dir = {{ printf "%q" .CNIDir }}

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = {{ printf "%q" .DefaultRuntime }}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'runc']
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'runc'.options]
  BinaryName = {{ printf "%q" .Runc }}
  SystemdCgroup = {{ .SystemdCgroup }}
{{ range .Runtimes }}
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'{{ .Name }}']
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'{{ .Name }}'.options]
  BinaryName = {{ printf "%q" .Binary }}
  SystemdCgroup = {{ $.SystemdCgroup }}
{{ end }}`

// Dir is where containerd's configuration lies.
func Dir(dataDir string) string { return filepath.Join(dataDir, "agent/etc/containerd") }

// CNIDir is where the configuration of the pod network lies.
func CNIDir(dataDir string) string { return filepath.Join(dataDir, "agent/etc/cni/net.d") }

// Render makes the text of the configuration; user is a template of the user's, or empty.
func Render(s Settings, user string) ([]byte, error) {
	if s.DefaultRuntime == "" {
		s.DefaultRuntime = runcName
	}
	if s.Snapshotter == "" {
		s.Snapshotter = "overlayfs"
	}
	t, err := template.New("base").Parse(base)
	if err != nil {
		return nil, err
	}
	name := "base"
	if user != "" {
		name = userTemplate
		if _, err := t.New(name).Parse(user); err != nil {
			return nil, fmt.Errorf("%s: %w", userTemplate, err)
		}
	}
	values := struct {
		Settings
		Dir, CNIDir, Root, State, Socket string
	}{s, Dir(s.DataDir), CNIDir(s.DataDir), filepath.Join(s.DataDir, "agent/containerd"), state, Socket}
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, name, values); err != nil {
		return nil, fmt.Errorf("containerd configuration: %w", err)
	}
	return out.Bytes(), nil
}

// Write renders the configuration into its place and returns the path.
func Write(s Settings) (string, error) {
	dir := Dir(s.DataDir)
	for _, d := range []string{filepath.Join(dir, "certs.d"), CNIDir(s.DataDir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	user, err := os.ReadFile(filepath.Join(dir, userTemplate))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	text, err := Render(s, string(user))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "config.toml")
	return path, atomicfile.Write(path, text, 0o600)
}
