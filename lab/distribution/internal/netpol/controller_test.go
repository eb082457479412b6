// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package netpol

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

const bound = 30 * time.Second // only a failing test takes as long

func pod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"x": "y"}},
		Spec: corev1.PodSpec{NodeName: "1", Containers: []corev1.Container{
			{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {ContainerPort: 81}}},
		}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "fd00::1"}, {IP: "10.42.1.2"}}},
	}
	if change != nil {
		change(p)
	}
	return p
}

func TestPodOf(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	plain := Pod{"a", "p", "1", netip.MustParseAddr("10.42.1.2"), map[string]string{"app": "web"}, []NamedPort{{"http", "TCP", 80}}}
	sidecar := plain
	sidecar.Ports = []NamedPort{{"metrics", "UDP", 9}, {"http", "TCP", 80}}
	for name, tt := range map[string]struct {
		change func(*corev1.Pod)
		want   *Pod
	}{
		"running":                 {nil, &plain},
		"pending with an address": {func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }, &plain},
		"on its way out":          {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, &plain},
		"without an address":      {func(p *corev1.Pod) { p.Status.PodIPs = nil }, nil},
		"IPv6 only":               {func(p *corev1.Pod) { p.Status.PodIPs = p.Status.PodIPs[:1] }, nil},
		"the node's address":      {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, nil},
		"failed":                  {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, nil},
		"succeeded":               {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, nil},
		"a sidecar": {func(p *corev1.Pod) {
			ports := []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9, Protocol: corev1.ProtocolUDP}}
			p.Spec.InitContainers = []corev1.Container{{Ports: ports, RestartPolicy: &always}, {Ports: ports}}
		}, &sidecar},
	} {
		got, ok := podOf(pod(tt.change))
		if ok != (tt.want != nil) || ok && !reflect.DeepEqual(got, *tt.want) {
			t.Errorf("%s: got %+v, %v", name, got, ok)
		}
		small, err := strip(pod(tt.change))
		if err != nil {
			t.Fatal(err)
		}
		if after, stillOK := podOf(small.(*corev1.Pod)); stillOK != ok || ok && !reflect.DeepEqual(after, got) {
			t.Errorf("%s: %+v once stripped", name, after)
		}
		again, err := strip(small)
		if err != nil || !reflect.DeepEqual(again, small) {
			t.Errorf("%s: stripped twice: %+v, %v", name, again, err)
		}
	}
}

func TestMatters(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"nothing":        {nil, false},
		"a condition":    {func(p *corev1.Pod) { p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady}} }, false},
		"an annotation":  {func(p *corev1.Pod) { p.Annotations["x"] = "z" }, false},
		"its phase only": {func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }, false},
		"its end":        {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, true},
		"its address":    {func(p *corev1.Pod) { p.Status.PodIPs[1].IP = "10.42.1.3" }, true},
		"a label":        {func(p *corev1.Pod) { p.Labels["app"] = "other" }, true},
	} {
		if got := matters(pod(nil), pod(tt.change)); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// filter hands over what it is given.
type filter chan Rules

func (f filter) Apply(r Rules) error {
	f <- r
	return nil
}

func TestControllerFollowsTheCluster(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, pod(nil))
	f := make(filter)
	c := &Controller{Node: "1", Client: client, Filter: f}
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	expectIsolated := func(what string, want int) {
		t.Helper()
		limit := time.After(bound)
		for {
			select {
			case r := <-f:
				if len(r.Isolated) == want {
					return
				}
			case <-limit:
				t.Fatalf("%s: never %d isolated pods", what, want)
			}
		}
	}
	expectIsolated("without a policy", 0)
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "deny"}}
	if _, err := client.NetworkingV1().NetworkPolicies("a").Create(ctx, policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expectIsolated("with a policy", 1)
	second := pod(func(p *corev1.Pod) { p.Name, p.Status.PodIPs = "second", []corev1.PodIP{{IP: "10.42.1.3"}} })
	if _, err := client.CoreV1().Pods("a").Create(ctx, second, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expectIsolated("with a second pod", 2)
	if err := client.CoreV1().Pods("a").Delete(ctx, "second", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expectIsolated("without the second pod", 1)
	if err := client.NetworkingV1().NetworkPolicies("a").Delete(ctx, "deny", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expectIsolated("without a policy again", 0)
	cancel()
	for {
		select {
		case <-f:
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func TestProblemsAreToldOnceAndWhenTheyEnd(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	c := &Controller{problem: unreachable}
	lost, other := errors.New("ipset is missing"), errors.New("no lock")
	for _, err := range []error{nil, nil, lost, lost, other, nil, nil} {
		c.tell(notApplied, err)
	}
	var got []string
	for line := range strings.Lines(log.String()) {
		for _, text := range []string{enforced, lost.Error(), other.Error()} {
			if strings.Contains(line, text) {
				got = append(got, text)
			}
		}
	}
	if want := []string{enforced, lost.Error(), other.Error(), enforced}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
