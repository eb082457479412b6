// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package network

import (
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
)

// Chains have the names that flannel uses on K3s, so that the same clean-up finds them.
const (
	masqueradeChain utiliptables.Chain = "FLANNEL-POSTRTG"
	forwardChain    utiliptables.Chain = "FLANNEL-FWD"
	comment                            = "flanneld: lab distribution"
)

// ensureFirewall lets pods reach the outside with the node's address, and forwards their packets whatever the host's policy is.
func ensureFirewall(ipt utiliptables.Interface, clusterCIDR string) error {
	for _, c := range []struct {
		table utiliptables.Table
		from  utiliptables.Chain
		chain utiliptables.Chain
		rules [][]string
	}{
		{utiliptables.TableNAT, utiliptables.ChainPostrouting, masqueradeChain, [][]string{
			{"-s", clusterCIDR, "-d", clusterCIDR, "-j", "RETURN"},
			{"-s", clusterCIDR, "!", "-d", "224.0.0.0/4", "-j", "MASQUERADE"},
		}},
		{utiliptables.TableFilter, utiliptables.ChainForward, forwardChain, [][]string{
			{"-s", clusterCIDR, "-j", "ACCEPT"},
			{"-d", clusterCIDR, "-j", "ACCEPT"},
		}},
	} {
		if _, err := ipt.EnsureChain(c.table, c.chain); err != nil {
			return err
		}
		if err := ipt.FlushChain(c.table, c.chain); err != nil {
			return err
		}
		for _, rule := range c.rules {
			if _, err := ipt.EnsureRule(utiliptables.Append, c.table, c.chain, append([]string{"-m", "comment", "--comment", comment}, rule...)...); err != nil {
				return err
			}
		}
		if _, err := ipt.EnsureRule(utiliptables.Append, c.table, c.from, "-m", "comment", "--comment", comment, "-j", string(c.chain)); err != nil {
			return err
		}
	}
	return nil
}
