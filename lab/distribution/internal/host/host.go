// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package host puts the embedded programs into the data directory and finds out what the host offers.
package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"homelab.gpu/lab/distribution/internal/atomicfile"
)

const runc = "runc"

// Links are the names under which this binary is callable in the folder of programs.
var links = []string{"k3s", "kubectl", "ctr", "containerd"}

// BinDir is the folder of the programs of the running version.
func BinDir(dataDir string) string { return filepath.Join(dataDir, "data/current/bin") }

// Extract writes the programs below root of files into <dataDir>/data/<hash>/bin and lets "current" point there. revision stands for
// their content; without one they are hashed, which brings all of them into memory.
func Extract(files fs.FS, root, dataDir, self, revision string) error {
	if revision == "" {
		var err error
		if revision, err = contentHash(files, root); err != nil {
			return fmt.Errorf("embedded programs: %w", err)
		}
	}
	sum := sha256.Sum256([]byte(revision))
	base := filepath.Join(dataDir, "data")
	dir := filepath.Join(base, hex.EncodeToString(sum[:]))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		tmp := dir + ".new"
		if err := os.RemoveAll(tmp); err != nil {
			return err
		}
		if err := extract(files, root, filepath.Join(tmp, "bin")); err != nil {
			return fmt.Errorf("extract programs: %w", err)
		}
		if err := os.Rename(tmp, dir); err != nil {
			return err
		}
	}
	for _, name := range links {
		if err := atomicfile.Symlink(self, filepath.Join(dir, "bin", name)); err != nil {
			return err
		}
	}
	current := filepath.Join(base, "current")
	if old, err := os.Readlink(current); err == nil && old != dir {
		if err := atomicfile.Symlink(old, filepath.Join(base, "previous")); err != nil {
			return err
		}
	}
	return atomicfile.Symlink(dir, current)
}

func programs(files fs.FS, root string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(files, root)
	if err != nil {
		return nil, err
	}
	var found []fs.DirEntry
	for _, entry := range all {
		if !entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") {
			found = append(found, entry)
		}
	}
	return found, nil
}

func contentHash(files fs.FS, root string) (string, error) {
	entries, err := programs(files, root)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, entry := range entries {
		f, err := files.Open(path.Join(root, entry.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, entry.Name())
		if _, err := io.Copy(h, f); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func extract(files fs.FS, root, dir string) error {
	entries, err := programs(files, root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, entry := range entries {
		if err := copyProgram(files, path.Join(root, entry.Name()), filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyProgram(files fs.FS, name, target string) error {
	in, err := files.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// Runc finds runc: the embedded one, or the host's.
func Runc(dataDir, searchPath string) (string, error) {
	for _, dir := range append([]string{BinDir(dataDir)}, filepath.SplitList(searchPath)...) {
		file := filepath.Join(dir, runc)
		if info, err := os.Stat(file); err == nil && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", errors.New("runc is neither built in nor in PATH")
}

// SystemdCgroups tells whether cgroups are left to systemd: where it started this program and the cpuset controller is there.
func SystemdCgroups(invocationID string, cgroups, controllers []byte) bool {
	if invocationID == "" {
		return false
	}
	for _, name := range strings.Fields(string(controllers)) {
		if name == "cpuset" {
			return true
		}
	}
	for _, line := range strings.Split(string(cgroups), "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) < 3 {
			continue
		}
		for _, name := range strings.Split(parts[1], ",") {
			if name == "cpuset" {
				return true
			}
		}
	}
	return false
}

// ResolvConf chooses the file from which pods get their name servers: the first with one that pods can reach, else one made at fallback.
func ResolvConf(candidates []string, fallback string) (string, error) {
	for _, file := range candidates {
		b, err := os.ReadFile(file)
		if err == nil && usableResolvConf(string(b)) {
			return file, nil
		}
	}
	return fallback, atomicfile.Write(fallback, []byte("nameserver 8.8.8.8\n"), 0o644)
}

// usableResolvConf refuses files whose name servers are loopback addresses: in a pod these are the pod itself.
func usableResolvConf(text string) bool {
	found := false
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if strings.HasPrefix(fields[1], "127.") || fields[1] == "::1" {
			return false
		}
		found = true
	}
	return found
}
