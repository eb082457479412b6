// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package manifests

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	distribution "homelab.gpu/lab/distribution"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

type mapper struct{ *meta.DefaultRESTMapper }

func (mapper) Reset() {}

func newMapper() meta.ResettableRESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, meta.RESTScopeNamespace)
	m.Add(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, meta.RESTScopeRoot)
	return mapper{m}
}

// cluster is a fake API that understands apply, and counts it.
type cluster struct {
	*Controller
	dynamic *dynamicfake.FakeDynamicClient
	applied []string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := &cluster{dynamic: dynamicfake.NewSimpleDynamicClient(scheme)}
	c.dynamic.PrependReactor("patch", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		p := a.(clienttesting.PatchAction)
		c.applied = append(c.applied, p.GetName())
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(p.GetPatch()); err != nil {
			return true, nil, err
		}
		tracker := c.dynamic.Tracker()
		err := tracker.Create(p.GetResource(), o, p.GetNamespace())
		if apierrors.IsAlreadyExists(err) {
			err = tracker.Update(p.GetResource(), o, p.GetNamespace())
		}
		return true, o, err
	})
	c.Controller = &Controller{Dir: t.TempDir(), Client: fake.NewClientset(), Dynamic: c.dynamic, Mapper: newMapper()}
	c.start(t)
	return c
}

// start is what a restart of the server does: only the cluster remembers.
func (c *cluster) start(t *testing.T) {
	t.Helper()
	c.Controller.applied, c.seen = nil, map[string]string{}
	if err := c.load(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) put(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(c.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) round() []string {
	c.applied = nil
	c.sync(context.Background())
	return c.applied
}

func (c *cluster) names(t *testing.T) []string {
	t.Helper()
	l, err := c.dynamic.Resource(configMaps).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, item := range l.Items {
		names = append(names, item.GetNamespace()+"/"+item.GetName())
	}
	slices.Sort(names)
	return names
}

func configMap(name string) string {
	return "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestFilesAreAppliedWhenTheyChange(t *testing.T) {
	c := newCluster(t)
	c.put(t, "a.yaml", configMap("a1")+configMap("a2"))
	expect(t, "a new file", c.round(), "a1", "a2")
	expect(t, "nothing new", c.round())
	c.start(t)
	expect(t, "after a restart", c.round())
	c.put(t, "sub/b.yml", configMap("b"))
	c.put(t, "note.txt", configMap("no"))
	expect(t, "a file in a folder", c.round(), "b")
	c.put(t, "a.yaml", configMap("a2")+configMap("a3"))
	expect(t, "a changed file", c.round(), "a2", "a3")
	expect(t, "what left the file is gone", c.names(t), "default/a2", "default/a3", "default/b")
	if err := os.Remove(filepath.Join(c.Dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	expect(t, "a removed file", c.round())
	expect(t, "its objects stay", c.names(t), "default/a2", "default/a3", "default/b")
}

func TestSkip(t *testing.T) {
	c := newCluster(t)
	c.put(t, "a.yaml", configMap("a"))
	c.put(t, "a.yaml.skip", "")
	expect(t, "a skipped file", c.round())
}

func TestABrokenFileDoesNotStopTheOthers(t *testing.T) {
	c := newCluster(t)
	c.put(t, "a.yaml", "kind: [")
	c.put(t, "b.yaml", "apiVersion: x/v1\nkind: Unknown\nmetadata: {name: u}\n")
	c.put(t, "c.yaml", configMap("c"))
	expect(t, "the good file", c.round(), "c")
	c.put(t, "a.yaml", configMap("a"))
	expect(t, "once repaired", c.round(), "a")
}

func TestDisabledManifestsAreRemoved(t *testing.T) {
	c := newCluster(t)
	c.put(t, "coredns.yaml", configMap("dns"))
	c.put(t, "other.yaml", configMap("other"))
	c.round()
	c.start(t)
	c.removeDisabled(context.Background(), []string{"coredns"})
	expect(t, "left", c.names(t), "default/other")
	c.start(t)
	if _, there := c.Controller.applied["coredns.yaml"]; there {
		t.Error("the disabled file is still remembered")
	}
}

func TestParse(t *testing.T) {
	tests := map[string]struct {
		text    string
		want    []string
		wantErr bool
	}{
		"documents":          {text: configMap("a") + "---\n# nothing\n" + configMap("b"), want: []string{"a", "b"}},
		"JSON":               {text: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"j"}}`, want: []string{"j"}},
		"a list":             {text: "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: i1}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: i2}}\n", want: []string{"i1", "i2"}},
		"an empty file":      {text: "\n"},
		"an object of none":  {text: "metadata: {name: x}\n", wantErr: true},
		"no YAML":            {text: "a: [", wantErr: true},
		"a scalar for a map": {text: "just words\n", wantErr: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			objects, err := Parse([]byte(tt.text))
			if (err != nil) != tt.wantErr {
				t.Fatal(err)
			}
			var got []string
			for _, o := range objects {
				got = append(got, o.GetName())
			}
			expect(t, "objects", got, tt.want...)
		})
	}
}

func TestStage(t *testing.T) {
	files := fstest.MapFS{
		"manifests/coredns.yaml":        {Data: []byte("ip: %{CLUSTER_DNS}%\n")},
		"manifests/metrics-server.yaml": {Data: []byte("x\n")},
	}
	dir := t.TempDir()
	values := map[string]string{"CLUSTER_DNS": "10.43.0.10"}
	if err := Stage(files, dir, values, nil); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "coredns.yaml")); string(b) != "ip: 10.43.0.10\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := Stage(files, dir, values, []string{"metrics-server"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "metrics-server.yaml")); !os.IsNotExist(err) {
		t.Errorf("the disabled manifest is there: %v", err)
	}
	if err := Stage(files, dir, nil, nil); err == nil || !strings.Contains(err.Error(), "CLUSTER_DNS") {
		t.Errorf("an unknown name: %v", err)
	}
}

func TestBundledManifests(t *testing.T) {
	dir := t.TempDir()
	values := map[string]string{"CLUSTER_DNS": "10.43.0.10", "CLUSTER_DOMAIN": "cluster.local", "DEFAULT_LOCAL_STORAGE_PATH": "/var/lib/rancher/k3s/storage"}
	if err := Stage(distribution.Manifests, dir, values, nil); err != nil {
		t.Fatal(err)
	}
	files, err := list(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names, classes []string
	for _, file := range files {
		names = append(names, filepath.Base(file))
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, o := range objects {
			if o.GetKind() == "RuntimeClass" {
				classes = append(classes, o.GetName())
			}
			containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			for _, c := range containers {
				image, _, _ := unstructured.NestedString(c.(map[string]any), "image")
				policy, _, _ := unstructured.NestedString(c.(map[string]any), "imagePullPolicy")
				if !strings.HasPrefix(image, "localhost/homelab-lab/") || policy != "IfNotPresent" {
					t.Errorf("%s: image %s, %s: must come from the archive, never from a registry", file, image, policy)
				}
			}
		}
	}
	expect(t, "manifests", names, "coredns.yaml", "local-storage.yaml", "metrics-server.yaml", "rolebindings.yaml", "runtimes.yaml")
	expect(t, "runtime classes", classes, "nvidia", "nvidia-experimental", "nvidia-cdi", "crun")
}
