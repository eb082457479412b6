// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package images imports image archives into containerd and keeps them out of garbage collection.
package images

import (
	"compress/bzip2"
	"context"
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

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/fsnotify/fsnotify"
)

// Labels are set on every imported image; the second is what containerd's CRI reports to the kubelet as pinned.
var Labels = map[string]string{
	"io.cattle.k3s.pinned":     "pinned",
	"io.cri-containerd.pinned": "pinned",
	"io.cri-containerd.image":  "managed",
}

var suffixes = []string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".zst", ".tar.bz2", ".tbz", ".bz2"}

// settle is how long a file that appears while running must stay unchanged before it is read.
const settle = 2 * time.Second

// IsArchive tells by its name whether a file is imported.
func IsArchive(name string) bool {
	base := filepath.Base(name)
	return !strings.HasPrefix(base, ".") && slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(base, s) })
}

// Importer imports one archive.
type Importer interface {
	Import(ctx context.Context, path string) (names []string, err error)
}

// Folder imports what lies in a directory.
type Folder struct {
	Dir      string
	Importer Importer
}

// ImportAll imports every archive that the cache does not know, and returns the first error after trying all.
func (f *Folder) ImportAll(ctx context.Context) error {
	cache, err := openCache(f.Dir)
	if err != nil {
		return err
	}
	var errs []error
	entries, err := os.ReadDir(f.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(f.Dir, entry.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || !IsArchive(path) {
			continue
		}
		if cache.known(path, info) {
			slog.Info("image archive is unchanged since its last import", "file", path)
			continue
		}
		began := time.Now()
		names, err := f.Importer.Import(ctx, path)
		if err != nil {
			errs = append(errs, fmt.Errorf("import %s: %w", path, err))
			continue
		}
		slog.Info("imported images", "file", path, "images", len(names), "took", time.Since(began).Round(time.Millisecond))
		cache.remember(path, info)
	}
	return errors.Join(append(errs, cache.save())...)
}

// Watch imports archives that are added or changed, until ctx ends.
func (f *Folder) Watch(ctx context.Context) error {
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Add(f.Dir); err != nil {
		return fmt.Errorf("watch %s: %w", f.Dir, err)
	}
	pending := map[string]time.Time{}
	tick := time.NewTicker(settle / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			return fmt.Errorf("watch %s: %w", f.Dir, err)
		case e := <-w.Events:
			if IsArchive(e.Name) && e.Has(fsnotify.Create|fsnotify.Write) {
				pending[e.Name] = time.Now()
			}
		case now := <-tick.C:
			for path, changed := range pending {
				if now.Sub(changed) < settle {
					continue
				}
				delete(pending, path)
				f.importOne(ctx, path)
			}
		}
	}
}

func (f *Folder) importOne(ctx context.Context, path string) {
	info, err := os.Stat(path)
	if err != nil {
		return // removed again
	}
	names, err := f.Importer.Import(ctx, path)
	if err != nil {
		slog.Error("import of a new image archive", "file", path, "err", err)
		return
	}
	slog.Info("imported images", "file", path, "images", len(names))
	cache, err := openCache(f.Dir)
	if err == nil {
		cache.remember(path, info)
		err = cache.save()
	}
	if err != nil {
		slog.Error("image cache", "err", err)
	}
}

// Containerd imports into containerd's image store.
type Containerd struct {
	Client *containerd.Client
}

// Import implements Importer.
func (c Containerd) Import(ctx context.Context, path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var reader io.Reader = file
	if strings.HasSuffix(path, ".bz2") || strings.HasSuffix(path, ".tbz") {
		reader = bzip2.NewReader(file)
	}
	stream, err := compression.DecompressStream(reader)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	defer stream.Close()
	imported, err := c.Client.Import(ctx, stream, containerd.WithImageLabels(Labels), containerd.WithAllPlatforms(true), containerd.WithSkipMissing())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, image := range imported {
		names = append(names, image.Name)
	}
	return names, nil
}
