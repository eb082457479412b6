// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package server

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"homelab.gpu/lab/distribution/internal/supervisor"
)

const (
	controlPlaneLabel = "node-role.kubernetes.io/control-plane"
	nodeResync        = 10 * time.Minute
)

// nodeController labels the server's own node and forgets the passwords of deleted nodes.
type nodeController struct {
	client kubernetes.Interface
	own    string
}

func (c *nodeController) run(ctx context.Context) {
	factory := informers.NewSharedInformerFactory(c.client, nodeResync)
	_, err := factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { c.label(ctx, o) },
		UpdateFunc: func(_, o any) { c.label(ctx, o) },
		DeleteFunc: func(o any) { c.forget(ctx, o) },
	})
	if err != nil {
		slog.Error("watch nodes", "err", err)
		return
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
}

func (c *nodeController) label(ctx context.Context, o any) {
	node, ok := o.(*corev1.Node)
	if !ok || node.Name != c.own || node.Labels[controlPlaneLabel] == "true" {
		return
	}
	patch := []byte(`{"metadata":{"labels":{"` + controlPlaneLabel + `":"true"}}}`)
	if _, err := c.client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
		slog.Error("label own node", "err", err)
	}
}

func (c *nodeController) forget(ctx context.Context, o any) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	node, ok := o.(*corev1.Node)
	if !ok {
		return
	}
	err := c.client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, supervisor.PasswordSecretName(node.Name), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		slog.Error("forget node password", "node", node.Name, "err", err)
	}
}
