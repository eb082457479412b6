// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package manifests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"homelab.gpu/lab/distribution/internal/atomicfile"
)

// Stage writes the bundled manifests of files (a folder called manifests) into dir, with %{NAME}% replaced, and removes the disabled ones.
func Stage(files fs.FS, dir string, values map[string]string, disabled []string) error {
	pairs := make([]string, 0, 2*len(values))
	for name, value := range values {
		pairs = append(pairs, "%{"+name+"}%", value)
	}
	replacer := strings.NewReplacer(pairs...)
	entries, err := fs.ReadDir(files, "manifests")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		target := filepath.Join(dir, entry.Name())
		if slices.Contains(disabled, addonName(entry.Name())) {
			if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if _, err := os.Stat(target + skipSuffix); err == nil {
			continue
		}
		b, err := fs.ReadFile(files, path.Join("manifests", entry.Name()))
		if err != nil {
			return err
		}
		text := replacer.Replace(string(b))
		if i := strings.Index(text, "%{"); i >= 0 {
			return fmt.Errorf("%s: %q is not replaced", entry.Name(), strings.SplitN(text[i:], "\n", 2)[0])
		}
		if err := atomicfile.Write(target, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
