// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package choice

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 30 * time.Second

func TestParse(t *testing.T) {
	// As the chart's init container has them
	environment := map[string]string{
		"ONESHOT": "true", "KUBECONFIG": "", "NODE_NAME": "node", "NODE_LABEL": "nvidia.com/device-plugin.config", "CONFIG_FILE_SRCDIR": "/available-configs",
		"CONFIG_FILE_DST": "/config/config.yaml", "DEFAULT_CONFIG": "", "FALLBACK_STRATEGIES": "named,single", "SEND_SIGNAL": "false", "SIGNAL": "", "PROCESS_TO_SIGNAL": "",
	}
	lookup := func(name string) (string, bool) {
		value, found := environment[name]
		return value, found
	}
	settings, err := Parse(nil, lookup)
	if err != nil {
		t.Fatal(err)
	}
	wanted := Settings{Oneshot: true, NodeName: "node", NodeLabel: defaultLabel, Source: "/available-configs", Target: "/config/config.yaml", Fallbacks: "named,single", Signal: 1}
	if *settings != wanted {
		t.Errorf("%+v", settings)
	}
	if settings, err = Parse([]string{"--oneshot=false", "--signal", "10"}, lookup); err != nil || settings.Oneshot || settings.Signal != 10 {
		t.Errorf("%+v, %v", settings, err)
	}
	delete(environment, "SEND_SIGNAL")
	delete(environment, "PROCESS_TO_SIGNAL")
	if settings, err = Parse(nil, lookup); err != nil || !settings.SendSignal || settings.Process != "nvidia-device-plugin" {
		t.Errorf("%+v, %v", settings, err)
	}
	for name, words := range map[string]string{"SIGNAL": `could not parse "x" as int`, "ONESHOT": `could not parse "x" as bool`} {
		before := environment[name]
		environment[name] = "x"
		if _, err := Parse(nil, lookup); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", name, err)
		}
		environment[name] = before
	}
	for _, name := range []string{"NODE_NAME", "NODE_LABEL", "CONFIG_FILE_SRCDIR", "CONFIG_FILE_DST"} {
		before := environment[name]
		environment[name] = ""
		if _, err := Parse(nil, lookup); err == nil || !strings.Contains(err.Error(), "must not be empty string") {
			t.Errorf("%s: %v", name, err)
		}
		environment[name] = before
	}
}

// mounted is a folder as a ConfigMap's mount has it.
func mounted(t *testing.T, names ...string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "..2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..2026", filepath.Join(folder, "..data")); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(folder, "..2026", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestChoose(t *testing.T) {
	for _, test := range []struct {
		name                       string
		there                      []string
		label, standard, fallbacks string
		chosen, words              string
	}{
		{"the label's", []string{"a", "b"}, "b", "a", "named", "b", ""},
		{"an unknown one", []string{"a", "b"}, "c", "a", "empty", "", "specified config c does not exist"},
		{"the default", []string{"a", "b"}, "", "a", "", "a", ""},
		{"an unknown default", []string{"a", "b"}, "", "c", "", "", "specified config c does not exist"},
		{"the one named default", []string{"a", "default"}, "", "", "named,single", "default", ""},
		{"the only one", []string{"a"}, "", "", "named, single", "a", ""},
		{"none of several", []string{"a", "b"}, "", "", "single,empty", "", ""},
		{"no fallback", []string{"a", "b"}, "", "", "", "", "all fallbacks failed"},
		{"no fallback that helps", []string{"a", "b"}, "", "", "named,single", "", "all fallbacks failed"},
		{"an unknown fallback", []string{"a", "b"}, "", "", "first", "", "unknown fallback strategy: first"},
		{"nothing there", nil, "a", "", "", "", "no configuration files available"},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := Settings{Source: mounted(t, test.there...), Default: test.standard, Fallbacks: test.fallbacks}
			chosen, err := settings.choose(test.label)
			if chosen != test.chosen || (err == nil) != (test.words == "") || err != nil && !strings.Contains(err.Error(), test.words) {
				t.Errorf("%q, %v", chosen, err)
			}
		})
	}
}

func linked(t *testing.T, settings *Settings) string {
	t.Helper()
	target, err := os.Readlink(settings.Target)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestApplyLinks(t *testing.T) {
	settings := &Settings{Source: mounted(t, "a", "b"), Target: filepath.Join(t.TempDir(), "config.yaml"), Fallbacks: "empty", SendSignal: true, Signal: 1, Process: "no-such-process"}
	for _, test := range []struct{ label, target, words string }{
		{"a", filepath.Join(settings.Source, "a"), "error finding pid: no process found"},
		{"a", filepath.Join(settings.Source, "a"), ""},
		{"c", filepath.Join(settings.Source, "a"), "specified config c does not exist"},
		{"b", filepath.Join(settings.Source, "b"), "error finding pid: no process found"},
		{"", "/dev/null", "error finding pid: no process found"},
	} {
		err := settings.Apply(test.label)
		if (err == nil) != (test.words == "") || err != nil && !strings.Contains(err.Error(), test.words) {
			t.Errorf("label %q: %v", test.label, err)
		}
		if target := linked(t, settings); target != test.target {
			t.Errorf("label %q: %s", test.label, target)
		}
	}
}

// cluster answers for one node's label as an API server does.
type cluster struct {
	*httptest.Server
	labels chan string
}

func node(label string, version int) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{"name": "node", "resourceVersion": fmt.Sprint(version), "labels": map[string]string{defaultLabel: label}},
	}
}

func newCluster(t *testing.T, label string) (*cluster, string) {
	t.Helper()
	made := &cluster{labels: make(chan string)}
	made.Server = httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		query := request.URL.Query()
		if request.URL.Path != "/api/v1/nodes" || query.Get("fieldSelector") != "metadata.name=node" {
			http.Error(writer, "not this", http.StatusForbidden)
			return
		}
		writer.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(writer)
		if query.Get("watch") == "" {
			_ = encoder.Encode(map[string]any{"apiVersion": "v1", "kind": "NodeList", "metadata": map[string]string{"resourceVersion": "1"}, "items": []any{node(label, 1)}})
			return
		}
		writer.(http.Flusher).Flush()
		for version := 2; ; version++ {
			select {
			case <-request.Context().Done():
				return
			case next := <-made.labels:
				_ = encoder.Encode(map[string]any{"type": "MODIFIED", "object": node(next, version)})
				writer.(http.Flusher).Flush()
			}
		}
	}))
	t.Cleanup(made.CloseClientConnections)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	content := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c}}], clusters: [{name: c, cluster: {server: %q}}]}", made.URL)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return made, path
}

func TestRunOnce(t *testing.T) {
	_, kubeconfig := newCluster(t, "a")
	settings := &Settings{Oneshot: true, Kubeconfig: kubeconfig, NodeName: "node", NodeLabel: defaultLabel, Source: mounted(t, "a"), Target: filepath.Join(t.TempDir(), "config.yaml")}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := settings.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if target := linked(t, settings); filepath.Base(target) != "a" {
		t.Error(target)
	}
}

func TestRunFollowsTheLabelUntilItNamesNothing(t *testing.T) {
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, syscall.SIGUSR1)
	defer signal.Stop(arrived)
	cluster, kubeconfig := newCluster(t, "a")
	settings := &Settings{
		Kubeconfig: kubeconfig, NodeName: "node", NodeLabel: defaultLabel, Source: mounted(t, "a", "b"), Target: filepath.Join(t.TempDir(), "config.yaml"),
		SendSignal: true, Signal: int(syscall.SIGUSR1), Process: os.Args[0],
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- settings.Run(ctx) }()
	expect := func(name string) {
		t.Helper()
		select {
		case <-arrived:
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		}
		if target := linked(t, settings); filepath.Base(target) != name {
			t.Error(target)
		}
	}
	expect("a")
	cluster.labels <- "b"
	expect("b")
	cluster.labels <- "c"
	if err := <-ended; err == nil || err.Error() != "specified config c does not exist" {
		t.Error(err)
	}
	if len(arrived) != 0 {
		t.Error("a signal without a change")
	}
}

func TestFind(t *testing.T) {
	// The first word of a command line is what counts, not the program
	command := exec.Command("sleep", "60")
	command.Args[0] = "some-device-plugin"
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		// Until it has become the other program, it is a copy of this one
		if found, err := find("some-device-plugin"); err == nil && found == command.Process.Pid {
			return
		}
		if time.Now().After(end) {
			t.Fatal("not found")
		}
	}
}
