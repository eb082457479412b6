// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"homelab.gpu/lab/gpu/device_plugin/internal/fakekubelet"
	"homelab.gpu/lab/gpu/device_plugin/internal/mocklibrary"
)

const (
	patience = 30 * time.Second
	interval = 5 * time.Millisecond
	product  = "NVIDIA GeForce RTX 3060"
)

const sliced = `
version: v1
flags:
  migStrategy: none
  failOnInitError: true
  deviceDiscoveryStrategy: nvml
  plugin: {passDeviceSpecs: false, deviceListStrategy: [envvar], deviceIDStrategy: uuid}
sharing:
  timeSlicing:
    renameByDefault: false
    failRequestsGreaterThanOne: true
    resources: [{name: nvidia.com/gpu, replicas: 4}]
`

var (
	program string
	library = sync.OnceValues(mocklibrary.Build)
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "plugin-")
		if err == nil {
			defer func() { _ = os.RemoveAll(folder) }()
			program = filepath.Join(folder, "nvidia-device-plugin")
			command := exec.Command("go", "build", "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", program, ".")
			command.Stdout, command.Stderr = os.Stderr, os.Stderr
			err = command.Run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "cannot prepare:", err)
			return 1
		}
		return m.Run()
	}())
}

// lookAtSources looks at all that the program is made of, or else Go repeats an earlier result after they changed. It heeds only what
// tests look at, not TestMain.
func lookAtSources(t *testing.T) {
	t.Helper()
	for _, part := range []string{"../../cmd", "../../internal", "../../go.mod"} {
		err := filepath.WalkDir(part, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(interval) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// stays is for what must not happen: there is nothing to wait for.
func stays(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(400 * time.Millisecond); time.Now().Before(end); time.Sleep(interval) {
		if !holds() {
			t.Fatalf("did not stay: %s", what)
		}
	}
}

// plugin is a running process, its kubelet and its GPUs.
type plugin struct {
	t       *testing.T
	kubelet *fakekubelet.Kubelet
	state   *mocklibrary.State
	config  string
	process *os.Process
	exit    chan int

	mutex sync.Mutex
	log   strings.Builder
}

func (plugin *plugin) Write(content []byte) (int, error) {
	plugin.mutex.Lock()
	defer plugin.mutex.Unlock()
	return plugin.log.Write(content)
}

func (plugin *plugin) logged(text string) int {
	plugin.mutex.Lock()
	defer plugin.mutex.Unlock()
	return strings.Count(plugin.log.String(), text)
}

func start(t *testing.T, state *mocklibrary.State, config string, environment ...string) *plugin {
	t.Helper()
	t.Parallel()
	lookAtSources(t)
	libraries, err := library()
	if err != nil {
		t.Fatal(err)
	}
	started := &plugin{t: t, kubelet: fakekubelet.New(t), state: state, config: filepath.Join(t.TempDir(), "config.yaml"), exit: make(chan int, 1)}
	started.configure(config)
	command := exec.Command(program)
	command.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries, "MOCK_NVML_STATE="+state.Path, "KUBELET_SOCKET="+started.kubelet.Socket(), "CONFIG_FILE="+started.config)
	command.Env = append(command.Env, environment...)
	command.Stdout, command.Stderr = started, started
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	started.process = command.Process
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait()
		started.exit <- command.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		if t.Failed() {
			t.Log(started.log.String())
		}
	})
	return started
}

func (plugin *plugin) configure(config string) {
	plugin.t.Helper()
	if err := os.WriteFile(plugin.config, []byte(config), 0o600); err != nil {
		plugin.t.Fatal(err)
	}
}

func (plugin *plugin) signal(number syscall.Signal) {
	plugin.t.Helper()
	if err := plugin.process.Signal(number); err != nil {
		plugin.t.Fatal(err)
	}
}

func (plugin *plugin) ends(code int) {
	plugin.t.Helper()
	select {
	case found := <-plugin.exit:
		if found != code {
			plugin.t.Fatalf("ended with %d instead of %d", found, code)
		}
	case <-time.After(patience):
		plugin.t.Fatal("did not end")
	}
}

// registered waits for the registration with this number and its first message.
func (plugin *plugin) registered(number int) *fakekubelet.Registration {
	plugin.t.Helper()
	eventually(plugin.t, fmt.Sprintf("registration %d", number), func() bool {
		all := plugin.kubelet.Registrations()
		return len(all) >= number && len(all[number-1].Messages()) > 0
	})
	return plugin.kubelet.Registrations()[number-1]
}

// passed waits until the plugin is past all that happened before: it tells in its log of an error that it ignores.
func (plugin *plugin) passed() {
	plugin.t.Helper()
	before := plugin.skipped(43)
	plugin.state.Xid(plugin.t, 0, 43)
	eventually(plugin.t, "an ignored event", func() bool { return plugin.skipped(43) > before })
}

func (plugin *plugin) skipped(xid int) int {
	return plugin.logged(fmt.Sprintf("EventData:%d ", xid))
}

// watching waits until the plugin listens: events from before are none for it.
func (plugin *plugin) watching() {
	plugin.t.Helper()
	eventually(plugin.t, "an event to arrive", func() bool {
		plugin.state.Xid(plugin.t, 0, 13)
		return plugin.skipped(13) > 0
	})
	plugin.passed()
}

func healthy(message map[string]string) int {
	count := 0
	for _, health := range message {
		if health == pluginapi.Healthy {
			count++
		}
	}
	return count
}

func last(registration *fakekubelet.Registration) map[string]string {
	messages := registration.Messages()
	return messages[len(messages)-1]
}

func TestReplicasAreRegistered(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	registration := running.registered(1)
	request := registration.Request
	if request.Endpoint != "nvidia-gpu.sock" || request.ResourceName != "nvidia.com/gpu" || request.Version != "v1beta1" || !request.Options.GetPreferredAllocationAvailable {
		t.Errorf("registered as %v", request)
	}
	message := registration.Messages()[0]
	for number := range 4 {
		if message[fmt.Sprintf("%s::%d", mocklibrary.UUID(0), number)] != pluginapi.Healthy {
			t.Errorf("replica %d is missing in %v", number, message)
		}
	}
	if len(message) != 4 {
		t.Errorf("%d devices", len(message))
	}
}

func allocate(registration *fakekubelet.Registration, ids ...string) (*pluginapi.ContainerAllocateResponse, error) {
	request := &pluginapi.AllocateRequest{ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: ids}}}
	response, err := registration.Plugin.Allocate(context.Background(), request)
	if err != nil {
		return nil, err
	}
	return response.ContainerResponses[0], nil
}

func TestAllocation(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 2), sliced)
	registration := running.registered(1)
	one, other := mocklibrary.UUID(0)+"::1", mocklibrary.UUID(1)+"::0"
	answer, err := allocate(registration, one)
	if err != nil || answer.Envs["NVIDIA_VISIBLE_DEVICES"] != mocklibrary.UUID(0) || len(answer.Devices)+len(answer.Mounts)+len(answer.CdiDevices) != 0 {
		t.Errorf("answered %v, %v", answer, err)
	}
	if _, err = allocate(registration, one, other); err == nil || !strings.Contains(err.Error(), "invalid request: maximum request size for shared resources is 1; found 2") {
		t.Errorf("two replicas: %v", err)
	}
	if _, err = allocate(registration, "GPU-else::0"); err == nil || !strings.Contains(err.Error(), "invalid request: unknown device: GPU-else::0") {
		t.Errorf("unknown replica: %v", err)
	}
	preferred, err := registration.Plugin.GetPreferredAllocation(context.Background(), &pluginapi.PreferredAllocationRequest{
		ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{{AvailableDeviceIDs: []string{one, other, mocklibrary.UUID(1) + "::2", mocklibrary.UUID(1) + "::3"}, AllocationSize: 1}},
	})
	if err != nil || preferred.ContainerResponses[0].DeviceIDs[0] != other {
		t.Errorf("prefers %v, %v; the second GPU has fewer replicas in use", preferred, err)
	}
}

func TestGPUThatIsLostWithoutAWordStaysAsItWas(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	registration := running.registered(1)
	running.watching()
	running.state.Set(t, "gpu0.lost", 1)
	running.passed()
	if messages := registration.Messages(); len(messages) != 1 {
		t.Errorf("%d messages: %v", len(messages), messages)
	}
}

func TestErrorOfAGPUThatAnswersTakesOneReplica(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	registration := running.registered(1)
	running.watching()
	running.state.Xid(t, 0, 79)
	eventually(t, "a second message", func() bool { return len(registration.Messages()) == 2 })
	running.passed()
	if messages := registration.Messages(); len(messages) != 2 || healthy(messages[1]) != 3 {
		t.Errorf("told %v", messages)
	}
}

func TestErrorOfALostGPUTakesAllReplicasOneByOne(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	registration := running.registered(1)
	running.watching()
	running.state.Set(t, "gpu0.lost", 1)
	running.state.Xid(t, 0, 79)
	eventually(t, "a message for each replica", func() bool { return len(registration.Messages()) == 5 })
	for number, message := range registration.Messages() {
		if healthy(message) != 4-number {
			t.Errorf("message %d: %v", number, message)
		}
	}
	if running.logged("Failed to determine uuid for event") != 1 {
		t.Error("the log does not say why")
	}
}

func TestGPUThatIsBackIsHealthyOnlyAfterSIGHUP(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	first := running.registered(1)
	running.watching()
	running.state.Set(t, "gpu0.lost", 1)
	running.state.Xid(t, 0, 79)
	eventually(t, "all replicas unhealthy", func() bool { return healthy(last(first)) == 0 })
	running.state.Set(t, "gpu0.lost", 0)
	running.passed()
	if healthy(last(first)) != 0 {
		t.Error("healthy again without a restart")
	}
	running.signal(syscall.SIGHUP)
	if second := running.registered(2); healthy(last(second)) != 4 {
		t.Errorf("after SIGHUP: %v", last(second))
	}
	eventually(t, "the end of the first list", first.Ended)
}

func TestSIGHUPWhileTheGPUIsLostEndsThePlugin(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	running.registered(1)
	running.state.Set(t, "gpu0.lost", 1)
	running.signal(syscall.SIGHUP)
	running.ends(1)
	if running.logged("error getting device handle for index '0': GPU is lost") != 1 {
		t.Error("the log does not say why")
	}
	if _, err := os.Stat(filepath.Join(running.kubelet.Folder, "nvidia-gpu.sock")); err == nil {
		t.Error("left its socket behind")
	}
}

func TestStartWithALostGPUFails(t *testing.T) {
	state := mocklibrary.NewState(t, product, 2)
	state.Set(t, "gpu1.lost", 1)
	running := start(t, state, sliced)
	running.ends(1)
	if running.logged("error getting device handle for index '1': GPU is lost") != 1 || len(running.kubelet.Registrations()) != 0 {
		t.Error("one lost GPU has to stop all")
	}
}

func TestStartWithoutGPUWaitsForEver(t *testing.T) {
	state := mocklibrary.NewState(t, product, 1)
	state.Set(t, "gpu0.present", 0)
	running := start(t, state, sliced)
	eventually(t, "the log's word", func() bool { return running.logged("No devices found. Waiting indefinitely.") == 1 })
	state.Set(t, "gpu0.present", 1)
	stays(t, "unnoticed", func() bool { return len(running.kubelet.Registrations()) == 0 && len(running.exit) == 0 })
	running.signal(syscall.SIGHUP)
	if registration := running.registered(1); healthy(last(registration)) != 4 {
		t.Errorf("after SIGHUP: %v", last(registration))
	}
}

func TestErrorOfTheWaitTakesAllReplicas(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	registration := running.registered(1)
	running.state.Set(t, "wait_error", 999)
	eventually(t, "all replicas unhealthy", func() bool { return healthy(last(registration)) == 0 })
	eventually(t, "the same again", func() bool { return len(registration.Messages()) >= 9 })
	if running.logged("Error waiting for event: Unknown Error; Marking all devices as unhealthy") == 0 {
		t.Error("the log does not say why")
	}
}

func TestDriverThatCannotBeUsed(t *testing.T) {
	for _, test := range []struct {
		name        string
		environment []string
		idle        bool
	}{
		{"ends", nil, false},
		{"idles", []string{"FAIL_ON_INIT_ERROR=false"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			state := mocklibrary.NewState(t, product, 1)
			state.Set(t, "init_error", 18)
			running := start(t, state, sliced, test.environment...)
			if test.idle {
				eventually(t, "idling", func() bool { return running.logged("No devices found. Waiting indefinitely.") == 1 })
				running.signal(syscall.SIGTERM)
				running.ends(0)
			} else {
				running.ends(1)
			}
			if running.logged("nvml init failed: Driver/library version mismatch") != 1 {
				t.Error("the log does not say why")
			}
		})
	}
}

func TestErrorsOfApplicationsAreIgnored(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced, "DP_DISABLE_HEALTHCHECKS=48")
	registration := running.registered(1)
	running.watching()
	for _, xid := range []int{13, 31, 43, 45, 68, 109, 48} {
		before := running.skipped(xid)
		running.state.Xid(t, 0, xid)
		eventually(t, fmt.Sprintf("Xid %d to be skipped", xid), func() bool { return running.skipped(xid) > before })
	}
	if len(registration.Messages()) != 1 {
		t.Errorf("told %v", registration.Messages())
	}
}

func TestHealthChecksCanBeDisabled(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced, "DP_DISABLE_HEALTHCHECKS=all")
	registration := running.registered(1)
	running.state.Xid(t, 0, 79)
	stays(t, "healthy", func() bool { return len(registration.Messages()) == 1 })
}

func TestSIGHUPReadsTheConfigAnew(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	running.registered(1)
	running.configure(strings.Replace(strings.Replace(sliced, "replicas: 4", "replicas: 2", 1), "renameByDefault: false", "renameByDefault: true", 1))
	running.signal(syscall.SIGHUP)
	second := running.registered(2)
	if second.Request.ResourceName != "nvidia.com/gpu.shared" || second.Request.Endpoint != "nvidia-gpu.shared.sock" || len(last(second)) != 2 {
		t.Errorf("registered %v with %v", second.Request, last(second))
	}
	running.configure("version: v2")
	running.signal(syscall.SIGHUP)
	running.ends(1)
	if running.logged("unknown version: v2") != 1 {
		t.Error("the log does not say why")
	}
}

func TestNewKubeletIsToldAgain(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	running.registered(1)
	running.kubelet.Start(t)
	if second := running.registered(2); healthy(last(second)) != 4 {
		t.Errorf("told %v", last(second))
	}
}

func TestSIGTERMEnds(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 1), sliced)
	registration := running.registered(1)
	running.signal(syscall.SIGTERM)
	running.ends(0)
	eventually(t, "the list's end", registration.Ended)
	if _, err := os.Stat(filepath.Join(running.kubelet.Folder, "nvidia-gpu.sock")); err == nil {
		t.Error("left its socket behind")
	}
}

func TestWholeGPUs(t *testing.T) {
	running := start(t, mocklibrary.NewState(t, product, 2), "", "PASS_DEVICE_SPECS=true", "DEVICE_ID_STRATEGY=index")
	registration := running.registered(1)
	ids := []string{mocklibrary.UUID(0), mocklibrary.UUID(1)}
	if message := last(registration); healthy(message) != 2 || message[ids[1]] == "" {
		t.Errorf("told %v", message)
	}
	answer, err := allocate(registration, ids...)
	if err != nil || answer.Envs["NVIDIA_VISIBLE_DEVICES"] != "0,1" || answer.Devices[len(answer.Devices)-1].HostPath != "/dev/nvidia1" {
		t.Errorf("answered %v, %v", answer, err)
	}
	request := &pluginapi.PreferredAllocationRequest{ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{{AvailableDeviceIDs: ids, AllocationSize: 1}}}
	if preferred, err := registration.Plugin.GetPreferredAllocation(context.Background(), request); err != nil || len(preferred.ContainerResponses[0].DeviceIDs) != 1 {
		t.Errorf("prefers %v, %v", preferred, err)
	}
	running.state.Set(t, "gpu1.lost", 1)
	if _, err := registration.Plugin.GetPreferredAllocation(context.Background(), request); err == nil || !strings.Contains(err.Error(), "unable to get device link information") {
		t.Errorf("with a lost GPU: %v", err)
	}
}

func TestTegra(t *testing.T) {
	config := strings.Replace(strings.Replace(sliced, "Strategy: nvml", "Strategy: tegra", 1), "uuid", "index", 1)
	running := start(t, mocklibrary.NewState(t, "NVIDIA Thor", 1), config)
	registration := running.registered(1)
	if message := last(registration); len(message) != 4 || message["tegra::3"] != pluginapi.Healthy {
		t.Errorf("told %v", message)
	}
	if answer, err := allocate(registration, "tegra::2"); err != nil || answer.Envs["NVIDIA_VISIBLE_DEVICES"] != "0" {
		t.Errorf("answered %v, %v", answer, err)
	}
	running.configure(strings.Replace(sliced, "Strategy: nvml", "Strategy: auto", 1))
	running.signal(syscall.SIGHUP)
	second := running.registered(2)
	if answer, err := allocate(second, "tegra::2"); err != nil || answer.Envs["NVIDIA_VISIBLE_DEVICES"] != "tegra" {
		t.Errorf("by its product's name and UUID: answered %v, %v", answer, err)
	}
}
