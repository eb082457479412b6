// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package netpol

import (
	"fmt"
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
)

// addresses of an ipBlock, its exceptions taken out: several blocks then share a set without one's exceptions ruling out another's addresses.
// Pods have IPv4 addresses only, so a block of IPv6 has none.
func addresses(block *networkingv1.IPBlock) ([]netip.Prefix, error) {
	whole, err := netip.ParsePrefix(block.CIDR)
	if err != nil {
		return nil, fmt.Errorf("ipBlock.cidr: %w", err)
	}
	if !whole.Addr().Is4() {
		return nil, nil
	}
	left := []netip.Prefix{whole.Masked()}
	for _, text := range block.Except {
		hole, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("ipBlock.except: %w", err)
		}
		var next []netip.Prefix
		for _, p := range left {
			next = append(next, without(p, hole.Masked())...)
		}
		left = next
	}
	// A set of networks cannot hold 0.0.0.0/0
	if len(left) == 1 && left[0].Bits() == 0 {
		lower, upper := halves(left[0])
		left = []netip.Prefix{lower, upper}
	}
	return left, nil
}

// without is p less hole: the halves of p that hole is not in, halved again and again.
func without(p, hole netip.Prefix) []netip.Prefix {
	if !p.Overlaps(hole) {
		return []netip.Prefix{p}
	}
	if hole.Bits() <= p.Bits() {
		return nil
	}
	lower, upper := halves(p)
	return append(without(lower, hole), without(upper, hole)...)
}

func halves(p netip.Prefix) (lower, upper netip.Prefix) {
	address := p.Addr().As4()
	address[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(netip.AddrFrom4(address), p.Bits()+1)
}
