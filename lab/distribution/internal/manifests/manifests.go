// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package manifests applies the files in server/manifests to the cluster.
//
// A file is applied when its content differs from what was applied last; objects that left a file are deleted, those of a
// file that is gone are not. What was applied is remembered in a ConfigMap.
package manifests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

const (
	interval     = 3 * time.Second
	fieldManager = "deploy@homelab-lab-distribution"
	stateName    = "homelab-lab-distribution-manifests"
	stateKey     = "applied.json"
	skipSuffix   = ".skip"
)

// Controller applies manifests.
type Controller struct {
	Dir     string
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	Mapper  meta.ResettableRESTMapper

	applied map[string]record
	seen    map[string]string // what was tried, so that a broken file is reported once
}

// record is what is remembered of a file.
type record struct {
	Checksum string   `json:"checksum"`
	Objects  []object `json:"objects"`
}

type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// Run applies changes until ctx ends. disabled are names of files without suffix whose objects are removed once.
func (c *Controller) Run(ctx context.Context, disabled []string) {
	c.seen = map[string]string{}
	for {
		if c.applied == nil {
			if err := c.load(ctx); err != nil {
				slog.Error("manifests: read what was applied", "err", err)
			} else {
				c.removeDisabled(ctx, disabled)
			}
		}
		if c.applied != nil {
			c.sync(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

func (c *Controller) sync(ctx context.Context) {
	files, err := list(c.Dir)
	if err != nil {
		slog.Error("manifests", "err", err)
		return
	}
	for _, path := range files {
		name, err := filepath.Rel(c.Dir, path)
		if err != nil {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue // removed meanwhile
		}
		sum := sha256.Sum256(b)
		checksum := hex.EncodeToString(sum[:])
		if c.applied[name].Checksum == checksum {
			continue
		}
		err = c.applyFile(ctx, name, b, checksum)
		if text := fmt.Sprint(checksum, err); err != nil && c.seen[name] != text {
			c.seen[name] = text
			slog.Error("manifest", "file", path, "err", err)
		} else if err == nil {
			slog.Info("applied manifest", "file", path)
		}
	}
}

func (c *Controller) applyFile(ctx context.Context, name string, content []byte, checksum string) error {
	objects, err := Parse(content)
	if err != nil {
		return err
	}
	r := record{Checksum: checksum}
	for _, o := range objects {
		ref, err := c.apply(ctx, o)
		if err != nil {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
		r.Objects = append(r.Objects, ref)
	}
	for _, old := range Left(c.applied[name].Objects, r.Objects) {
		if err := c.delete(ctx, old); err != nil {
			return fmt.Errorf("delete %s %s: %w", old.Kind, old.Name, err)
		}
	}
	c.applied[name] = r
	return c.save(ctx)
}

// Left are the objects of before that are not in after.
func Left(before, after []object) []object {
	var left []object
	for _, o := range before {
		if !slices.Contains(after, o) {
			left = append(left, o)
		}
	}
	return left
}

func (c *Controller) resource(gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, string, error) {
	mapping, err := c.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		c.Mapper.Reset() // the kind may just have been defined
		mapping, err = c.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, "", err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return c.Dynamic.Resource(mapping.Resource), "", nil
	}
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return c.Dynamic.Resource(mapping.Resource).Namespace(namespace), namespace, nil
}

func (c *Controller) apply(ctx context.Context, o *unstructured.Unstructured) (object, error) {
	resource, namespace, err := c.resource(o.GroupVersionKind(), o.GetNamespace())
	if err != nil {
		return object{}, err
	}
	o.SetNamespace(namespace)
	b, err := o.MarshalJSON()
	if err != nil {
		return object{}, err
	}
	force := true
	_, err = resource.Patch(ctx, o.GetName(), types.ApplyPatchType, b, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	return object{o.GetAPIVersion(), o.GetKind(), namespace, o.GetName()}, err
}

func (c *Controller) delete(ctx context.Context, o object) error {
	resource, _, err := c.resource(schema.FromAPIVersionAndKind(o.APIVersion, o.Kind), o.Namespace)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return err
	}
	policy := metav1.DeletePropagationBackground
	err = resource.Delete(ctx, o.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) removeDisabled(ctx context.Context, disabled []string) {
	for name, r := range c.applied {
		if !slices.Contains(disabled, addonName(name)) {
			continue
		}
		for _, o := range slices.Backward(r.Objects) {
			if err := c.delete(ctx, o); err != nil {
				slog.Error("remove disabled manifest", "file", name, "object", o.Name, "err", err)
				return
			}
		}
		delete(c.applied, name)
		if err := c.save(ctx); err != nil {
			slog.Error("manifests: remember", "err", err)
		}
		slog.Info("removed disabled manifest", "file", name)
	}
}

func (c *Controller) load(ctx context.Context) error {
	m, err := c.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, stateName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		c.applied = map[string]record{}
		return nil
	}
	if err != nil {
		return err
	}
	applied := map[string]record{}
	if err := json.Unmarshal([]byte(m.Data[stateKey]), &applied); err != nil {
		slog.Warn("manifests: what was applied is not readable, everything is applied again", "err", err)
	}
	c.applied = applied
	return nil
}

func (c *Controller) save(ctx context.Context) error {
	b, err := json.Marshal(c.applied)
	if err != nil {
		return err
	}
	maps := c.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: stateName, Namespace: metav1.NamespaceSystem}, Data: map[string]string{stateKey: string(b)}}
	_, err = maps.Update(ctx, m, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(ctx, m, metav1.CreateOptions{})
	}
	return err
}

// addonName is the name by which a manifest is disabled: that of its top folder or of the file.
func addonName(name string) string {
	first, _, _ := strings.Cut(filepath.ToSlash(name), "/")
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(first, ".yaml"), ".yml"), ".json")
}

func isManifest(path string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) && !strings.HasPrefix(filepath.Base(path), ".")
}

// list finds all manifests that have no <file>.skip beside them.
func list(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if d.IsDir() || !isManifest(path) {
			return nil
		}
		if _, err := os.Stat(path + skipSuffix); err == nil {
			return nil
		}
		files = append(files, path)
		return nil
	})
	return files, err
}

// Parse reads all objects of a YAML or JSON file; lists are taken apart.
func Parse(content []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		var raw map[string]any
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(raw) == 0 {
			continue
		}
		o := &unstructured.Unstructured{Object: raw}
		if o.GetKind() == "" || o.GetAPIVersion() == "" {
			return nil, errors.New("an object has no apiVersion or kind")
		}
		if !o.IsList() {
			objects = append(objects, o)
			continue
		}
		if err := o.EachListItem(func(item runtime.Object) error {
			objects = append(objects, item.(*unstructured.Unstructured))
			return nil
		}); err != nil {
			return nil, err
		}
	}
}
