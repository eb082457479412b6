// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package netpol enforces NetworkPolicies for the pods of one node.
//
// Compute turns policies, pods and namespaces into rules, render makes text for iptables and ipset of them, Kernel applies it,
// and Controller does so whenever the cluster changes. Both directions of a pod are judged on the pod's own node.
package netpol

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Pod is what matters of a pod that has an address of its own.
type Pod struct {
	Namespace, Name, Node string
	IP                    netip.Addr
	Labels                labels.Set
	Ports                 []NamedPort
}

// NamedPort is a port of a container that policies may name.
type NamedPort struct {
	Name     string
	Protocol corev1.Protocol
	Number   int32
}

// State is what the rules follow from.
type State struct {
	Pods       []Pod
	Namespaces map[string]labels.Set
	Policies   []*networkingv1.NetworkPolicy
}

// Rules is what one node enforces. Sets and chains are named by their content: equal ones are shared, and none ever changes.
type Rules struct {
	Sets     map[string][]netip.Prefix
	Chains   map[string][]Allow
	Isolated []Isolated
}

// Isolated is a pod that policies apply to; a direction without a chain is open.
type Isolated struct {
	IP              netip.Addr
	Ingress, Egress string
}

// Allow lets packets pass; an empty field means any.
type Allow struct {
	Set      string // of the other side's addresses
	Protocol string
	Ports    string // one, or the first and the last with a colon
}

const (
	ingress = networkingv1.PolicyTypeIngress
	egress  = networkingv1.PolicyTypeEgress
)

// Compute says what the node has to enforce. What cannot be understood allows nothing and is told in the error; the rules hold all the same.
func Compute(node string, s State) (Rules, error) {
	c := computation{
		state:      s,
		namespaces: map[string][]Pod{},
		rules:      Rules{Sets: map[string][]netip.Prefix{}, Chains: map[string][]Allow{}},
	}
	for _, p := range s.Pods {
		c.namespaces[p.Namespace] = append(c.namespaces[p.Namespace], p)
	}
	isolated := map[netip.Addr]*isolation{}
	for _, policy := range s.Policies {
		c.policy(node, policy, isolated)
	}
	for ip, i := range isolated {
		found := Isolated{IP: ip, Ingress: c.chain(chainPrefix+"I-", i.ingress), Egress: c.chain(chainPrefix+"E-", i.egress)}
		if found.Ingress != "" || found.Egress != "" {
			c.rules.Isolated = append(c.rules.Isolated, found)
		}
	}
	slices.SortFunc(c.rules.Isolated, func(a, b Isolated) int { return a.IP.Compare(b.IP) })
	c.dropUnusedSets()
	return c.rules, errors.Join(c.problems...)
}

type computation struct {
	state      State
	namespaces map[string][]Pod
	rules      Rules
	problems   []error
}

// isolation collects what the policies of a pod allow; nil: no policy applies in that direction.
type isolation struct {
	ingress, egress []Allow
}

func (c *computation) policy(node string, policy *networkingv1.NetworkPolicy, isolated map[netip.Addr]*isolation) {
	problem := func(err error) {
		c.problems = append(c.problems, fmt.Errorf("NetworkPolicy %s/%s: %w", policy.Namespace, policy.Name, err))
	}
	selected, err := c.pods(policy.Namespace, &policy.Spec.PodSelector)
	if err != nil {
		problem(err)
		return
	}
	selected = slices.DeleteFunc(selected, func(p Pod) bool { return p.Node != node })
	if len(selected) == 0 {
		return
	}
	into, outOf := directions(policy)
	var incoming []rule
	allowed := []Allow{}
	if into {
		for _, r := range policy.Spec.Ingress {
			incoming = append(incoming, c.rule(policy.Namespace, r.From, r.Ports, problem))
		}
	}
	if outOf {
		for _, r := range policy.Spec.Egress {
			allowed = append(allowed, c.egress(c.rule(policy.Namespace, r.To, r.Ports, problem))...)
		}
	}
	for _, p := range selected {
		i := isolated[p.IP]
		if i == nil {
			i = &isolation{}
			isolated[p.IP] = i
		}
		if into {
			i.ingress = append(orEmpty(i.ingress), c.ingressOfAll(incoming, p)...)
		}
		if outOf {
			i.egress = append(orEmpty(i.egress), allowed...)
		}
	}
}

func orEmpty(allowed []Allow) []Allow {
	if allowed == nil {
		return []Allow{}
	}
	return allowed
}

// directions that the policy isolates. The API server fills in policyTypes; without them, the rule that it has is applied here.
func directions(policy *networkingv1.NetworkPolicy) (into, outOf bool) {
	types := policy.Spec.PolicyTypes
	if len(types) == 0 {
		return true, len(policy.Spec.Egress) > 0
	}
	return slices.Contains(types, ingress), slices.Contains(types, egress)
}

// rule is a rule of a policy with its peers looked up.
type rule struct {
	anyPeer bool
	pods    []Pod
	blocks  []netip.Prefix
	ports   []networkingv1.NetworkPolicyPort
}

func (c *computation) rule(namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, problem func(error)) rule {
	r := rule{anyPeer: len(peers) == 0, ports: ports}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			blocks, err := addresses(peer.IPBlock)
			if err != nil {
				problem(err)
			}
			r.blocks = append(r.blocks, blocks...)
			continue
		}
		pods, err := c.peerPods(namespace, peer)
		if err != nil {
			problem(err)
		}
		r.pods = append(r.pods, pods...)
	}
	return r
}

func (c *computation) peerPods(namespace string, peer networkingv1.NetworkPolicyPeer) ([]Pod, error) {
	podSelector := peer.PodSelector
	if podSelector == nil {
		podSelector = &metav1.LabelSelector{}
	}
	if peer.NamespaceSelector == nil {
		return c.pods(namespace, podSelector)
	}
	selector, err := metav1.LabelSelectorAsSelector(peer.NamespaceSelector)
	if err != nil {
		return nil, fmt.Errorf("namespaceSelector: %w", err)
	}
	var found []Pod
	for name := range c.namespaces {
		if !selector.Matches(c.state.Namespaces[name]) {
			continue
		}
		pods, err := c.pods(name, podSelector)
		if err != nil {
			return nil, err
		}
		found = append(found, pods...)
	}
	return found, nil
}

func (c *computation) pods(namespace string, s *metav1.LabelSelector) ([]Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, fmt.Errorf("podSelector: %w", err)
	}
	var found []Pod
	for _, p := range c.namespaces[namespace] {
		if selector.Matches(p.Labels) {
			found = append(found, p)
		}
	}
	return found, nil
}

func (c *computation) ingressOfAll(rules []rule, pod Pod) []Allow {
	var allowed []Allow
	for _, r := range rules {
		allowed = append(allowed, c.ingress(r, pod)...)
	}
	return allowed
}

// ingress is what the rule allows into the pod; names of ports are those of the pod.
func (c *computation) ingress(r rule, pod Pod) []Allow {
	set, ok := c.peers(r)
	if !ok {
		return nil
	}
	if len(r.ports) == 0 {
		return []Allow{{Set: set}}
	}
	var allowed []Allow
	for _, port := range r.ports {
		if name, protocol, named := nameOf(port); named {
			for _, number := range pod.numbers(name, protocol) {
				allowed = append(allowed, Allow{set, protocolText(protocol), strconv.Itoa(int(number))})
			}
			continue
		}
		allowed = append(allowed, numeric(set, port))
	}
	return allowed
}

// egress is what the rule allows out of a pod; names of ports are those of the pods that it goes to.
func (c *computation) egress(r rule) []Allow {
	set, ok := c.peers(r)
	if !ok {
		return nil
	}
	if len(r.ports) == 0 {
		return []Allow{{Set: set}}
	}
	var allowed []Allow
	for _, port := range r.ports {
		name, protocol, named := nameOf(port)
		if !named {
			allowed = append(allowed, numeric(set, port))
			continue
		}
		pods := r.pods
		if r.anyPeer {
			pods = c.state.Pods
		}
		byNumber := map[int32][]netip.Prefix{}
		for _, p := range pods {
			for _, number := range p.numbers(name, protocol) {
				byNumber[number] = append(byNumber[number], host(p.IP))
			}
		}
		for number, addresses := range byNumber {
			allowed = append(allowed, Allow{c.set(addresses), protocolText(protocol), strconv.Itoa(int(number))})
		}
	}
	return allowed
}

func (p Pod) numbers(name string, protocol corev1.Protocol) []int32 {
	var found []int32
	for _, port := range p.Ports {
		if port.Name == name && port.Protocol == protocol {
			found = append(found, port.Number)
		}
	}
	return found
}

func nameOf(port networkingv1.NetworkPolicyPort) (name string, protocol corev1.Protocol, named bool) {
	protocol = corev1.ProtocolTCP
	if port.Protocol != nil {
		protocol = *port.Protocol
	}
	if port.Port != nil && port.Port.Type == intstr.String {
		return port.Port.StrVal, protocol, true
	}
	return "", protocol, false
}

func numeric(set string, port networkingv1.NetworkPolicyPort) Allow {
	_, protocol, _ := nameOf(port)
	a := Allow{Set: set, Protocol: protocolText(protocol)}
	if port.Port != nil {
		a.Ports = strconv.Itoa(int(port.Port.IntVal))
		if port.EndPort != nil && *port.EndPort != port.Port.IntVal {
			a.Ports += ":" + strconv.Itoa(int(*port.EndPort))
		}
	}
	return a
}

func protocolText(p corev1.Protocol) string { return strings.ToLower(string(p)) }

// peers is the set of the rule's peers, empty for any; ok is false where there are none.
func (c *computation) peers(r rule) (name string, ok bool) {
	if r.anyPeer {
		return "", true
	}
	addresses := slices.Clone(r.blocks)
	for _, p := range r.pods {
		addresses = append(addresses, host(p.IP))
	}
	if len(addresses) == 0 {
		return "", false
	}
	return c.set(addresses), true
}

func host(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }

func (c *computation) set(addresses []netip.Prefix) string {
	slices.SortFunc(addresses, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	addresses = slices.Compact(addresses)
	name := contentName(setPrefix, addresses)
	c.rules.Sets[name] = addresses
	return name
}

// chain is the name of what allows exactly this, empty if that is everything.
func (c *computation) chain(prefix string, allowed []Allow) string {
	if allowed == nil || slices.Contains(allowed, Allow{}) {
		return ""
	}
	slices.SortFunc(allowed, func(a, b Allow) int {
		return cmp.Or(cmp.Compare(a.Set, b.Set), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Ports, b.Ports))
	})
	allowed = slices.Compact(allowed)
	name := contentName(prefix, allowed)
	c.rules.Chains[name] = allowed
	return name
}

// dropUnusedSets forgets sets whose rules are in no chain, because the pod is open by another rule.
func (c *computation) dropUnusedSets() {
	used := map[string]bool{}
	for _, chain := range c.rules.Chains {
		for _, a := range chain {
			used[a.Set] = true
		}
	}
	for name := range c.rules.Sets {
		if !used[name] {
			delete(c.rules.Sets, name)
		}
	}
}

func contentName(prefix string, content any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(content)))
	return prefix + hex.EncodeToString(sum[:6])
}
