// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package netpol

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	settle      = 50 * time.Millisecond  // changes come in groups
	pace        = 500 * time.Millisecond // from one application to the next, however much changes
	firstRepeat = 2 * time.Second        // kube-proxy, which starts at the same time, may put its jumps before ours
	repeat      = time.Minute            // others may have removed something
	patience    = 30 * time.Second
	unreachable = "network policies are not enforced yet: pods, namespaces and policies cannot be read"
	notApplied  = "network policies cannot be applied; the rules from before, if any, stay in force"
	halfApplied = "a network policy allows less than it says"
	enforced    = "network policies are enforced"
)

// Filter is what rules are given to.
type Filter interface {
	Apply(Rules) error
}

// Controller keeps the rules of a node as the cluster wants them.
type Controller struct {
	Node   string
	Client kubernetes.Interface
	Filter Filter

	changed    chan struct{}
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister
	problem    string
}

// Run follows the cluster until ctx ends. The rules stay then: pods go on without this program, too.
func (c *Controller) Run(ctx context.Context) error {
	c.changed, c.problem = make(chan struct{}, 1), unreachable
	factory := informers.NewSharedInformerFactoryWithOptions(c.Client, 0, informers.WithTransform(strip))
	pods, namespaces, policies := factory.Core().V1().Pods(), factory.Core().V1().Namespaces(), factory.Networking().V1().NetworkPolicies()
	c.pods, c.namespaces, c.policies = pods.Lister(), namespaces.Lister(), policies.Lister()
	synced := []cache.InformerSynced{pods.Informer().HasSynced, namespaces.Informer().HasSynced, policies.Informer().HasSynced}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { c.poke() },
			DeleteFunc: func(any) { c.poke() },
			UpdateFunc: func(before, after any) {
				if matters(before, after) {
					c.poke()
				}
			},
		}); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	late := time.AfterFunc(patience, func() { slog.Error(unreachable) })
	defer late.Stop()
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	late.Stop()
	c.loop(ctx)
	return nil
}

func (c *Controller) poke() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Controller) loop(ctx context.Context) {
	wait := firstRepeat
	for {
		drain(c.changed)
		failedBefore := c.problem != ""
		c.sync()
		if failed := c.problem != ""; failed != failedBefore {
			wait = firstRepeat
		}
		if !pause(ctx, pace) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
			if !pause(ctx, settle) {
				return
			}
		case <-time.After(wait):
			wait = min(2*wait, repeat)
		}
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// sync applies what the cluster wants now, and tells of problems when they begin, change and end.
func (c *Controller) sync() {
	began := time.Now()
	state, err := c.state()
	if err != nil {
		c.tell(notApplied, err)
		return
	}
	rules, doubts := Compute(c.Node, state)
	if err := c.Filter.Apply(rules); err != nil {
		c.tell(notApplied, err)
		return
	}
	slog.Debug("network policies", "policies", len(state.Policies), "isolated", len(rules.Isolated), "sets", len(rules.Sets), "took", time.Since(began))
	c.tell(halfApplied, doubts)
}

func (c *Controller) tell(what string, err error) {
	text := ""
	if err != nil {
		text = what + ": " + err.Error()
	}
	switch {
	case text == c.problem:
	case err != nil:
		slog.Error(what, "err", err)
	default:
		slog.Info(enforced)
	}
	c.problem = text
}

func (c *Controller) state() (State, error) {
	pods, podsErr := c.pods.List(labels.Everything())
	namespaces, namespacesErr := c.namespaces.List(labels.Everything())
	policies, policiesErr := c.policies.List(labels.Everything())
	if err := errors.Join(podsErr, namespacesErr, policiesErr); err != nil {
		return State{}, err
	}
	s := State{Namespaces: map[string]labels.Set{}, Policies: policies}
	for _, n := range namespaces {
		s.Namespaces[n.Name] = n.Labels
	}
	for _, p := range pods {
		if pod, ok := podOf(p); ok {
			s.Pods = append(s.Pods, pod)
		}
	}
	return s, nil
}

// podOf is false for pods that policies neither select nor mean: those with the node's address, without one yet, or that have ended,
// whose address may be another's by now.
func podOf(p *corev1.Pod) (Pod, bool) {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return Pod{}, false
	}
	pod := Pod{Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName, Labels: p.Labels}
	for _, address := range p.Status.PodIPs {
		if ip, err := netip.ParseAddr(address.IP); err == nil && ip.Is4() {
			pod.IP = ip
			break
		}
	}
	for _, container := range serving(p) {
		for _, port := range container.Ports {
			if port.Name == "" {
				continue
			}
			protocol := port.Protocol
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			pod.Ports = append(pod.Ports, NamedPort{port.Name, protocol, port.ContainerPort})
		}
	}
	return pod, pod.IP.IsValid()
}

// serving are the containers that live as long as the pod.
func serving(p *corev1.Pod) []corev1.Container {
	var found []corev1.Container
	for _, container := range p.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			found = append(found, container)
		}
	}
	return append(found, p.Spec.Containers...)
}

// strip keeps of objects what rules follow from: every node holds all pods in memory.
func strip(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		kept := &corev1.Pod{ObjectMeta: bare(o.ObjectMeta)}
		kept.Spec.NodeName, kept.Spec.HostNetwork = o.Spec.NodeName, o.Spec.HostNetwork
		for _, container := range serving(o) {
			if len(container.Ports) > 0 {
				kept.Spec.Containers = append(kept.Spec.Containers, corev1.Container{Ports: container.Ports})
			}
		}
		kept.Status.Phase, kept.Status.PodIPs = o.Status.Phase, o.Status.PodIPs
		return kept, nil
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: bare(o.ObjectMeta)}, nil
	case *networkingv1.NetworkPolicy:
		return &networkingv1.NetworkPolicy{ObjectMeta: bare(o.ObjectMeta), Spec: o.Spec}, nil
	}
	return object, nil
}

func bare(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Labels: m.Labels}
}

// matters is false for the many updates that change nothing of what is kept.
func matters(before, after any) bool {
	switch a := after.(type) {
	case *corev1.Pod:
		was, wasThere := podOf(before.(*corev1.Pod))
		is, isThere := podOf(a)
		return wasThere != isThere || isThere && !reflect.DeepEqual(was, is)
	case *corev1.Namespace:
		return !reflect.DeepEqual(before.(*corev1.Namespace).Labels, a.Labels)
	case *networkingv1.NetworkPolicy:
		return !reflect.DeepEqual(before.(*networkingv1.NetworkPolicy).Spec, a.Spec)
	}
	return true
}
