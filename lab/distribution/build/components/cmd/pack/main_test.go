// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

func TestPack(t *testing.T) {
	content := bytes.Repeat([]byte("the same words again and again; "), 1<<16)
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := pack(out, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two runs gave different bytes")
	}
	if first.Len() > len(content)/10 {
		t.Errorf("%d bytes were packed into %d", len(content), first.Len())
	}
	reader, err := zstd.NewReader(&first)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if got, err := io.ReadAll(reader); err != nil || !bytes.Equal(got, content) {
		t.Errorf("unpacked %d bytes (%v), want %d", len(got), err, len(content))
	}
}

func TestPackReportsReadErrors(t *testing.T) {
	broken := errors.New("broken")
	if err := pack(io.Discard, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
