// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package fakekubelet takes registrations and devices as a kubelet does, and remembers them, for tests.
package fakekubelet

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Kubelet is one kubelet with its folder of sockets.
type Kubelet struct {
	pluginapi.UnimplementedRegistrationServer

	Folder string

	server *grpc.Server
	mutex  sync.Mutex
	all    []*Registration
}

// Registration is a plugin that made itself known, and all that it told since.
type Registration struct {
	Request *pluginapi.RegisterRequest
	Plugin  pluginapi.DevicePluginClient

	mutex    sync.Mutex
	messages []map[string]string
	ended    bool
}

// New makes a kubelet that listens until the test is over.
func New(t *testing.T) *Kubelet {
	t.Helper()
	// A socket's path must be short
	folder, err := os.MkdirTemp("", "kubelet-")
	if err != nil {
		t.Fatal(err)
	}
	kubelet := &Kubelet{Folder: folder}
	t.Cleanup(func() {
		kubelet.server.Stop()
		_ = os.RemoveAll(folder)
	})
	kubelet.Start(t)
	return kubelet
}

// Socket is where it listens.
func (kubelet *Kubelet) Socket() string { return filepath.Join(kubelet.Folder, "kubelet.sock") }

// Start makes the socket, anew if there was one.
func (kubelet *Kubelet) Start(t *testing.T) {
	t.Helper()
	if kubelet.server != nil {
		kubelet.server.Stop()
	}
	_ = os.Remove(kubelet.Socket())
	listener, err := net.Listen("unix", kubelet.Socket())
	if err != nil {
		t.Fatal(err)
	}
	kubelet.server = grpc.NewServer()
	pluginapi.RegisterRegistrationServer(kubelet.server, kubelet)
	go func() { _ = kubelet.server.Serve(listener) }()
}

// Register is the plugin's call. The plugin is asked for its devices from now on.
func (kubelet *Kubelet) Register(_ context.Context, request *pluginapi.RegisterRequest) (*pluginapi.Empty, error) {
	connection, err := grpc.NewClient("unix://"+filepath.Join(kubelet.Folder, request.Endpoint), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	made := &Registration{Request: request, Plugin: pluginapi.NewDevicePluginClient(connection)}
	kubelet.mutex.Lock()
	kubelet.all = append(kubelet.all, made)
	kubelet.mutex.Unlock()
	go made.follow()
	return &pluginapi.Empty{}, nil
}

// Registrations are all so far.
func (kubelet *Kubelet) Registrations() []*Registration {
	kubelet.mutex.Lock()
	defer kubelet.mutex.Unlock()
	return append([]*Registration{}, kubelet.all...)
}

func (registration *Registration) follow() {
	defer func() {
		registration.mutex.Lock()
		defer registration.mutex.Unlock()
		registration.ended = true
	}()
	stream, err := registration.Plugin.ListAndWatch(context.Background(), &pluginapi.Empty{})
	for err == nil {
		var response *pluginapi.ListAndWatchResponse
		if response, err = stream.Recv(); err != nil {
			return
		}
		message := map[string]string{}
		for _, device := range response.Devices {
			message[device.ID] = device.Health
		}
		registration.mutex.Lock()
		registration.messages = append(registration.messages, message)
		registration.mutex.Unlock()
	}
}

// Messages are the lists of devices so far: health by ID.
func (registration *Registration) Messages() []map[string]string {
	registration.mutex.Lock()
	defer registration.mutex.Unlock()
	return append([]map[string]string{}, registration.messages...)
}

// Ended says whether the plugin no longer tells anything.
func (registration *Registration) Ended() bool {
	registration.mutex.Lock()
	defer registration.mutex.Unlock()
	return registration.ended
}
