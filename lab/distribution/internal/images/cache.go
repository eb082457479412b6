// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"homelab.gpu/lab/distribution/internal/atomicfile"
)

const cacheName = ".cache.json"

type stamp struct {
	Size    int64     `json:"size"`
	ModTime time.Time `json:"modTime"`
}

// cache remembers which archives were imported. It is only kept where its file was there before: K3s never creates it either.
type cache struct {
	path    string
	entries map[string]stamp // nil: not kept
}

func openCache(dir string) (*cache, error) {
	c := &cache{path: filepath.Join(dir, cacheName)}
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("image cache: %w", err)
	}
	if json.Unmarshal(b, &c.entries) != nil || c.entries == nil {
		c.entries = map[string]stamp{} // empty or broken: everything is imported once more
	}
	return c, nil
}

func (c *cache) known(path string, info fs.FileInfo) bool {
	s, ok := c.entries[path]
	return ok && s.Size == info.Size() && s.ModTime.Equal(info.ModTime())
}

func (c *cache) remember(path string, info fs.FileInfo) {
	if c.entries != nil {
		c.entries[path] = stamp{info.Size(), info.ModTime()}
	}
}

func (c *cache) save() error {
	if c.entries == nil {
		return nil
	}
	for path := range c.entries {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			delete(c.entries, path)
		}
	}
	b, err := json.MarshalIndent(c.entries, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(c.path, append(b, '\n'), 0o644)
}
