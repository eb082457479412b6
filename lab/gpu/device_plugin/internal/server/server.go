// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package server speaks with the kubelet for one resource.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"homelab.gpu/lab/gpu/device_plugin/internal/config"
	"homelab.gpu/lab/gpu/device_plugin/internal/devices"
	"homelab.gpu/lab/gpu/device_plugin/internal/health"
)

const registrationTimeout = 5 * time.Second

// Server offers the devices of one resource.
type Server struct {
	pluginapi.UnimplementedDevicePluginServer

	resource string
	settings *config.Config
	driver   *devices.Driver
	watched  bool
	ignored  health.Ignored

	mutex   sync.Mutex
	devices devices.Devices

	grpc      *grpc.Server
	socket    string
	stop      chan struct{}
	unhealthy chan *devices.Device
}

// New makes the server of a resource.
func New(resource string, offered devices.Devices, watched bool, driver *devices.Driver, settings *config.Config, ignored health.Ignored) *Server {
	return &Server{resource: resource, devices: offered, watched: watched, driver: driver, settings: settings, ignored: ignored}
}

// Start listens in the folder of the kubelet's socket, tells the kubelet so, and begins to watch the devices.
func (server *Server) Start(kubelet string) error {
	if err := server.waitForMPS(); err != nil {
		return fmt.Errorf("error waiting for MPS daemon: %w", err)
	}
	folder := pluginapi.DevicePluginPath
	if kubelet != "" {
		folder = filepath.Dir(kubelet)
	}
	_, name, _ := strings.Cut(server.resource, "/")
	server.socket = filepath.Join(folder, "nvidia-"+name+".sock")
	server.grpc, server.stop, server.unhealthy = grpc.NewServer(), make(chan struct{}), make(chan *devices.Device)
	if err := server.listen(); err != nil {
		klog.Infof("Could not start device plugin for '%s': %s", server.resource, err)
		server.grpc = nil
		return err
	}
	klog.Infof("Starting to serve '%s' on %s", server.resource, server.socket)
	if kubelet == "" {
		klog.Info("Skipping registration with Kubelet")
	} else if err := server.register(kubelet); err != nil {
		klog.Infof("Could not register device plugin: %s", err)
		return errors.Join(err, server.Stop())
	} else {
		klog.Infof("Registered device plugin for '%s' with Kubelet", server.resource)
	}
	if server.watched {
		go server.watch(server.stop, server.unhealthy)
	}
	return nil
}

func (server *Server) listen() error {
	if err := os.Remove(server.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", server.socket)
	if err != nil {
		return err
	}
	pluginapi.RegisterDevicePluginServer(server.grpc, server)
	running := server.grpc
	go func() {
		klog.Infof("Starting GRPC server for '%s'", server.resource)
		if err := running.Serve(listener); err != nil {
			klog.Fatalf("GRPC server for '%s' crashed with error: %v", server.resource, err)
		}
	}()
	return nil
}

func (server *Server) register(kubelet string) error {
	connection, err := grpc.NewClient("unix://"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), registrationTimeout)
	defer cancel()
	_, err = pluginapi.NewRegistrationClient(connection).Register(ctx, &pluginapi.RegisterRequest{
		Version:      pluginapi.Version,
		Endpoint:     filepath.Base(server.socket),
		ResourceName: server.resource,
		Options:      options(),
	}, grpc.WaitForReady(true))
	return err
}

func (server *Server) watch(stop <-chan struct{}, unhealthy chan<- *devices.Device) {
	err := health.Watch(server.driver.NVML, server.ignored, *server.settings.Flags.FailOnInitError, server.devices, stop, unhealthy)
	if err != nil {
		klog.Infof("Failed to start health check: %v; continuing with health checks disabled", err)
	}
}

// Stop ends it. What was never started can be stopped, too.
func (server *Server) Stop() error {
	if server.grpc == nil {
		return nil
	}
	klog.Infof("Stopping to serve '%s' on %s", server.resource, server.socket)
	close(server.stop)
	server.grpc.Stop()
	server.grpc = nil
	if err := os.Remove(server.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func options() *pluginapi.DevicePluginOptions {
	return &pluginapi.DevicePluginOptions{GetPreferredAllocationAvailable: true}
}

// GetDevicePluginOptions says that GetPreferredAllocation can be asked.
func (server *Server) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return options(), nil
}

// ListAndWatch tells all devices, and again after each that becomes unhealthy. None becomes healthy again.
func (server *Server) ListAndWatch(_ *pluginapi.Empty, stream grpc.ServerStreamingServer[pluginapi.ListAndWatchResponse]) error {
	stop, unhealthy := server.stop, server.unhealthy
	if err := stream.Send(server.list(nil)); err != nil {
		return err
	}
	for {
		select {
		case <-stop:
			return nil
		case <-stream.Context().Done():
			return nil
		case device := <-unhealthy:
			klog.Infof("'%s' device marked unhealthy: %s", server.resource, device.ID)
			if err := stream.Send(server.list(device)); err != nil {
				return nil
			}
		}
	}
}

func (server *Server) list(unhealthy *devices.Device) *pluginapi.ListAndWatchResponse {
	server.mutex.Lock()
	defer server.mutex.Unlock()
	if unhealthy != nil {
		unhealthy.Healthy = false
	}
	return &pluginapi.ListAndWatchResponse{Devices: server.devices.ForKubelet()}
}

// GetPreferredAllocation chooses among devices.
func (server *Server) GetPreferredAllocation(_ context.Context, request *pluginapi.PreferredAllocationRequest) (*pluginapi.PreferredAllocationResponse, error) {
	response := &pluginapi.PreferredAllocationResponse{}
	policy := *server.settings.Flags.Plugin.SharedDevicesAllocationPolicy
	for _, container := range request.ContainerRequests {
		var library = server.driver.NVML
		if !server.watched {
			library = nil
		}
		ids, err := server.devices.Preferred(library, policy, container.AvailableDeviceIDs, container.MustIncludeDeviceIDs, int(container.AllocationSize))
		if err != nil {
			return nil, fmt.Errorf("error getting list of preferred allocation devices: %w", err)
		}
		response.ContainerResponses = append(response.ContainerResponses, &pluginapi.ContainerPreferredAllocationResponse{DeviceIDs: ids})
	}
	return response, nil
}
