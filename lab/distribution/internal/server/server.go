// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package server runs the control plane.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	distribution "homelab.gpu/lab/distribution"
	"homelab.gpu/lab/distribution/internal/agent"
	"homelab.gpu/lab/distribution/internal/atomicfile"
	"homelab.gpu/lab/distribution/internal/components"
	"homelab.gpu/lab/distribution/internal/config"
	"homelab.gpu/lab/distribution/internal/manifests"
	"homelab.gpu/lab/distribution/internal/process"
	"homelab.gpu/lab/distribution/internal/supervisor"
	"homelab.gpu/lab/distribution/internal/token"
)

const (
	pollPause = 200 * time.Millisecond
	issuer    = "https://kubernetes.default.svc."
)

// Server is a control plane of one node.
type Server struct {
	Config *config.Config
	Group  *process.Group
	// Datastore is stopped after Group.
	Datastore *process.Group

	dir string
}

// URL is where the server's own node joins.
func URL() string { return "https://127.0.0.1:" + strconv.Itoa(config.Port) }

// Prepare makes keys, certificates, tokens and manifests, and returns the token with which the server's own node joins.
func (s *Server) Prepare() (token.Token, error) {
	s.dir = filepath.Join(s.Config.DataDir, "server")
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return token.Token{}, err
	}
	ca, err := s.certificates()
	if err != nil {
		return token.Token{}, fmt.Errorf("certificates: %w", err)
	}
	own, err := ensureTokens(s.dir, s.Config.Token, s.Config.AgentToken, ca)
	if err != nil {
		return token.Token{}, err
	}
	if err := s.kubeconfigs(); err != nil {
		return token.Token{}, fmt.Errorf("kubeconfig: %w", err)
	}
	values := map[string]string{
		"CLUSTER_DNS":                s.Config.ClusterDNS,
		"CLUSTER_DOMAIN":             s.Config.ClusterDomain,
		"DEFAULT_LOCAL_STORAGE_PATH": s.Config.LocalStoragePath,
	}
	if err := manifests.Stage(distribution.Manifests, filepath.Join(s.dir, "manifests"), values, s.Config.Disable); err != nil {
		return token.Token{}, fmt.Errorf("manifests: %w", err)
	}
	return own, s.writeSupervisorSettings()
}

func (s *Server) supervisorSettings() string { return filepath.Join(s.dir, "etc/supervisor.json") }

func (s *Server) writeSupervisorSettings() error {
	b, err := json.MarshalIndent(components.SupervisorSettings{
		DataDir: s.Config.DataDir,
		Cluster: supervisor.ClusterConfig{
			ClusterCIDR:   s.Config.ClusterCIDR,
			ServiceCIDR:   s.Config.ServiceCIDR,
			ClusterDNS:    s.Config.ClusterDNS,
			ClusterDomain: s.Config.ClusterDomain,

			DisableNetworkPolicy: s.Config.DisableNetworkPolicy,
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(s.supervisorSettings(), append(b, '\n'), 0o600)
}

// Start runs datastore and API server and returns when the API is ready; the other components follow by then.
func (s *Server) Start(ctx context.Context) error {
	s.Datastore.Start(process.Spec{Name: components.Etcd, Args: s.etcdArgs()})
	s.Group.Start(process.Spec{
		Name: components.APIServer,
		Args: s.apiServerArgs(),
		Env:  []string{components.SupervisorEnv + "=" + s.supervisorSettings()},
	})
	client, restConfig, err := s.client()
	if err != nil {
		return err
	}
	if err := waitReady(ctx, client); err != nil {
		return err
	}
	slog.Info("API server is ready")
	s.Group.Start(process.Spec{Name: components.ControllerManager, Args: s.controllerManagerArgs()})
	s.Group.Start(process.Spec{Name: components.Scheduler, Args: s.schedulerArgs()})
	dynamicClient, err := dynamic.NewForConfig(restConfig)
	if err != nil {
		return err
	}
	controller := &manifests.Controller{
		Dir:     filepath.Join(s.dir, "manifests"),
		Client:  client,
		Dynamic: dynamicClient,
		Mapper:  restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery())),
	}
	go controller.Run(ctx, s.Config.Disable)
	nodes := &nodeController{client: client, own: s.Config.NodeName}
	go nodes.run(ctx)
	return nil
}

func (s *Server) client() (kubernetes.Interface, *rest.Config, error) {
	c, err := clientcmd.BuildConfigFromFlags("", s.cred("admin"))
	if err != nil {
		return nil, nil, err
	}
	c.QPS, c.Burst = 50, 100
	client, err := kubernetes.NewForConfig(c)
	return client, c, err
}

func waitReady(ctx context.Context, client kubernetes.Interface) error {
	for {
		err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
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

func (s *Server) etcdArgs() []string {
	tls := filepath.Join(s.dir, "tls/etcd")
	return agent.Extend([]string{
		"--name=" + s.Config.NodeName,
		"--data-dir=" + filepath.Join(s.dir, "db/etcd"),
		"--listen-client-urls=https://127.0.0.1:2379",
		"--advertise-client-urls=https://127.0.0.1:2379",
		"--listen-peer-urls=https://127.0.0.1:2380",
		"--initial-advertise-peer-urls=https://127.0.0.1:2380",
		"--initial-cluster=" + s.Config.NodeName + "=https://127.0.0.1:2380",
		"--client-cert-auth",
		"--trusted-ca-file=" + tls + "/server-ca.crt",
		"--cert-file=" + tls + "/server-client.crt",
		"--key-file=" + tls + "/server-client.key",
		"--peer-client-cert-auth",
		"--peer-trusted-ca-file=" + tls + "/peer-ca.crt",
		"--peer-cert-file=" + tls + "/peer-server-client.crt",
		"--peer-key-file=" + tls + "/peer-server-client.key",
		"--log-level=error",
	}, s.Config.EtcdArgs)
}

func (s *Server) apiServerArgs() []string {
	tls := filepath.Join(s.dir, "tls")
	domain := s.Config.ClusterDomain
	return agent.Extend([]string{
		"--secure-port=" + strconv.Itoa(config.Port),
		"--advertise-address=" + s.Config.AdvertiseAddress,
		"--etcd-servers=https://127.0.0.1:2379",
		"--etcd-cafile=" + tls + "/etcd/server-ca.crt",
		"--etcd-certfile=" + tls + "/etcd/client.crt",
		"--etcd-keyfile=" + tls + "/etcd/client.key",
		"--service-cluster-ip-range=" + s.Config.ServiceCIDR,
		"--service-account-issuer=" + issuer + domain,
		"--api-audiences=" + issuer + domain + "," + "k3s",
		"--service-account-key-file=" + tls + "/service.key",
		"--service-account-signing-key-file=" + tls + "/service.key",
		"--tls-cert-file=" + tls + "/serving-kube-apiserver.crt",
		"--tls-private-key-file=" + tls + "/serving-kube-apiserver.key",
		"--client-ca-file=" + tls + "/client-ca.crt",
		"--kubelet-certificate-authority=" + tls + "/server-ca.crt",
		"--kubelet-client-certificate=" + tls + "/client-kube-apiserver.crt",
		"--kubelet-client-key=" + tls + "/client-kube-apiserver.key",
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--anonymous-auth=false",
		"--profiling=false",
		"--enable-aggregator-routing=true",
		"--requestheader-client-ca-file=" + tls + "/request-header-ca.crt",
		"--requestheader-allowed-names=system:auth-proxy",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + tls + "/client-auth-proxy.crt",
		"--proxy-client-key-file=" + tls + "/client-auth-proxy.key",
	}, s.Config.APIServerArgs)
}

func (s *Server) controllerManagerArgs() []string {
	tls := filepath.Join(s.dir, "tls")
	conf := s.cred("controller")
	return agent.Extend([]string{
		"--kubeconfig=" + conf,
		"--authentication-kubeconfig=" + conf,
		"--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1",
		"--service-account-private-key-file=" + tls + "/service.key",
		"--root-ca-file=" + tls + "/server-ca.crt",
		"--cluster-signing-kube-apiserver-client-cert-file=" + tls + "/client-ca.crt",
		"--cluster-signing-kube-apiserver-client-key-file=" + tls + "/client-ca.key",
		"--cluster-signing-kubelet-client-cert-file=" + tls + "/client-ca.crt",
		"--cluster-signing-kubelet-client-key-file=" + tls + "/client-ca.key",
		"--cluster-signing-kubelet-serving-cert-file=" + tls + "/server-ca.crt",
		"--cluster-signing-kubelet-serving-key-file=" + tls + "/server-ca.key",
		"--cluster-signing-legacy-unknown-cert-file=" + tls + "/server-ca.crt",
		"--cluster-signing-legacy-unknown-key-file=" + tls + "/server-ca.key",
		"--use-service-account-credentials=true",
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + s.Config.ClusterCIDR,
		"--service-cluster-ip-range=" + s.Config.ServiceCIDR,
		"--leader-elect=false",
		"--profiling=false",
	}, s.Config.ControllerManagerArgs)
}

func (s *Server) schedulerArgs() []string {
	conf := s.cred("scheduler")
	return agent.Extend([]string{
		"--kubeconfig=" + conf,
		"--authentication-kubeconfig=" + conf,
		"--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--profiling=false",
	}, s.Config.SchedulerArgs)
}
