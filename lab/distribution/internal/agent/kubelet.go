// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package agent

import (
	"path/filepath"

	"sigs.k8s.io/yaml"

	"homelab.gpu/lab/distribution/internal/atomicfile"
	"homelab.gpu/lab/distribution/internal/containerd"
	"homelab.gpu/lab/distribution/internal/supervisor"
)

// defaultsName sorts before the user's drop-ins, which therefore win.
const defaultsName = "00-k3s-defaults.conf"

func kubeletDefaults(dir, resolvConf string, systemd bool, cluster supervisor.ClusterConfig) map[string]any {
	driver := "cgroupfs"
	if systemd {
		driver = "systemd"
	}
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": filepath.Join(dir, "client-ca.crt")},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"cgroupDriver":             driver,
		"clusterDNS":               []string{cluster.ClusterDNS},
		"clusterDomain":            cluster.ClusterDomain,
		"containerRuntimeEndpoint": "unix://" + containerd.Socket,
		"evictionHard":             map[string]string{"imagefs.available": "5%", "nodefs.available": "5%"},
		"evictionMinimumReclaim":   map[string]string{"imagefs.available": "10%", "nodefs.available": "10%"},
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"healthzBindAddress":       "127.0.0.1",
		"resolvConf":               resolvConf,
		"serializeImagePulls":      false,
		"staticPodPath":            filepath.Join(dir, "pod-manifests"),
		"tlsCertFile":              filepath.Join(dir, "serving-kubelet.crt"),
		"tlsPrivateKeyFile":        filepath.Join(dir, "serving-kubelet.key"),
	}
}

func writeKubeletDefaults(dir, resolvConf string, systemd bool, cluster supervisor.ClusterConfig) error {
	b, err := yaml.Marshal(kubeletDefaults(dir, resolvConf, systemd, cluster))
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, "etc/kubelet.conf.d", defaultsName), b, 0o644)
}
