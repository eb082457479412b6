// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package mps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const sharedMemorySize = "size=65536k"

// MountShm makes the memory that the daemon shares with its clients, anew if there is some from before.
func MountShm(root string) error {
	folder := filepath.Join(root, "shm")
	// Not a mount point is EINVAL, not there is ENOENT
	if err := syscall.Unmount(folder, 0); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("error unmounting %v: %w", folder, err)
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("error unmounting %v: %w", folder, err)
	}
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return fmt.Errorf("error creating directory %v: %w", folder, err)
	}
	flags := uintptr(syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC | syscall.MS_RELATIME)
	if err := syscall.Mount("shm", folder, "tmpfs", flags, sharedMemorySize); err != nil {
		return fmt.Errorf("error mounting %v as tmpfs: %w", folder, err)
	}
	return nil
}
