// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package distribution carries the programs and manifests that are built into the binary.
package distribution

import "embed"

// Programs holds the executables that the build pipeline put into embed/ (containerd-shim-runc-v2, runc, CNI plugins).
//
//go:embed all:embed
var Programs embed.FS

// Manifests holds the bundled manifests; %{NAME}% is replaced by the server.
//
//go:embed manifests
var Manifests embed.FS
