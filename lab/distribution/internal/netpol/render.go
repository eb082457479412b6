// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package netpol

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Everything here has the beginning that kube-router's chains have on K3s, so that the same clean-up finds it.
const (
	prefix       = "KUBE-ROUTER-"
	chainPrefix  = prefix
	setPrefix    = prefix + "S-"
	forwardChain = prefix + "FORWARD"
	inputChain   = prefix + "INPUT"
)

// hooks are the chains of the kernel that jump to ours. Packets from the node itself, kubelet's probes among them, take neither way to a pod.
var hooks = []struct{ from, to string }{{"FORWARD", forwardChain}, {"INPUT", inputChain}}

const (
	established = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
	refuse      = "-j REJECT --reject-with icmp-port-unreachable"
)

// renderSets is input for `ipset -exist restore`.
func renderSets(r Rules) []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Sets)) {
		fmt.Fprintf(&b, "create %s hash:net family inet hashsize 64 maxelem 1048576\n", name)
		for _, p := range r.Sets[name] {
			fmt.Fprintf(&b, "add %s %s\n", name, p)
		}
	}
	return []byte(b.String())
}

// renderFilter is input for `iptables-restore --noflush`: one transaction from what iptables-save has shown to the rules.
func renderFilter(r Rules, saved string) []byte {
	chains := append([]string{forwardChain, inputChain}, slices.Sorted(maps.Keys(r.Chains))...)
	there, jumps := ours(saved)
	stale := slices.DeleteFunc(there, func(name string) bool { return slices.Contains(chains, name) })
	var b strings.Builder
	begin(&b, append(chains, stale...), jumps)
	for _, h := range hooks {
		// First of all, or others that accept packets would do so before
		fmt.Fprintf(&b, "-I %s 1 -m comment --comment \"network policies: lab distribution\" -j %s\n", h.from, h.to)
		fmt.Fprintf(&b, "-A %s %s\n", h.to, established)
	}
	for _, pod := range r.Isolated {
		// No policy keeps a pod from itself, to which it comes by its Service
		fmt.Fprintf(&b, "-A %s -s %s/32 -d %s/32 -j RETURN\n", forwardChain, pod.IP, pod.IP)
	}
	for _, pod := range r.Isolated {
		if pod.Egress != "" {
			fmt.Fprintf(&b, "-A %s -s %s/32 -j %s\n", forwardChain, pod.IP, pod.Egress)
			fmt.Fprintf(&b, "-A %s -s %s/32 -j %s\n", inputChain, pod.IP, pod.Egress)
		}
	}
	for _, pod := range r.Isolated {
		if pod.Ingress != "" {
			fmt.Fprintf(&b, "-A %s -d %s/32 -j %s\n", forwardChain, pod.IP, pod.Ingress)
		}
	}
	for _, name := range chains[len(hooks):] {
		side := "dst"
		if strings.HasPrefix(name, chainPrefix+"I-") {
			side = "src"
		}
		for _, a := range r.Chains[name] {
			fmt.Fprintf(&b, "-A %s %s-j RETURN\n", name, match(a, side))
		}
		fmt.Fprintf(&b, "-A %s %s\n", name, refuse)
	}
	end(&b, stale)
	return []byte(b.String())
}

// renderRemoval is the transaction that removes all chains and jumps, nil if there are none.
func renderRemoval(saved string) []byte {
	there, jumps := ours(saved)
	if len(there) == 0 && len(jumps) == 0 {
		return nil
	}
	var b strings.Builder
	begin(&b, there, jumps)
	end(&b, there)
	return []byte(b.String())
}

func begin(b *strings.Builder, chains, jumps []string) {
	b.WriteString("*filter\n")
	for _, name := range chains {
		fmt.Fprintf(b, ":%s - [0:0]\n", name)
	}
	for _, jump := range jumps {
		fmt.Fprintf(b, "-D %s\n", jump)
	}
}

func end(b *strings.Builder, remove []string) {
	for _, name := range remove {
		fmt.Fprintf(b, "-X %s\n", name)
	}
	b.WriteString("COMMIT\n")
}

func match(a Allow, side string) string {
	text := ""
	if a.Set != "" {
		text += "-m set --match-set " + a.Set + " " + side + " "
	}
	if a.Protocol != "" {
		text += "-p " + a.Protocol + " "
	}
	if a.Ports != "" {
		// multiport knows SCTP without a module of its own
		text += "-m multiport --dports " + a.Ports + " "
	}
	return text
}

// ours finds our chains, and the rules of others that jump to them, in what iptables-save says.
func ours(saved string) (chains, jumps []string) {
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, ":"); ok && strings.HasPrefix(name, prefix) {
			name, _, _ = strings.Cut(name, " ")
			chains = append(chains, name)
		}
		if jump, ok := strings.CutPrefix(line, "-A "); ok && !strings.HasPrefix(jump, prefix) && strings.Contains(jump, " -j "+prefix) {
			jumps = append(jumps, jump)
		}
	}
	return chains, jumps
}
