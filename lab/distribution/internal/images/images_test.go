// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package images

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

type recorder struct {
	fail  string
	names []string
}

func (r *recorder) Import(_ context.Context, path string) ([]string, error) {
	if filepath.Base(path) == r.fail {
		return nil, errors.New("no archive")
	}
	r.names = append(r.names, filepath.Base(path))
	return []string{"image"}, nil
}

func put(t *testing.T, dir, name, text string, modified time.Time) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
}

func TestIsArchive(t *testing.T) {
	for name, want := range map[string]bool{
		"a.tar": true, "a.tar.gz": true, "a.tgz": true, "a.tar.zst": true, "a.zst": true, "a.tar.bz2": true,
		"a.txt": false, ".cache.json": false, ".a.tar": false, "a.tar.part": false, "a.gz": false,
	} {
		if got := IsArchive("/x/" + name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestImportAll(t *testing.T) {
	monday, tuesday := time.Unix(1_700_000_000, 123), time.Unix(1_700_086_400, 0)
	tests := map[string]struct {
		cache   bool
		between func(t *testing.T, dir string)
		want    []string // imported by the second start
	}{
		"without a cache file everything is imported at each start": {want: []string{"a.tar", "b.tar.zst"}},
		"a cache file that was there skips what is unchanged":       {cache: true},
		"another size": {cache: true, want: []string{"a.tar"}, between: func(t *testing.T, dir string) { put(t, dir, "a.tar", "longer", monday) }},
		"another time": {cache: true, want: []string{"a.tar"}, between: func(t *testing.T, dir string) { put(t, dir, "a.tar", "a", tuesday) }},
		"another file": {cache: true, want: []string{"c.tar"}, between: func(t *testing.T, dir string) { put(t, dir, "c.tar", "c", monday) }},
		"a removed cache file": {cache: true, want: []string{"a.tar", "b.tar.zst"}, between: func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, cacheName)); err != nil {
				t.Fatal(err)
			}
		}},
		"a broken cache file": {cache: true, want: []string{"a.tar", "b.tar.zst"}, between: func(t *testing.T, dir string) { put(t, dir, cacheName, "{", monday) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "a.tar", "a", monday)
			put(t, dir, "b.tar.zst", "b", monday)
			put(t, dir, "readme.txt", "", monday)
			if tt.cache {
				put(t, dir, cacheName, "", monday)
			}
			first := &recorder{}
			if err := (&Folder{dir, first}).ImportAll(context.Background()); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(first.names, []string{"a.tar", "b.tar.zst"}) {
				t.Fatalf("first start imported %v", first.names)
			}
			if _, err := os.Stat(filepath.Join(dir, cacheName)); (err == nil) != tt.cache {
				t.Fatalf("cache file: %v", err)
			}
			if tt.between != nil {
				tt.between(t, dir)
			}
			second := &recorder{}
			if err := (&Folder{dir, second}).ImportAll(context.Background()); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(second.names, tt.want) {
				t.Errorf("second start imported %v, want %v", second.names, tt.want)
			}
		})
	}
}

func TestABrokenArchiveDoesNotStopTheOthersAndIsNotRemembered(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1_700_000_000, 0)
	put(t, dir, "a.tar", "a", now)
	put(t, dir, "b.tar", "b", now)
	put(t, dir, cacheName, "", now)
	r := &recorder{fail: "a.tar"}
	err := (&Folder{dir, r}).ImportAll(context.Background())
	if err == nil || !strings.Contains(err.Error(), "a.tar") || !slices.Equal(r.names, []string{"b.tar"}) {
		t.Errorf("imported %v, %v", r.names, err)
	}
	again := &recorder{}
	if err := (&Folder{dir, again}).ImportAll(context.Background()); err != nil || !slices.Equal(again.names, []string{"a.tar"}) {
		t.Errorf("imported %v, %v", again.names, err)
	}
}

func TestTheCacheForgetsRemovedArchives(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1_700_000_000, 0)
	put(t, dir, "a.tar", "a", now)
	put(t, dir, cacheName, "", now)
	f := &Folder{dir, &recorder{}}
	if err := f.ImportAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "a.tar")); err != nil {
		t.Fatal(err)
	}
	if err := f.ImportAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, cacheName)); err != nil || strings.Contains(string(b), "a.tar") {
		t.Errorf("%s, %v", b, err)
	}
}

func TestNoFolderIsNoError(t *testing.T) {
	if err := (&Folder{filepath.Join(t.TempDir(), "none"), &recorder{}}).ImportAll(context.Background()); err != nil {
		t.Error(err)
	}
}
