// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Package health listens to the driver's events.
package health

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/klog/v2"
)

// Errors of applications, after which the GPU is as well as before
var applicationErrors = []uint64{13, 31, 43, 45, 68, 109}

// Ignored are the Xids that leave a device healthy.
type Ignored struct {
	all    bool
	listed map[uint64]bool
}

// NewIgnored reads what environment variables disable and enable; the second goes first.
func NewIgnored(disabled, enabled string) Ignored {
	off, all := parse(disabled)
	on, everything := parse(enabled)
	ignored := Ignored{all: all && !everything, listed: map[uint64]bool{}}
	if everything {
		return ignored
	}
	for _, xid := range append(off, applicationErrors...) {
		ignored.listed[xid] = true
	}
	for _, xid := range on {
		ignored.listed[xid] = false
	}
	return ignored
}

func parse(text string) (xids []uint64, all bool) {
	for word := range strings.SplitSeq(strings.ToLower(text), ",") {
		word = strings.TrimSpace(word)
		switch word {
		case "":
			continue
		case "all", "xids":
			return nil, true
		}
		xid, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			klog.Infof("Ignoring malformed Xid value %v: %v", word, err)
			continue
		}
		xids = append(xids, xid)
	}
	return xids, false
}

// Everything says that there is nothing to listen for.
func (ignored Ignored) Everything() bool {
	return ignored.all
}

// Has says whether an Xid is ignored.
func (ignored Ignored) Has(xid uint64) bool {
	if listed, found := ignored.listed[xid]; found {
		return listed
	}
	return ignored.all
}

// String lists them for the log.
func (ignored Ignored) String() string {
	return fmt.Sprint(slices.DeleteFunc(slices.Sorted(maps.Keys(ignored.listed)), func(xid uint64) bool { return !ignored.listed[xid] }))
}
