// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package node

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	n := newNotifier()
	if _, set := os.LookupEnv("NOTIFY_SOCKET"); set {
		t.Error("components inherit the socket: etcd would tell systemd that the node is ready")
	}
	if err := n.ready(); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 64)
	length, err := socket.Read(buffer)
	if err != nil || string(buffer[:length]) != "READY=1" {
		t.Errorf("got %q, %v", buffer[:length], err)
	}
	if _, set := os.LookupEnv("NOTIFY_SOCKET"); set {
		t.Error("a component that is started again inherits the socket")
	}
}

func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := newNotifier().ready(); err != nil {
		t.Error(err)
	}
}
