// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package version says what this program is: never K3s.
package version

import (
	"fmt"
	"runtime"

	kube "k8s.io/component-base/version"
)

// Program is the name under which the binary reports itself, whatever its file is called.
const Program = "homelab-lab-distribution"

// Revision identifies the build, embedded programs included; set with -ldflags -X.
var Revision string

// Kubernetes is the version that the API server and the kubelet report.
func Kubernetes() string {
	return kube.Get().GitVersion
}

// Text is what --version prints.
func Text() string {
	revision := Revision
	if revision == "" {
		revision = "unknown"
	}
	return fmt.Sprintf("%s version %s (%s)\ngo version %s\n", Program, Kubernetes(), revision, runtime.Version())
}
