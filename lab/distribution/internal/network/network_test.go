// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package network

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	iptables "k8s.io/kubernetes/pkg/util/iptables"
	iptablestesting "k8s.io/kubernetes/pkg/util/iptables/testing"
)

func node(name, cidr string, addresses ...corev1.NodeAddress) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr}, Status: corev1.NodeStatus{Addresses: addresses}}
}

func TestPeerOf(t *testing.T) {
	internal := corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}
	for name, tt := range map[string]struct {
		node *corev1.Node
		want string
	}{
		"complete":           {node("n", "10.42.1.0/24", internal), "192.0.2.7 10.42.1.0/24"},
		"no pod network yet": {node("n", "", internal), ""},
		"no address yet":     {node("n", "10.42.1.0/24"), ""},
		"host name first":    {node("n", "10.42.1.0/24", corev1.NodeAddress{Type: corev1.NodeHostName, Address: "n"}, internal), "192.0.2.7 10.42.1.0/24"},
		"IPv6 first":         {node("n", "10.42.1.0/24", corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::1"}, internal), "192.0.2.7 10.42.1.0/24"},
	} {
		p, ok := PeerOf(tt.node)
		got := ""
		if ok {
			got = p.IP.String() + " " + p.Pods.String()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestMACFollowsFromTheAddress(t *testing.T) {
	a, b := mac(net.ParseIP("192.0.2.7")), mac(net.ParseIP("192.0.2.8"))
	if a.String() != "02:42:c0:00:02:07" || b.String() == a.String() {
		t.Errorf("%s, %s", a, b)
	}
}

func TestWriteCNI(t *testing.T) {
	dir := t.TempDir()
	_, pods, _ := net.ParseCIDR("10.42.3.0/24")
	n := &Network{CNIDir: dir}
	if err := n.writeCNI(pods, 1450); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, confName))
	if err != nil {
		t.Fatal(err)
	}
	var conf struct {
		CNIVersion string
		Name       string
		Plugins    []struct {
			Type         string
			Bridge       string
			MTU          int
			IPMasq       bool
			ForceAddress bool
			IPAM         struct {
				Type   string
				Ranges [][]struct{ Subnet string }
			}
		}
	}
	if err := json.Unmarshal(b, &conf); err != nil {
		t.Fatal(err)
	}
	bridge := conf.Plugins[0]
	if bridge.Type != "bridge" || bridge.Bridge != "cni0" || bridge.MTU != 1450 || bridge.IPMasq || !bridge.ForceAddress || bridge.IPAM.Ranges[0][0].Subnet != "10.42.3.0/24" {
		t.Errorf("%s", b)
	}
	if conf.Plugins[1].Type != "portmap" {
		t.Errorf("host ports need portmap: %s", b)
	}
}

func TestFirewall(t *testing.T) {
	ipt := iptablestesting.NewFake()
	for range 2 { // a second start leaves one of each
		if err := ensureFirewall(ipt, "10.42.0.0/16"); err != nil {
			t.Fatal(err)
		}
	}
	var nat, filter strings.Builder
	for table, out := range map[iptables.Table]*strings.Builder{iptables.TableNAT: &nat, iptables.TableFilter: &filter} {
		for _, chain := range ipt.Dump.Tables {
			if chain.Name != table {
				continue
			}
			for _, c := range chain.Chains {
				for _, r := range c.Rules {
					out.WriteString(r.Raw + "\n")
				}
			}
		}
	}
	lines := strings.Split(strings.TrimSpace(nat.String()), "\n")
	back := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "-j RETURN") })
	masquerade := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "-j MASQUERADE") })
	if back < 0 || masquerade < back {
		t.Errorf("packets between pods must keep their sources:\n%s", nat.String())
	}
	for text, where := range map[string]string{"-j FLANNEL-POSTRTG": nat.String(), "-j FLANNEL-FWD": filter.String(), "-d 10.42.0.0/16": filter.String()} {
		if strings.Count(where, text) != 1 {
			t.Errorf("%d times %q in\n%s", strings.Count(where, text), text, where)
		}
	}
}
