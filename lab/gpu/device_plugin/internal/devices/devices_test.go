// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package devices

import (
	"reflect"
	"testing"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
)

func gpus(ids ...string) Devices {
	found := Devices{}
	for _, id := range ids {
		found[id] = &Device{ID: id, Healthy: true}
	}
	return found
}

func sharing(t *testing.T, text string) *config.Replicated {
	t.Helper()
	parsed, err := config.Parse([]byte("sharing: {timeSlicing: " + text + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Sharing.Active()
}

func TestReplicated(t *testing.T) {
	for _, test := range []struct {
		name     string
		found    Devices
		sharing  *config.Replicated
		resource string
		ids      []string
	}{
		{"not shared", gpus("a", "b"), nil, "nvidia.com/gpu", []string{"a", "b"}},
		{"shared", gpus("a", "b"), sharing(t, "{resources: [{name: gpu, replicas: 2}]}"), "nvidia.com/gpu", []string{"a::0", "a::1", "b::0", "b::1"}},
		{"renamed", gpus("a"), sharing(t, "{renameByDefault: true, resources: [{name: gpu, replicas: 2}]}"), "nvidia.com/gpu.shared", []string{"a::0", "a::1"}},
		{"others shared", gpus("a"), sharing(t, "{resources: [{name: mig-1g.5gb, replicas: 2}]}"), "nvidia.com/gpu", []string{"a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			named := Replicated(test.found, test.sharing)
			ids := []string{}
			for _, device := range named[test.resource].Sorted() {
				ids = append(ids, device.ID)
			}
			if len(named) != 1 || !reflect.DeepEqual(ids, test.ids) {
				t.Errorf("%v", named)
			}
		})
	}
	if named := Replicated(Devices{}, sharing(t, "{resources: [{name: gpu, replicas: 2}]}")); len(named) != 0 {
		t.Errorf("of nothing: %v", named)
	}
}

func TestForKubelet(t *testing.T) {
	node := int64(1)
	told := Devices{"b": {ID: "b"}, "a": {ID: "a", Healthy: true, Numa: &node}}.ForKubelet()
	if told[0].ID != "a" || told[0].Health != pluginapi.Healthy || told[0].Topology.Nodes[0].ID != 1 {
		t.Errorf("%v", told[0])
	}
	if told[1].Health != pluginapi.Unhealthy || told[1].Topology != nil {
		t.Errorf("%v", told[1])
	}
}

func TestPreferredReplicas(t *testing.T) {
	all := Replicated(gpus("a", "b"), sharing(t, "{resources: [{name: gpu, replicas: 3}]}"))["nvidia.com/gpu"]
	for _, test := range []struct {
		name, policy        string
		available, required []string
		size                int
		chosen              []string
	}{
		{"spread over GPUs", "distributed", []string{"a::0", "a::1", "a::2", "b::0", "b::1", "b::2"}, nil, 2, []string{"a::0", "b::0"}},
		{"the less used", "distributed", []string{"a::0", "b::0", "b::1"}, nil, 1, []string{"b::0"}},
		{"the more used", "packed", []string{"a::0", "b::0", "b::1"}, nil, 1, []string{"a::0"}},
		{"required ones first", "distributed", []string{"a::0", "a::1", "b::0"}, []string{"a::1"}, 2, []string{"a::1", "a::0"}},
		{"too few", "distributed", []string{"a::0"}, nil, 2, nil},
		{"unknown ones", "distributed", []string{"c::0"}, nil, 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			chosen, err := all.Preferred(nil, test.policy, test.available, test.required, test.size)
			if (err == nil) != (test.chosen != nil) || !reflect.DeepEqual(chosen, test.chosen) {
				t.Errorf("%v, %v", chosen, err)
			}
		})
	}
}
