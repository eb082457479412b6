// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package netpol

import (
	"bytes"
	"errors"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
)

// kernel is a packet filter that only remembers.
type kernel struct {
	utiliptables.Interface
	filter   string // what iptables-save says
	restored string
	sets     map[string]string
	busy     map[string]int // how often a set cannot be destroyed
	fail     error
	noIPSet  bool
}

func (k *kernel) SaveInto(_ utiliptables.Table, b *bytes.Buffer) error {
	_, err := b.WriteString(k.filter)
	return err
}

func (k *kernel) RestoreAll(data []byte, flush utiliptables.FlushFlag, _ utiliptables.RestoreCountersFlag) error {
	if flush != utiliptables.NoFlushTables {
		return errors.New("the rules of others are lost")
	}
	if k.fail != nil {
		return k.fail
	}
	k.restored = string(data)
	return nil
}

func (k *kernel) ipset(input []byte, args ...string) ([]byte, error) {
	if k.noIPSet {
		return nil, exec.ErrNotFound
	}
	switch strings.Join(args[:1], "") {
	case "-exist":
		for line := range strings.Lines(string(input)) {
			words := strings.Fields(line)
			if words[0] == "create" {
				k.sets[words[1]] += ""
			} else if _, ok := k.sets[words[1]]; ok {
				k.sets[words[1]] += words[2] + " "
			} else {
				return nil, errors.New("no such set: " + line)
			}
		}
	case "list":
		return []byte(strings.Join(slices.Sorted(maps.Keys(k.sets)), "\n") + "\n"), nil
	case "destroy":
		if k.busy[args[1]] > 0 {
			k.busy[args[1]]--
			return nil, errors.New("it is in use by a kernel component")
		}
		delete(k.sets, args[1])
	}
	return nil, nil
}

func newKernel() (*kernel, *Kernel) {
	k := &kernel{sets: map[string]string{}, busy: map[string]int{}}
	return k, &Kernel{iptables: k, ipset: k.ipset}
}

func example() Rules {
	return Rules{
		Sets: map[string][]netip.Prefix{"KUBE-ROUTER-S-1": {netip.MustParsePrefix("10.42.0.9/32"), netip.MustParsePrefix("192.0.2.0/24")}},
		Chains: map[string][]Allow{
			"KUBE-ROUTER-E-1": {{"", "udp", "53"}},
			"KUBE-ROUTER-I-1": {{"KUBE-ROUTER-S-1", "tcp", "80:90"}, {"", "", ""}},
		},
		Isolated: []Isolated{{netip.MustParseAddr("10.42.0.2"), "KUBE-ROUTER-I-1", "KUBE-ROUTER-E-1"}, {netip.MustParseAddr("10.42.0.3"), "KUBE-ROUTER-I-1", ""}},
	}
}

const foreign = `*filter
:INPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
COMMIT
`

const earlier = `*filter
:INPUT ACCEPT [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-ROUTER-I-1 - [0:0]
:KUBE-ROUTER-I-0 - [12:34]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m comment --comment "network policies: lab distribution" -j KUBE-ROUTER-FORWARD
-A KUBE-ROUTER-FORWARD -d 10.42.0.2/32 -j KUBE-ROUTER-I-0
COMMIT
`

func TestRenderFilter(t *testing.T) {
	const rules = `-I FORWARD 1 -m comment --comment "network policies: lab distribution" -j KUBE-ROUTER-FORWARD
-A KUBE-ROUTER-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-I INPUT 1 -m comment --comment "network policies: lab distribution" -j KUBE-ROUTER-INPUT
-A KUBE-ROUTER-INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A KUBE-ROUTER-FORWARD -s 10.42.0.2/32 -d 10.42.0.2/32 -j RETURN
-A KUBE-ROUTER-FORWARD -s 10.42.0.3/32 -d 10.42.0.3/32 -j RETURN
-A KUBE-ROUTER-FORWARD -s 10.42.0.2/32 -j KUBE-ROUTER-E-1
-A KUBE-ROUTER-INPUT -s 10.42.0.2/32 -j KUBE-ROUTER-E-1
-A KUBE-ROUTER-FORWARD -d 10.42.0.2/32 -j KUBE-ROUTER-I-1
-A KUBE-ROUTER-FORWARD -d 10.42.0.3/32 -j KUBE-ROUTER-I-1
-A KUBE-ROUTER-E-1 -p udp -m multiport --dports 53 -j RETURN
-A KUBE-ROUTER-E-1 -j REJECT --reject-with icmp-port-unreachable
-A KUBE-ROUTER-I-1 -m set --match-set KUBE-ROUTER-S-1 src -p tcp -m multiport --dports 80:90 -j RETURN
-A KUBE-ROUTER-I-1 -j RETURN
-A KUBE-ROUTER-I-1 -j REJECT --reject-with icmp-port-unreachable
`
	const chains = "*filter\n:KUBE-ROUTER-FORWARD - [0:0]\n:KUBE-ROUTER-INPUT - [0:0]\n:KUBE-ROUTER-E-1 - [0:0]\n:KUBE-ROUTER-I-1 - [0:0]\n"
	for name, tt := range map[string]struct{ saved, want string }{
		"for the first time": {foreign, chains + rules + "COMMIT\n"},
		"again": {earlier, chains + ":KUBE-ROUTER-I-0 - [0:0]\n" +
			"-D FORWARD -m comment --comment \"network policies: lab distribution\" -j KUBE-ROUTER-FORWARD\n" + rules + "-X KUBE-ROUTER-I-0\nCOMMIT\n"},
	} {
		if got := string(renderFilter(example(), tt.saved)); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, tt.want)
		}
	}
}

func TestRenderRemoval(t *testing.T) {
	const want = `*filter
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-ROUTER-I-1 - [0:0]
:KUBE-ROUTER-I-0 - [0:0]
-D FORWARD -m comment --comment "network policies: lab distribution" -j KUBE-ROUTER-FORWARD
-X KUBE-ROUTER-FORWARD
-X KUBE-ROUTER-I-1
-X KUBE-ROUTER-I-0
COMMIT
`
	if got := string(renderRemoval(earlier)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := renderRemoval(foreign); got != nil {
		t.Errorf("nothing is ours, but %s", got)
	}
}

func TestApply(t *testing.T) {
	k, filter := newKernel()
	k.sets["KUBE-ROUTER-S-0"], k.sets["KUBE-ROUTER-S-00"], k.sets["others"] = "", "", ""
	k.busy["KUBE-ROUTER-S-00"] = 1
	if err := filter.Apply(example()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(slices.Sorted(maps.Keys(k.sets)), " "); got != "KUBE-ROUTER-S-00 KUBE-ROUTER-S-1 others" {
		t.Errorf("sets %s", got)
	}
	if got := k.sets["KUBE-ROUTER-S-1"]; got != "10.42.0.9/32 192.0.2.0/24 " {
		t.Errorf("set %s", got)
	}
	if k.restored == "" {
		t.Error("no rules")
	}
}

func TestApplyKeepsSetsThatMayBeInUse(t *testing.T) {
	k, filter := newKernel()
	k.sets["KUBE-ROUTER-S-0"], k.fail = "", errors.New("another holds the lock")
	if err := filter.Apply(example()); !errors.Is(err, k.fail) {
		t.Errorf("got %v", err)
	}
	if _, there := k.sets["KUBE-ROUTER-S-0"]; !there {
		t.Error("the rules from before have lost a set")
	}
}

func TestWithoutIPSet(t *testing.T) {
	k, filter := newKernel()
	k.noIPSet = true
	if err := filter.Apply(Rules{}); err != nil {
		t.Errorf("nothing needs it: %v", err)
	}
	if err := filter.Remove(); err != nil {
		t.Errorf("nothing needs it: %v", err)
	}
	k.restored = ""
	if err := filter.Apply(example()); !errors.Is(err, exec.ErrNotFound) || k.restored != "" {
		t.Errorf("%v, restored %q", err, k.restored)
	}
}

func TestRemove(t *testing.T) {
	k, filter := newKernel()
	k.filter = earlier
	k.sets["KUBE-ROUTER-S-0"], k.sets["others"] = "", ""
	if err := filter.Remove(); err != nil {
		t.Fatal(err)
	}
	if len(k.sets) != 1 || !strings.Contains(k.restored, "-X KUBE-ROUTER-FORWARD") {
		t.Errorf("sets %v, restored %s", k.sets, k.restored)
	}
}
