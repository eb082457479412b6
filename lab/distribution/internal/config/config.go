// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package config reads configuration files, environment and command line into one Config.
//
// Precedence, lowest first: defaults, environment, config.yaml, config.yaml.d/*.yaml in alphabetical order, command line.
package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"homelab.gpu/lab/distribution/internal/token"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"
)

// Fixed places.
const (
	DefaultFile         = "/etc/rancher/k3s/config.yaml"
	DefaultDataDir      = "/var/lib/rancher/k3s"
	DefaultKubeconfig   = "/etc/rancher/k3s/k3s.yaml"
	DefaultRegistries   = "/etc/rancher/k3s/registries.yaml"
	DefaultPauseImage   = "localhost/homelab-lab/pause:1"
	Port                = 6443
	defaultClusterCIDR  = "10.42.0.0/16"
	defaultServiceCIDR  = "10.43.0.0/16"
	defaultDomain       = "cluster.local"
	defaultStoragePath  = "storage"
	defaultKubeconfMode = "0600"
)

// Config is the configuration of one node.
type Config struct {
	Role    string
	DataDir string
	Debug   bool

	Token          string
	TokenFile      string
	AgentToken     string
	AgentTokenFile string
	ServerURL      string

	NodeName   string
	NodeIPs    []string
	NodeIP     string
	NodeLabels []string
	NodeTaints []string

	DefaultRuntime  string
	Snapshotter     string
	PauseImage      string
	ResolvConf      string
	PrivateRegistry string

	DisableDefaultRegistryEndpoint bool

	AdvertiseAddress string
	TLSSANs          []string
	KubeconfigPath   string
	KubeconfigMode   os.FileMode
	ClusterCIDR      string
	ServiceCIDR      string
	ClusterDNS       string
	ClusterDomain    string
	LocalStoragePath string
	Disable          []string

	DisableNetworkPolicy bool

	EtcdArgs              []string
	APIServerArgs         []string
	ControllerManagerArgs []string
	SchedulerArgs         []string
	KubeletArgs           []string
	KubeProxyArgs         []string

	// Warnings are about keys that were skipped or have no effect.
	Warnings []string

	kubeconfigMode string
	clusterCIDRs   []string
	serviceCIDRs   []string
	clusterDNS     []string
}

// Load builds the configuration from a command line (without program and role), the environment and the files.
func Load(role string, args []string, getenv func(string) string) (*Config, error) {
	flags, file, err := parseArgs(role, args)
	if err != nil {
		return nil, err
	}
	if file == "" {
		file = getenv("K3S_CONFIG_FILE")
	}
	mustExist := file != ""
	if file == "" {
		file = DefaultFile
	}
	merged, err := readFiles(file, mustExist)
	if err != nil {
		return nil, err
	}
	c := &Config{Role: role}
	for name, o := range options {
		if o.env != "" && (o.role == "" || o.role == role) {
			if v := getenv(o.env); v != "" {
				if err := c.set(name, o, []string{v}); err != nil {
					return nil, fmt.Errorf("environment variable %s: %w", o.env, err)
				}
			}
		}
	}
	for _, name := range slices.Sorted(mapKeys(merged)) {
		o, known := options[name]
		switch {
		case !known || o.role != "" && o.role != role:
			c.warn("unknown flag --%s found in config file, skipping", name)
			continue
		case o.bind == nil:
			c.warn("%s is accepted without effect", name)
			continue
		}
		if err := c.set(name, o, merged[name]); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, name := range slices.Sorted(mapKeys(flags)) {
		if err := c.set(name, options[name], flags[name]); err != nil {
			return nil, fmt.Errorf("command line: %w", err)
		}
	}
	return c, nil
}

func mapKeys(m map[string][]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (c *Config) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

func (c *Config) set(name string, o option, values []string) error {
	if o.bind == nil {
		c.warn("%s is accepted without effect", name)
		return nil
	}
	if len(values) == 0 {
		return nil
	}
	last := values[len(values)-1]
	switch p := o.bind(c).(type) {
	case *string:
		*p = last
	case *bool:
		b, err := strconv.ParseBool(last)
		if err != nil {
			return fmt.Errorf("%s: %q is not a boolean; use true or false", name, last)
		}
		*p = b
	case *[]string:
		*p = nil
		for _, v := range values {
			if o.kind != commaList {
				*p = append(*p, v)
				continue
			}
			for _, part := range strings.Split(v, ",") {
				if part = strings.TrimSpace(part); part != "" {
					*p = append(*p, part)
				}
			}
		}
	}
	return nil
}

// Complete fills in what was not set and refuses what cannot work.
func (c *Config) Complete() error {
	setDefault(&c.DataDir, DefaultDataDir)
	setDefault(&c.PrivateRegistry, DefaultRegistries)
	setDefault(&c.PauseImage, DefaultPauseImage)
	if c.Role == Server {
		setDefault(&c.KubeconfigPath, DefaultKubeconfig)
		setDefault(&c.kubeconfigMode, defaultKubeconfMode)
		setDefault(&c.ClusterDomain, defaultDomain)
		setDefault(&c.LocalStoragePath, filepath.Join(c.DataDir, defaultStoragePath))
	}
	abs, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("data-dir %q: %w", c.DataDir, err)
	}
	c.DataDir = abs
	if err := c.completeNode(); err != nil {
		return err
	}
	if err := c.readTokenFiles(); err != nil {
		return err
	}
	if c.Role == Agent {
		return c.completeAgent()
	}
	return c.completeServer()
}

func setDefault(p *string, value string) {
	if *p == "" {
		*p = value
	}
}

func (c *Config) completeNode() error {
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("node-name is not set and the host name cannot be read: %w", err)
		}
		c.NodeName = name
	}
	c.NodeName = strings.ToLower(c.NodeName)
	if errs := validation.IsDNS1123Subdomain(c.NodeName); len(errs) > 0 {
		return fmt.Errorf("node-name %q: %s", c.NodeName, strings.Join(errs, "; "))
	}
	switch len(c.NodeIPs) {
	case 0:
		ip, err := utilnet.ChooseHostInterface()
		if err != nil {
			return fmt.Errorf("node-ip is not set and no default route tells it: %w", err)
		}
		c.NodeIP = ip.String()
	case 1:
		c.NodeIP = c.NodeIPs[0]
	default:
		return fmt.Errorf("node-ip %s: only one address is supported", strings.Join(c.NodeIPs, ","))
	}
	if ip := net.ParseIP(c.NodeIP); ip == nil || ip.To4() == nil {
		return fmt.Errorf("node-ip %q is not an IPv4 address", c.NodeIP)
	}
	return nil
}

// readTokenFiles lets a file win over a token that is given directly, as K3s does.
func (c *Config) readTokenFiles() error {
	for _, t := range []struct {
		name  string
		value *string
		file  string
	}{{"token", &c.Token, c.TokenFile}, {"agent-token", &c.AgentToken, c.AgentTokenFile}} {
		if t.file == "" {
			continue
		}
		v, err := token.ReadFile(t.file)
		if err != nil {
			return fmt.Errorf("%s-file: %w", t.name, err)
		}
		*t.value = v
	}
	return nil
}

func (c *Config) completeAgent() error {
	if c.ServerURL == "" {
		return fmt.Errorf("--server is required: set server in %s, or K3S_URL", DefaultFile)
	}
	if c.Token == "" {
		return fmt.Errorf("--token is required: set token or token-file in %s, or K3S_TOKEN", DefaultFile)
	}
	u, err := url.Parse(c.ServerURL)
	if err != nil {
		return fmt.Errorf("server %q: %w", c.ServerURL, err)
	}
	if u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("server %q: use https://<address>:%d", c.ServerURL, Port)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(Port))
	}
	c.ServerURL = "https://" + u.Host
	if _, err := token.Parse(c.Token, token.NodeUser); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	return nil
}

func (c *Config) completeServer() error {
	if c.ServerURL != "" {
		return fmt.Errorf("server %q: joining further servers is not supported by the lab distribution; remove the key", c.ServerURL)
	}
	setDefault(&c.AdvertiseAddress, c.NodeIP)
	if net.ParseIP(c.AdvertiseAddress) == nil {
		return fmt.Errorf("advertise-address %q is not an IP address", c.AdvertiseAddress)
	}
	mode, err := strconv.ParseUint(c.kubeconfigMode, 8, 32)
	if err != nil || mode > 0o777 {
		return fmt.Errorf("write-kubeconfig-mode %q is not an octal file mode; quote it, as in \"0600\"", c.kubeconfigMode)
	}
	c.KubeconfigMode = os.FileMode(mode)
	if c.ClusterCIDR, err = oneCIDR("cluster-cidr", c.clusterCIDRs, defaultClusterCIDR); err != nil {
		return err
	}
	if c.ServiceCIDR, err = oneCIDR("service-cidr", c.serviceCIDRs, defaultServiceCIDR); err != nil {
		return err
	}
	switch len(c.clusterDNS) {
	case 0:
		if c.ClusterDNS, err = nthAddress(c.ServiceCIDR, 10); err != nil {
			return fmt.Errorf("service-cidr: %w", err)
		}
	case 1:
		c.ClusterDNS = c.clusterDNS[0]
	default:
		return fmt.Errorf("cluster-dns %s: only one address is supported", strings.Join(c.clusterDNS, ","))
	}
	if net.ParseIP(c.ClusterDNS) == nil {
		return fmt.Errorf("cluster-dns %q is not an IP address", c.ClusterDNS)
	}
	for name, value := range map[string]string{"token": c.Token, "agent-token": c.AgentToken} {
		if value == "" {
			continue
		}
		if _, err := token.Parse(value, token.ServerUser); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// APIServiceIP is the address of the Service kubernetes.default.
func (c *Config) APIServiceIP() (string, error) {
	return nthAddress(c.ServiceCIDR, 1)
}

func oneCIDR(name string, values []string, fallback string) (string, error) {
	switch len(values) {
	case 0:
		return fallback, nil
	case 1:
		ip, _, err := net.ParseCIDR(values[0])
		if err != nil || ip.To4() == nil {
			return "", fmt.Errorf("%s %q is not an IPv4 network such as %s", name, values[0], fallback)
		}
		return values[0], nil
	}
	return "", fmt.Errorf("%s %s: only one network is supported", name, strings.Join(values, ","))
}

func nthAddress(cidr string, n int) (string, error) {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		return "", err
	}
	ip, err := netutils.GetIndexedIP(network, n)
	if err != nil {
		return "", err
	}
	return ip.String(), nil
}
