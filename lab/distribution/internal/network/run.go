// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package network

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	resync = 5 * time.Minute
	retry  = 2 * time.Second
)

// Run follows the nodes of the cluster until ctx ends. SetUp is called once the node itself has a pod network, and again if that changes.
func (n *Network) Run(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, resync)
	nodes := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { poke() },
		DeleteFunc: func(any) { poke() },
		UpdateFunc: func(before, after any) {
			b, _ := PeerOf(before.(*corev1.Node))
			a, _ := PeerOf(after.(*corev1.Node))
			if fmt.Sprint(a) != fmt.Sprint(b) {
				poke()
			}
		},
	})
	if err != nil {
		return err
	}
	lister := nodes.Lister()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), nodes.Informer().HasSynced) {
		return ctx.Err()
	}
	poke()
	own := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		all, err := lister.List(labels.Everything())
		if err == nil {
			own, err = n.apply(all, own)
		}
		if err != nil {
			slog.Error("pod network", "err", err)
			time.AfterFunc(retry, poke)
		}
	}
}

// apply returns the node's own pod network once it is set up.
func (n *Network) apply(nodes []*corev1.Node, own string) (string, error) {
	var peers []Peer
	for _, node := range nodes {
		p, ok := PeerOf(node)
		if !ok {
			continue
		}
		peers = append(peers, p)
		if p.IP.Equal(n.NodeIP) && p.Pods.String() != own {
			if err := n.SetUp(p); err != nil {
				return own, err
			}
			own = p.Pods.String()
			slog.Info("pod network is set up", "pods", own, "device", Device)
		}
	}
	if own == "" {
		return own, nil
	}
	return own, n.Sync(peers)
}
