// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package config

// Roles of the program.
const (
	Server = "server"
	Agent  = "agent"
)

type kind int

const (
	text kind = iota
	boolean
	list      // repeated or as a YAML list
	commaList // a list whose values may also be separated by commas
)

type option struct {
	kind  kind
	role  string // empty: both
	env   string
	short string
	bind  func(*Config) any // nil: accepted without effect
}

func str(f func(*Config) *string) func(*Config) any    { return func(c *Config) any { return f(c) } }
func flag(f func(*Config) *bool) func(*Config) any     { return func(c *Config) any { return f(c) } }
func strs(f func(*Config) *[]string) func(*Config) any { return func(c *Config) any { return f(c) } }

// options are all known keys: of the configuration files and, with two dashes, of the command line.
var options = map[string]option{
	"data-dir":   {short: "d", env: "K3S_DATA_DIR", bind: str(func(c *Config) *string { return &c.DataDir })},
	"debug":      {kind: boolean, env: "K3S_DEBUG", bind: flag(func(c *Config) *bool { return &c.Debug })},
	"token":      {short: "t", env: "K3S_TOKEN", bind: str(func(c *Config) *string { return &c.Token })},
	"token-file": {env: "K3S_TOKEN_FILE", bind: str(func(c *Config) *string { return &c.TokenFile })},
	"server":     {short: "s", env: "K3S_URL", bind: str(func(c *Config) *string { return &c.ServerURL })},

	"node-name":        {env: "K3S_NODE_NAME", bind: str(func(c *Config) *string { return &c.NodeName })},
	"node-ip":          {short: "i", kind: commaList, bind: strs(func(c *Config) *[]string { return &c.NodeIPs })},
	"node-label":       {kind: list, bind: strs(func(c *Config) *[]string { return &c.NodeLabels })},
	"node-taint":       {kind: list, bind: strs(func(c *Config) *[]string { return &c.NodeTaints })},
	"kubelet-arg":      {kind: list, bind: strs(func(c *Config) *[]string { return &c.KubeletArgs })},
	"kube-proxy-arg":   {kind: list, bind: strs(func(c *Config) *[]string { return &c.KubeProxyArgs })},
	"default-runtime":  {bind: str(func(c *Config) *string { return &c.DefaultRuntime })},
	"pause-image":      {bind: str(func(c *Config) *string { return &c.PauseImage })},
	"resolv-conf":      {env: "K3S_RESOLV_CONF", bind: str(func(c *Config) *string { return &c.ResolvConf })},
	"snapshotter":      {bind: str(func(c *Config) *string { return &c.Snapshotter })},
	"private-registry": {bind: str(func(c *Config) *string { return &c.PrivateRegistry })},

	"disable-default-registry-endpoint": {kind: boolean, bind: flag(func(c *Config) *bool { return &c.DisableDefaultRegistryEndpoint })},

	"agent-token":                 {role: Server, env: "K3S_AGENT_TOKEN", bind: str(func(c *Config) *string { return &c.AgentToken })},
	"agent-token-file":            {role: Server, env: "K3S_AGENT_TOKEN_FILE", bind: str(func(c *Config) *string { return &c.AgentTokenFile })},
	"advertise-address":           {role: Server, bind: str(func(c *Config) *string { return &c.AdvertiseAddress })},
	"tls-san":                     {role: Server, kind: commaList, bind: strs(func(c *Config) *[]string { return &c.TLSSANs })},
	"write-kubeconfig":            {role: Server, short: "o", env: "K3S_KUBECONFIG_OUTPUT", bind: str(func(c *Config) *string { return &c.KubeconfigPath })},
	"write-kubeconfig-mode":       {role: Server, env: "K3S_KUBECONFIG_MODE", bind: str(func(c *Config) *string { return &c.kubeconfigMode })},
	"cluster-cidr":                {role: Server, kind: commaList, bind: strs(func(c *Config) *[]string { return &c.clusterCIDRs })},
	"service-cidr":                {role: Server, kind: commaList, bind: strs(func(c *Config) *[]string { return &c.serviceCIDRs })},
	"cluster-dns":                 {role: Server, kind: commaList, bind: strs(func(c *Config) *[]string { return &c.clusterDNS })},
	"cluster-domain":              {role: Server, bind: str(func(c *Config) *string { return &c.ClusterDomain })},
	"default-local-storage-path":  {role: Server, bind: str(func(c *Config) *string { return &c.LocalStoragePath })},
	"disable":                     {role: Server, kind: commaList, bind: strs(func(c *Config) *[]string { return &c.Disable })},
	"disable-network-policy":      {kind: boolean, role: Server, bind: flag(func(c *Config) *bool { return &c.DisableNetworkPolicy })},
	"etcd-arg":                    {role: Server, kind: list, bind: strs(func(c *Config) *[]string { return &c.EtcdArgs })},
	"kube-apiserver-arg":          {role: Server, kind: list, bind: strs(func(c *Config) *[]string { return &c.APIServerArgs })},
	"kube-controller-manager-arg": {role: Server, kind: list, bind: strs(func(c *Config) *[]string { return &c.ControllerManagerArgs })},
	"kube-scheduler-arg":          {role: Server, kind: list, bind: strs(func(c *Config) *[]string { return &c.SchedulerArgs })},

	"alsologtostderr":                   {kind: boolean},
	"bind-address":                      {role: Server},
	"cluster-init":                      {kind: boolean, role: Server},
	"disable-apiserver-lb":              {kind: boolean, role: Agent},
	"disable-cloud-controller":          {kind: boolean, role: Server},
	"disable-helm-controller":           {kind: boolean, role: Server},
	"disable-kube-proxy":                {kind: boolean, role: Server},
	"egress-selector-mode":              {role: Server},
	"embedded-registry":                 {kind: boolean, role: Server},
	"etcd-disable-snapshots":            {kind: boolean, role: Server},
	"etcd-expose-metrics":               {kind: boolean, role: Server},
	"etcd-snapshot-retention":           {role: Server},
	"etcd-snapshot-schedule-cron":       {role: Server},
	"flannel-backend":                   {role: Server},
	"flannel-iface":                     {},
	"helm-job-image":                    {role: Server},
	"kube-cloud-controller-manager-arg": {kind: list, role: Server},
	"log":                               {},
	"node-external-ip":                  {kind: list},
	"prefer-bundled-bin":                {kind: boolean},
	"protect-kernel-defaults":           {kind: boolean},
	"rootless":                          {kind: boolean},
	"secrets-encryption":                {kind: boolean, role: Server},
	"selinux":                           {kind: boolean},
	"service-node-port-range":           {role: Server},
	"servicelb-namespace":               {role: Server},
	"system-default-registry":           {role: Server},
	"tls-san-security":                  {kind: boolean, role: Server},
	"v":                                 {},
	"vmodule":                           {},
	"with-node-id":                      {kind: boolean},
	"write-kubeconfig-group":            {role: Server},
}
