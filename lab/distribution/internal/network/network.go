// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package network connects the pods of all nodes: a bridge on each node and one VXLAN between them.
//
// The VXLAN is static: every node knows from the API which node owns which pod network, and the MAC of a node's VXLAN
// device follows from the node's address. Packets keep their sources.
package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"

	"homelab.gpu/lab/distribution/internal/atomicfile"
)

// The device has the name that flannel uses on K3s, so that the same clean-up finds it.
const (
	Device   = "flannel.1"
	vni      = 1
	port     = 8472
	overhead = 50
	confName = "10-lab.conflist"
)

// Peer is a node of the pod network.
type Peer struct {
	IP   net.IP
	Pods *net.IPNet
}

// PeerOf reads what a node says about itself; ok is false while it is not known yet.
func PeerOf(n *corev1.Node) (p Peer, ok bool) {
	_, pods, err := net.ParseCIDR(n.Spec.PodCIDR)
	if err != nil {
		return p, false
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			if ip := net.ParseIP(a.Address).To4(); ip != nil {
				return Peer{ip, pods}, true
			}
		}
	}
	return p, false
}

// mac of a node's VXLAN device.
func mac(ip net.IP) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0x42}, ip.To4()...)
}

// Network is the pod network seen from one node.
type Network struct {
	NodeIP      net.IP
	ClusterCIDR *net.IPNet
	CNIDir      string

	link  netlink.Link
	peers map[string]Peer // by pod network
}

// SetUp makes the VXLAN device, the masquerading and the CNI configuration for the node's own pod network.
func (n *Network) SetUp(own Peer) error {
	parent, err := linkOf(n.NodeIP)
	if err != nil {
		return err
	}
	mtu := parent.Attrs().MTU - overhead
	if n.link, err = ensureVXLAN(n.NodeIP, parent, mtu); err != nil {
		return fmt.Errorf("%s: %w", Device, err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: own.Pods.IP, Mask: net.CIDRMask(32, 32)}}
	existing, err := netlink.AddrList(n.link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range existing {
		if !a.Equal(*address) {
			if err := netlink.AddrDel(n.link, &a); err != nil {
				return fmt.Errorf("%s: remove %s: %w", Device, a, err)
			}
		}
	}
	if err := netlink.AddrReplace(n.link, address); err != nil {
		return fmt.Errorf("%s: address %s: %w", Device, address, err)
	}
	if err := n.loadPeers(); err != nil {
		return err
	}
	if err := ensureFirewall(utiliptables.New(utiliptables.ProtocolIPv4), n.ClusterCIDR.String()); err != nil {
		return fmt.Errorf("iptables: %w", err)
	}
	return n.writeCNI(own.Pods, mtu)
}

// loadPeers takes over the routes of an earlier run, so that those of nodes that are gone are removed.
func (n *Network) loadPeers() error {
	n.peers = map[string]Peer{}
	routes, err := netlink.RouteList(n.link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("routes of %s: %w", Device, err)
	}
	for _, r := range routes {
		if r.Dst != nil && r.Gw != nil {
			n.peers[r.Dst.String()] = Peer{Pods: r.Dst}
		}
	}
	return nil
}

// Sync makes routes, neighbours and forwarding entries for exactly these peers.
func (n *Network) Sync(peers []Peer) error {
	wanted := map[string]Peer{}
	var errs []error
	for _, p := range peers {
		if p.IP.Equal(n.NodeIP) {
			continue
		}
		wanted[p.Pods.String()] = p
		errs = append(errs, n.add(p))
	}
	for key, p := range n.peers {
		if w, ok := wanted[key]; !ok || p.IP != nil && !w.IP.Equal(p.IP) {
			errs = append(errs, n.remove(p, ok))
		}
	}
	n.peers = wanted
	return errors.Join(errs...)
}

func (n *Network) add(p Peer) error {
	index := n.link.Attrs().Index
	gateway := p.Pods.IP
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, Type: unix.RTN_UNICAST, IP: gateway, HardwareAddr: mac(p.IP)}); err != nil {
		return fmt.Errorf("neighbour %s: %w", gateway, err)
	}
	if err := netlink.NeighSet(forwarding(index, p.IP)); err != nil {
		return fmt.Errorf("forwarding entry for %s: %w", p.IP, err)
	}
	route := &netlink.Route{LinkIndex: index, Dst: p.Pods, Gw: gateway, Flags: int(netlink.FLAG_ONLINK)}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route to %s: %w", p.Pods, err)
	}
	return nil
}

func forwarding(index int, ip net.IP) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, Family: syscall.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF, IP: ip, HardwareAddr: mac(ip)}
}

// remove undoes add; keepRoute says that another node took the pod network over.
func (n *Network) remove(p Peer, keepRoute bool) error {
	index := n.link.Attrs().Index
	if p.IP != nil {
		if err := netlink.NeighDel(forwarding(index, p.IP)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forwarding entry for %s: %w", p.IP, err)
		}
	}
	if keepRoute {
		return nil
	}
	if err := netlink.RouteDel(&netlink.Route{LinkIndex: index, Dst: p.Pods}); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("route to %s: %w", p.Pods, err)
	}
	return nil
}

func linkOf(ip net.IP) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if a.IP.Equal(ip) {
				return link, nil
			}
		}
	}
	return nil, fmt.Errorf("no network interface has the node's address %s; set node-ip to an address of this host", ip)
}

func ensureVXLAN(ip net.IP, parent netlink.Link, mtu int) (netlink.Link, error) {
	wanted := &netlink.Vxlan{
		LinkAttrs:    netlink.LinkAttrs{Name: Device, MTU: mtu, HardwareAddr: mac(ip)},
		VxlanId:      vni,
		VtepDevIndex: parent.Attrs().Index,
		SrcAddr:      ip,
		Port:         port,
		Learning:     false,
	}
	link, err := netlink.LinkByName(Device)
	if err == nil {
		if v, ok := link.(*netlink.Vxlan); !ok || v.VxlanId != vni || v.Port != port || !v.SrcAddr.Equal(ip) || v.VtepDevIndex != parent.Attrs().Index {
			if err := netlink.LinkDel(link); err != nil {
				return nil, fmt.Errorf("remove the former device: %w", err)
			}
			link = nil
		}
	} else if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, err
	}
	if err != nil || link == nil {
		if err := netlink.LinkAdd(wanted); err != nil {
			return nil, err
		}
		if link, err = netlink.LinkByName(Device); err != nil {
			return nil, err
		}
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return nil, err
	}
	return link, netlink.LinkSetUp(link)
}

// writeCNI tells containerd how to connect pods. forceAddress: a node that joins anew may get another pod network.
func (n *Network) writeCNI(pods *net.IPNet, mtu int) error {
	conf := map[string]any{
		"cniVersion": "1.0.0",
		"name":       "cbr0",
		"plugins": []map[string]any{
			{
				"type": "bridge", "bridge": "cni0", "mtu": mtu, "isDefaultGateway": true, "forceAddress": true, "hairpinMode": true,
				"ipam": map[string]any{"type": "host-local", "ranges": [][]map[string]string{{{"subnet": pods.String()}}}},
			},
			{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}
	b, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(n.CNIDir, confName), append(b, '\n'), 0o644)
}

// bridgeFilter has packets that pass the pods' bridge seen by iptables.
const bridgeFilter = "net/bridge/bridge-nf-call-iptables"

// FiltersBridge tells whether iptables sees what pods of this node send each other.
func FiltersBridge() bool {
	b, err := os.ReadFile(filepath.Join("/proc/sys", bridgeFilter))
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// PrepareHost switches on what pods need and the host may have off. Modules may be built in or out of reach: only sysctls count.
func PrepareHost() []error {
	var errs []error
	for _, s := range []struct {
		name  string
		value string
		must  bool
	}{
		{"net/ipv4/ip_forward", "1", true},
		{"net/ipv4/conf/all/forwarding", "1", true},
		{"net/ipv4/conf/default/forwarding", "1", true},
		{bridgeFilter, "1", false},
	} {
		path := filepath.Join("/proc/sys", s.name)
		b, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(b)) == s.value {
			continue
		}
		if err == nil {
			err = os.WriteFile(path, []byte(s.value), 0o644)
		}
		if err != nil && (s.must || !errors.Is(err, os.ErrNotExist)) {
			errs = append(errs, fmt.Errorf("set %s to %s: %w", s.name, s.value, err))
		}
	}
	return errs
}
