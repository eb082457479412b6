// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package components runs the upstream programs that are linked into this binary.
package components

import (
	"context"
	"fmt"
	"os"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins" // containerd's plugins
	containerd "github.com/containerd/containerd/v2/cmd/containerd/command"
	ctr "github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// Main is a component's main function; os.Args[0] is its name. It returns the exit code.
type Main func() int

// Names of the components.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kubelet           = "kubelet"
	KubeProxy         = "kube-proxy"
	Containerd        = "containerd"
	Ctr               = "ctr"
	Kubectl           = "kubectl"
)

// Lookup finds a component by name.
func Lookup(name string) (Main, bool) {
	m, ok := map[string]Main{
		Etcd:              func() int { etcdmain.Main(os.Args); return 0 },
		APIServer:         kube(newAPIServerCommand),
		ControllerManager: kube(controllermanager.NewControllerManagerCommand),
		Scheduler:         kube(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		Kubelet:           kube(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
		KubeProxy:         kube(proxy.NewProxyCommand),
		Kubectl:           kube(kubectl.NewDefaultKubectlCommand),
		Ctr:               func() int { return report(Ctr, ctr.New().Run(os.Args)) },
		Containerd:        runContainerd,
	}[name]
	return m, ok
}

func kube(command func() *cobra.Command) Main {
	return func() int { return cli.Run(command()) }
}

func runContainerd() int {
	// etcd's packages have registered the same gRPC metrics in the default registry; a second registration panics.
	prometheus.DefaultRegisterer = prometheus.NewRegistry()
	return report(Containerd, containerd.App().Run(os.Args))
}

func report(name string, err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}
