// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package choice

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Run applies the node's label, and again whenever its value changes, or once only. What cannot be applied ends it.
func (settings *Settings) Run(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", settings.Kubeconfig)
	if err != nil {
		return fmt.Errorf("error building kubernetes clientcmd config: %w", err)
	}
	client, err := coreClient(config)
	if err != nil {
		return fmt.Errorf("error building kubernetes clientset from config: %w", err)
	}
	labels := settings.watch(ctx, client)
	for {
		klog.Infof("Waiting for change to '%s' label", settings.NodeLabel)
		select {
		case <-ctx.Done():
			return nil
		case label := <-labels:
			klog.Infof("Label change detected: %s=%s", settings.NodeLabel, label)
			if err := settings.Apply(label); settings.Oneshot || err != nil {
				return err
			}
		}
	}
}

// coreClient knows nodes and their kind only: the clients of all groups would double the program.
func coreClient(config *rest.Config) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config.APIPath = "/api"
	config.GroupVersion = &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientFor(config)
}

// watch gives the label's newest value, which takes the place of one that was not yet fetched.
func (settings *Settings) watch(ctx context.Context, client rest.Interface) <-chan string {
	labels := make(chan string, 1)
	put := func(label string) {
		select {
		case <-labels:
		default:
		}
		labels <- label
	}
	of := func(object any) string {
		if node, ok := object.(*corev1.Node); ok {
			return node.Labels[settings.NodeLabel]
		}
		return ""
	}
	selector := fields.OneTermEqualSelector("metadata.name", settings.NodeName)
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client, "nodes", corev1.NamespaceAll, selector),
		ObjectType:    &corev1.Node{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(object any) { put(of(object)) },
			UpdateFunc: func(before, after any) {
				if of(before) != of(after) {
					put(of(after))
				}
			},
			DeleteFunc: func(object any) {
				if of(object) != "" {
					put("")
				}
			},
		},
	})
	go controller.RunWithContext(ctx)
	return labels
}
