// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package version

import (
	"regexp"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for _, revision := range []string{"", "0123456789ab"} {
		Revision = revision
		text := Text()
		if !regexp.MustCompile(`^homelab-lab-distribution version v\S+ \(\w+\)\ngo version go\S+\n$`).MatchString(text) {
			t.Errorf("%q", text)
		}
		if strings.Contains(strings.ToLower(text), "k3s") {
			t.Errorf("it claims to be K3s: %q", text)
		}
	}
}
