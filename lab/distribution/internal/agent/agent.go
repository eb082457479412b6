// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package agent runs what every node runs: containerd, kubelet, kube-proxy and the pod network.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	containerdclient "github.com/containerd/containerd/v2/client"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"homelab.gpu/lab/distribution/internal/components"
	"homelab.gpu/lab/distribution/internal/config"
	"homelab.gpu/lab/distribution/internal/containerd"
	"homelab.gpu/lab/distribution/internal/host"
	"homelab.gpu/lab/distribution/internal/images"
	"homelab.gpu/lab/distribution/internal/join"
	"homelab.gpu/lab/distribution/internal/kubeconfig"
	"homelab.gpu/lab/distribution/internal/netpol"
	"homelab.gpu/lab/distribution/internal/network"
	"homelab.gpu/lab/distribution/internal/process"
	"homelab.gpu/lab/distribution/internal/supervisor"
	"homelab.gpu/lab/distribution/internal/token"
)

const (
	passwordFile  = "/etc/rancher/node/password"
	joinPause     = 2 * time.Second
	quietStart    = 30 * time.Second
	pollPause     = 200 * time.Millisecond
	maxLog        = 50 << 20
	kubeletHealth = "http://127.0.0.1:10248/healthz"
)

// Agent is a node.
type Agent struct {
	Config *config.Config
	// ServerURL and Token are used to join.
	ServerURL string
	Token     token.Token
	// Local says that the server runs beside the agent and is started at the same time.
	Local bool
	Group *process.Group

	dir     string
	systemd bool
}

// Run starts the node and returns when the kubelet has registered it. The components and the network go on until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	a.dir = filepath.Join(a.Config.DataDir, "agent")
	if err := a.prepare(); err != nil {
		return err
	}
	if err := a.startContainerd(); err != nil {
		return err
	}
	imported := make(chan error, 1)
	go func() { imported <- a.importImages(ctx) }()

	cluster, err := a.join(ctx)
	if err != nil {
		return err
	}
	if err := <-imported; err != nil {
		return err
	}
	if err := a.writeKubeconfigs(); err != nil {
		return err
	}
	if err := a.startNetworkPolicy(ctx, cluster); err != nil {
		return err
	}
	if err := a.startKubernetes(cluster); err != nil {
		return err
	}
	if err := a.startNetwork(ctx, cluster); err != nil {
		return err
	}
	return a.waitForKubelet(ctx)
}

func (a *Agent) prepare() error {
	controllers, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers") // not there on cgroup v1
	cgroups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	a.systemd = host.SystemdCgroups(os.Getenv("INVOCATION_ID"), cgroups, controllers)
	for _, err := range network.PrepareHost() {
		slog.Warn("host", "err", err)
	}
	for _, dir := range []string{"images", "pod-manifests", "etc/kubelet.conf.d", "containerd"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) startContainerd() error {
	found := containerd.Detect(containerd.SearchFirst, os.Getenv("PATH"))
	for _, r := range found {
		slog.Info("found container runtime", "name", r.Name, "binary", r.Binary)
	}
	if err := containerd.CheckDefault(a.Config.DefaultRuntime, found); err != nil {
		return err
	}
	runc, err := host.Runc(a.Config.DataDir, os.Getenv("PATH"))
	if err != nil {
		return err
	}
	path, err := containerd.Write(containerd.Settings{
		DataDir:        a.Config.DataDir,
		BinDir:         host.BinDir(a.Config.DataDir),
		Runc:           runc,
		Runtimes:       found,
		DefaultRuntime: a.Config.DefaultRuntime,
		Snapshotter:    a.Config.Snapshotter,
		PauseImage:     a.Config.PauseImage,
		SystemdCgroup:  a.systemd,
	})
	if err != nil {
		return err
	}
	if err := containerd.WriteRegistries(a.Config.DataDir, a.Config.PrivateRegistry, a.Config.DisableDefaultRegistryEndpoint); err != nil {
		return err
	}
	log, err := openLog(filepath.Join(a.dir, "containerd/containerd.log"))
	if err != nil {
		return err
	}
	a.Group.Start(process.Spec{
		Name: components.Containerd,
		Args: []string{"--config", path},
		Env:  []string{"PATH=" + host.BinDir(a.Config.DataDir) + ":" + os.Getenv("PATH")},
		Log:  log,
	})
	return nil
}

// openLog appends to the log, or starts it anew if it has grown large.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
}

func (a *Agent) importImages(ctx context.Context) error {
	client, err := connect(ctx)
	if err != nil {
		return err
	}
	folder := &images.Folder{Dir: filepath.Join(a.dir, "images"), Importer: images.Containerd{Client: client}}
	if err := folder.ImportAll(ctx); err != nil {
		slog.Error("some images were not imported", "err", err) // as on K3s, the node starts without them
	}
	go func() {
		if err := folder.Watch(ctx); err != nil {
			slog.Error("new image archives are not noticed until the next start", "err", err)
		}
	}()
	return nil
}

// connect waits until containerd answers.
func connect(ctx context.Context) (*containerdclient.Client, error) {
	var client *containerdclient.Client
	err := until(ctx, func() error {
		var err error
		client, err = containerdclient.New(containerd.Socket, containerdclient.WithDefaultNamespace("k8s.io"), containerdclient.WithTimeout(5*time.Second))
		if err != nil {
			return err
		}
		serving, err := client.IsServing(ctx)
		if err == nil && !serving {
			err = errors.New("containerd is not serving yet")
		}
		if err != nil {
			client.Close()
		}
		return err
	})
	return client, err
}

// until repeats f until it succeeds or ctx ends.
func until(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pollPause):
		}
	}
}

// join repeats until the server takes the node, as K3s does; the reason is logged whenever it changes.
func (a *Agent) join(ctx context.Context) (supervisor.ClusterConfig, error) {
	password, err := join.NodePassword(passwordFile)
	if err != nil {
		return supervisor.ClusterConfig{}, err
	}
	node := join.Node{Name: a.Config.NodeName, IP: a.Config.NodeIP, Password: password}
	last := ""
	began, pause := time.Now(), pollPause
	for {
		cluster, err := a.tryJoin(ctx, node)
		if err == nil {
			return cluster, nil
		}
		if text := err.Error(); text != last && (!a.Local || time.Since(began) > quietStart) {
			last = text
			slog.Error("Failed to validate connection to cluster at "+a.ServerURL, "err", err)
		}
		select {
		case <-ctx.Done():
			return cluster, ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, joinPause)
	}
}

func (a *Agent) tryJoin(ctx context.Context, node join.Node) (supervisor.ClusterConfig, error) {
	client, err := join.Connect(ctx, a.ServerURL, a.Token)
	if err != nil {
		return supervisor.ClusterConfig{}, err
	}
	cluster, err := client.Config(ctx)
	if err != nil {
		return cluster, err
	}
	return cluster, client.Certificates(ctx, a.dir, node)
}

func (a *Agent) kubeconfig(name string) string { return filepath.Join(a.dir, name+".kubeconfig") }

func (a *Agent) writeKubeconfigs() error {
	for name, cert := range map[string]string{"kubelet": "client-kubelet", "kubeproxy": "client-kube-proxy", "k3scontroller": "client-k3s-controller"} {
		if err := kubeconfig.Write(a.kubeconfig(name), a.ServerURL, filepath.Join(a.dir, "server-ca.crt"), filepath.Join(a.dir, cert), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) startKubernetes(cluster supervisor.ClusterConfig) error {
	resolvConf := a.Config.ResolvConf
	if resolvConf == "" {
		var err error
		resolvConf, err = host.ResolvConf([]string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}, filepath.Join(a.dir, "etc/resolv.conf"))
		if err != nil {
			return err
		}
	}
	if err := writeKubeletDefaults(a.dir, resolvConf, a.systemd, cluster); err != nil {
		return err
	}
	a.Group.Start(process.Spec{Name: components.Kubelet, Args: a.kubeletArgs()})
	a.Group.Start(process.Spec{Name: components.KubeProxy, Args: a.kubeProxyArgs(cluster)})
	return nil
}

func (a *Agent) kubeletArgs() []string {
	args := []string{
		"--config-dir=" + filepath.Join(a.dir, "etc/kubelet.conf.d"),
		"--kubeconfig=" + a.kubeconfig("kubelet"),
		"--node-ip=" + a.Config.NodeIP,
		"--hostname-override=" + a.Config.NodeName,
	}
	if len(a.Config.NodeTaints) > 0 {
		args = append(args, "--register-with-taints="+strings.Join(a.Config.NodeTaints, ","))
	}
	if len(a.Config.NodeLabels) > 0 {
		args = append(args, "--node-labels="+strings.Join(a.Config.NodeLabels, ","))
	}
	return Extend(args, a.Config.KubeletArgs)
}

func (a *Agent) kubeProxyArgs(cluster supervisor.ClusterConfig) []string {
	return Extend([]string{
		"--kubeconfig=" + a.kubeconfig("kubeproxy"),
		"--cluster-cidr=" + cluster.ClusterCIDR,
		"--hostname-override=" + a.Config.NodeName,
		"--proxy-mode=iptables",
		"--conntrack-max-per-core=0",
		"--conntrack-min=0",
		"--conntrack-tcp-timeout-established=0s",
		"--conntrack-tcp-timeout-close-wait=0s",
	}, a.Config.KubeProxyArgs)
}

// Extend appends the user's key=value arguments; of scalar flags the last wins.
func Extend(args, user []string) []string {
	for _, arg := range user {
		args = append(args, "--"+strings.TrimLeft(arg, "-"))
	}
	return args
}

func (a *Agent) client(name string) (kubernetes.Interface, error) {
	c, err := clientcmd.BuildConfigFromFlags("", a.kubeconfig(name))
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(c)
}

func (a *Agent) startNetwork(ctx context.Context, cluster supervisor.ClusterConfig) error {
	client, err := a.client("kubeproxy")
	if err != nil {
		return err
	}
	_, pods, err := net.ParseCIDR(cluster.ClusterCIDR)
	if err != nil {
		return fmt.Errorf("cluster-cidr: %w", err)
	}
	n := &network.Network{NodeIP: net.ParseIP(a.Config.NodeIP).To4(), ClusterCIDR: pods, CNIDir: containerd.CNIDir(a.Config.DataDir)}
	go func() {
		if err := n.Run(ctx, client); err != nil && ctx.Err() == nil {
			slog.Error("pod network ended", "err", err)
		}
	}()
	return nil
}

// startNetworkPolicy comes before the kubelet: pods that start with the host find the rules there.
func (a *Agent) startNetworkPolicy(ctx context.Context, cluster supervisor.ClusterConfig) error {
	kernel := netpol.NewKernel()
	if cluster.DisableNetworkPolicy {
		slog.Info("network policies are not enforced: the server has disable-network-policy")
		if err := kernel.Remove(); err != nil {
			slog.Error("network policies: rules from before are left", "err", err)
		}
		return nil
	}
	if !network.FiltersBridge() {
		slog.Error("network policies do not hold between pods of this node: the kernel has no bridge-nf-call-iptables; load br_netfilter and start again")
	}
	client, err := a.client("k3scontroller")
	if err != nil {
		return err
	}
	controller := &netpol.Controller{Node: a.Config.NodeName, Client: client, Filter: kernel}
	go func() {
		if err := controller.Run(ctx); err != nil {
			slog.Error("network policies are not enforced", "err", err)
		}
	}()
	return nil
}

// waitForKubelet returns when the kubelet is healthy, its node is in the API and has the configured labels.
func (a *Agent) waitForKubelet(ctx context.Context) error {
	client, err := a.client("kubelet")
	if err != nil {
		return err
	}
	web := &http.Client{Timeout: time.Second}
	var node *corev1.Node
	err = until(ctx, func() error {
		answer, err := web.Get(kubeletHealth)
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("kubelet: %s", answer.Status)
		}
		node, err = client.CoreV1().Nodes().Get(ctx, a.Config.NodeName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("node %s is not registered yet", a.Config.NodeName)
		}
		return err
	})
	if err != nil {
		return err
	}
	patch, err := labelPatch(node.Labels, a.Config.NodeLabels)
	if err != nil || patch == nil {
		return err
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, a.Config.NodeName, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		slog.Warn("node-label was not applied to the registered node", "err", err)
	}
	return nil
}

// labelPatch adds what is configured to what a node has had since it registered, or is nil. Nothing is taken away.
func labelPatch(have map[string]string, configured []string) ([]byte, error) {
	labels := map[string]string{}
	for _, text := range configured {
		key, value, _ := strings.Cut(text, "=")
		if current, ok := have[key]; !ok || current != value {
			labels[key] = value
		}
	}
	if len(labels) == 0 {
		return nil, nil
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
}
