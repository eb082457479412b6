// Copyright (c) 2026, homelab.gpu contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package netpol

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// The cluster of the tests: in namespace a, web and client on node 1, far on node 2; in b, other on node 2; outside is no pod.
var (
	web    = Pod{"a", "web", "1", netip.MustParseAddr("10.42.1.2"), labels.Set{"app": "web"}, []NamedPort{{"http", "TCP", 8080}, {"dns", "UDP", 53}}}
	client = Pod{"a", "client", "1", netip.MustParseAddr("10.42.1.3"), labels.Set{"app": "client", "role": "friend"}, nil}
	far    = Pod{"a", "far", "2", netip.MustParseAddr("10.42.2.2"), labels.Set{"app": "web", "role": "friend"}, []NamedPort{{"http", "TCP", 9090}}}
	other  = Pod{"b", "other", "2", netip.MustParseAddr("10.42.2.3"), labels.Set{"app": "client"}, []NamedPort{{"http", "TCP", 8080}}}
)

var places = map[string]netip.Addr{
	"web": web.IP, "client": client.IP, "far": far.IP, "other": other.IP, "outside": netip.MustParseAddr("192.0.2.9"), "near-outside": netip.MustParseAddr("192.0.2.200"),
}

func cluster(t *testing.T, text string) State {
	t.Helper()
	s := State{Pods: []Pod{web, client, far, other}, Namespaces: map[string]labels.Set{"a": {"name": "a", "team": "red"}, "b": {"name": "b", "team": "blue"}}}
	for i, document := range strings.Split(text, "---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		policy := &networkingv1.NetworkPolicy{}
		if err := yaml.UnmarshalStrict([]byte("spec:\n"+indent(document)), policy); err != nil {
			t.Fatal(err)
		}
		policy.Namespace, policy.Name = "a", "p"+strconv.Itoa(i)
		s.Policies = append(s.Policies, policy)
	}
	return s
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}

// passes plays the packet filters of both nodes for a new connection.
func passes(t *testing.T, s State, from, to netip.Addr, protocol string, port int) bool {
	t.Helper()
	if from == to {
		t.Fatal("render lets a pod reach itself")
	}
	for _, node := range []string{"1", "2"} {
		r, err := Compute(node, s)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range r.Isolated {
			if i.IP == from && i.Egress != "" && !allows(t, r, i.Egress, to, protocol, port) {
				return false
			}
			if i.IP == to && i.Ingress != "" && !allows(t, r, i.Ingress, from, protocol, port) {
				return false
			}
		}
	}
	return true
}

func allows(t *testing.T, r Rules, chain string, peer netip.Addr, protocol string, port int) bool {
	t.Helper()
	rules, ok := r.Chains[chain]
	if !ok {
		t.Fatalf("there is no chain %s", chain)
	}
	return slices.ContainsFunc(rules, func(a Allow) bool {
		if a.Set != "" && !slices.ContainsFunc(r.Sets[a.Set], func(p netip.Prefix) bool { return p.Contains(peer) }) {
			return false
		}
		if a.Protocol != "" && a.Protocol != protocol {
			return false
		}
		if a.Ports == "" {
			return true
		}
		first, last, ranged := strings.Cut(a.Ports, ":")
		if !ranged {
			last = first
		}
		low, lowErr := strconv.Atoi(first)
		high, highErr := strconv.Atoi(last)
		if lowErr != nil || highErr != nil {
			t.Fatalf("ports %q", a.Ports)
		}
		return low <= port && port <= high
	})
}

func TestPolicies(t *testing.T) {
	for name, tt := range map[string]struct {
		policies string
		open     string // "from>to/protocol/port", separated by spaces
		closed   string
	}{
		"none": {open: "client>web/tcp/1 other>web/udp/1"},
		"default deny of ingress": {
			policies: "podSelector: {}\npolicyTypes: [Ingress]\n",
			open:     "web>other/tcp/80 far>outside/tcp/80 client>other/icmp/0",
			closed:   "client>web/tcp/80 far>web/tcp/80 web>far/tcp/80 other>web/tcp/80 outside>web/tcp/80 client>web/icmp/0",
		},
		"default deny of egress": {
			policies: "podSelector: {}\npolicyTypes: [Egress]\n",
			open:     "other>web/tcp/80 outside>web/tcp/80",
			closed:   "client>web/tcp/80 web>far/tcp/80 web>outside/tcp/80 web>other/udp/53",
		},
		"types that are not given": {
			policies: "podSelector: {}\n",
			open:     "web>other/tcp/80",
			closed:   "other>web/tcp/80",
		},
		"types that are not given, with egress": {
			policies: "podSelector: {}\negress:\n- to: [{ipBlock: {cidr: 192.0.2.0/24}}]\n",
			open:     "web>outside/tcp/80",
			closed:   "web>other/tcp/80 other>web/tcp/80",
		},
		"only the selected pods": {
			policies: "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress]\n",
			open:     "web>client/tcp/80 other>client/tcp/80",
			closed:   "client>web/tcp/80 client>far/tcp/80",
		},
		"all is allowed": {
			policies: "podSelector: {}\npolicyTypes: [Ingress]\ningress: [{}]\n",
			open:     "client>web/tcp/80 other>web/udp/1 outside>far/icmp/0",
		},
		"one denies, the other allows: they add up": {
			policies: "podSelector: {}\npolicyTypes: [Ingress]\n---\npodSelector: {matchLabels: {app: web}}\ningress: [{}]\n",
			open:     "client>web/tcp/80 outside>far/tcp/80",
			closed:   "web>client/tcp/80",
		},
		"by label of the pod, in the policy's namespace only": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{podSelector: {matchLabels: {app: client}}}]\n",
			open:     "client>web/tcp/80 client>far/udp/53 client>web/icmp/0",
			closed:   "other>web/tcp/80 far>web/tcp/80 outside>web/tcp/80",
		},
		"by expression": {
			policies: "podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}\ningress:\n- from: [{podSelector: {matchExpressions: [{key: role, operator: Exists}]}}]\n",
			open:     "client>web/tcp/80 far>web/tcp/80",
			closed:   "other>web/tcp/80",
		},
		"by namespace": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{namespaceSelector: {matchLabels: {team: blue}}}]\n",
			open:     "other>web/tcp/80",
			closed:   "client>web/tcp/80",
		},
		"all namespaces, not the outside": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{namespaceSelector: {}}]\n",
			open:     "other>web/tcp/80 client>web/tcp/80",
			closed:   "outside>web/tcp/80",
		},
		"by namespace and label: both": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: web}}}]\n",
			closed:   "other>web/tcp/80 client>web/tcp/80 far>web/tcp/80",
		},
		"by namespace or label": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: client}}}]\n",
			open:     "other>web/tcp/80 client>web/tcp/80",
			closed:   "far>web/tcp/80",
		},
		"a peer that is nobody": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{podSelector: {matchLabels: {app: none}}}]\n",
			closed:   "client>web/tcp/80 outside>web/tcp/80",
		},
		"by block": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]\n",
			open:     "outside>web/tcp/80",
			closed:   "near-outside>web/tcp/80 client>web/tcp/80",
		},
		"an exception is one of its block only": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}, {ipBlock: {cidr: 192.0.0.0/16}}]\n",
			open:     "outside>web/tcp/80 near-outside>web/tcp/80",
			closed:   "client>web/tcp/80",
		},
		"every address": {
			policies: "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to: [{ipBlock: {cidr: 0.0.0.0/0}}]\n",
			open:     "web>outside/tcp/80 web>other/tcp/80",
		},
		"every address but some": {
			policies: "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress:\n- to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.42.0.0/16]}}]\n",
			open:     "web>outside/tcp/80",
			closed:   "web>other/tcp/80",
		},
		"a block of IPv6": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{ipBlock: {cidr: '::/0'}}]\n",
			closed:   "outside>web/tcp/80 client>web/tcp/80",
		},
		"a port, TCP unless it says otherwise": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: 80}]\n",
			open:     "client>web/tcp/80 outside>far/tcp/80",
			closed:   "client>web/udp/80 client>web/tcp/81 client>web/icmp/0",
		},
		"ports of all protocols": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: 80, protocol: TCP}, {port: 53, protocol: UDP}, {port: 7, protocol: SCTP}]\n",
			open:     "client>web/tcp/80 client>web/udp/53 client>web/sctp/7",
			closed:   "client>web/tcp/53 client>web/udp/7 client>web/sctp/80",
		},
		"a protocol without a port": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{protocol: UDP}]\n",
			open:     "client>web/udp/1 client>web/udp/65535",
			closed:   "client>web/tcp/1",
		},
		"a range": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: 8000, endPort: 8010}]\n",
			open:     "client>web/tcp/8000 client>web/tcp/8005 client>web/tcp/8010",
			closed:   "client>web/tcp/7999 client>web/tcp/8011",
		},
		"a named port is that of each selected pod": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: http}, {port: dns, protocol: UDP}]\n",
			open:     "client>web/tcp/8080 client>far/tcp/9090 client>web/udp/53",
			closed:   "client>web/tcp/9090 client>far/tcp/8080 client>far/udp/53 client>web/tcp/53",
		},
		"a named port of another protocol": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- ports: [{port: http, protocol: UDP}]\n",
			closed:   "client>web/tcp/8080 client>web/udp/8080",
		},
		"a named port on the way out is that of the other pod": {
			policies: "podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\negress:\n- to: [{podSelector: {}}]\n  ports: [{port: http}]\n",
			open:     "client>web/tcp/8080 client>far/tcp/9090",
			closed:   "client>web/tcp/9090 client>far/tcp/8080 client>other/tcp/8080 client>outside/tcp/8080",
		},
		"a named port on the way out to anybody": {
			policies: "podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\negress:\n- ports: [{port: http}]\n",
			open:     "client>web/tcp/8080 client>far/tcp/9090 client>other/tcp/8080",
			closed:   "client>other/tcp/9090 client>outside/tcp/8080",
		},
		"peers and ports: both": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{podSelector: {matchLabels: {app: client}}}]\n  ports: [{port: 80}]\n",
			open:     "client>web/tcp/80",
			closed:   "client>web/tcp/81 other>web/tcp/80",
		},
		"rules add up": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{podSelector: {matchLabels: {app: client}}}]\n  ports: [{port: 80}]\n- from: [{namespaceSelector: {matchLabels: {team: blue}}}]\n  ports: [{port: 81}]\n",
			open:     "client>web/tcp/80 other>web/tcp/81",
			closed:   "client>web/tcp/81 other>web/tcp/80",
		},
		"both ends must allow": {
			policies: "podSelector: {matchLabels: {app: web}}\ningress:\n- from: [{podSelector: {}}]\n---\npodSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\negress:\n- ports: [{port: 80}]\n",
			open:     "client>web/tcp/80 client>other/tcp/80",
			closed:   "client>web/tcp/81",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := cluster(t, tt.policies)
			for text, want := range map[string]bool{tt.open: true, tt.closed: false} {
				for _, packet := range strings.Fields(text) {
					ends, rest, _ := strings.Cut(packet, "/")
					from, to, _ := strings.Cut(ends, ">")
					protocol, number, _ := strings.Cut(rest, "/")
					port, err := strconv.Atoi(number)
					if err != nil || !places[from].IsValid() || !places[to].IsValid() {
						t.Fatalf("bad packet %q", packet)
					}
					if got := passes(t, s, places[from], places[to], protocol, port); got != want {
						t.Errorf("%s passes: %v, want %v", packet, got, want)
					}
				}
			}
		})
	}
}

func TestOnlyPodsOfTheNodeAreIsolated(t *testing.T) {
	s := cluster(t, "podSelector: {}\npolicyTypes: [Ingress]\n")
	for node, want := range map[string]string{"1": "10.42.1.2 10.42.1.3", "2": "10.42.2.2", "3": ""} {
		r, err := Compute(node, s)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range r.Isolated {
			got = append(got, i.IP.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("node %s: %v, want %s", node, got, want)
		}
	}
}

func TestEqualPodsShareChainsAndSets(t *testing.T) {
	allow := "podSelector: {}\ningress:\n- from: [{podSelector: {matchLabels: {app: client}}}]\n  ports: [{port: 80}, {port: 81}]\n"
	r, err := Compute("1", cluster(t, allow+"---\n"+allow))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Isolated) != 2 || len(r.Chains) != 1 || len(r.Sets) != 1 || len(r.Chains[r.Isolated[0].Ingress]) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestTheSameStateInAnotherOrderGivesTheSameRules(t *testing.T) {
	s := cluster(t, "podSelector: {}\ningress:\n- from: [{namespaceSelector: {}}]\n  ports: [{port: 81}, {port: http}]\n---\npodSelector: {}\negress:\n- ports: [{port: http}]\n")
	want, err := Compute("1", s)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(s.Pods)
	slices.Reverse(s.Policies)
	got, err := Compute("1", s)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v, %v", got, want, err)
	}
}

func TestASetThatIsNotUsedIsLeftOut(t *testing.T) {
	r, err := Compute("1", cluster(t, "podSelector: {}\ningress:\n- from: [{podSelector: {}}]\n- {}\n"))
	if err != nil || len(r.Isolated) != 0 || len(r.Sets) != 0 || len(r.Chains) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWhatCannotBeUnderstoodAllowsNothing(t *testing.T) {
	bad := "{matchExpressions: [{key: app, operator: Is}]}"
	for name, tt := range map[string]struct{ policy, problem string }{
		"selector of a peer":      {"podSelector: {}\ningress:\n- from: [{podSelector: " + bad + "}]\n", "podSelector"},
		"selector of a namespace": {"podSelector: {}\ningress:\n- from: [{namespaceSelector: " + bad + "}]\n", "namespaceSelector"},
		"block":                   {"podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: everywhere}}]\n", "ipBlock.cidr"},
		"exception":               {"podSelector: {}\ningress:\n- from: [{ipBlock: {cidr: 0.0.0.0/0, except: [home]}}]\n", "ipBlock.except"},
	} {
		r, err := Compute("1", cluster(t, tt.policy))
		if err == nil || !strings.Contains(err.Error(), "NetworkPolicy a/p0: "+tt.problem) {
			t.Errorf("%s: %v", name, err)
		}
		if len(r.Isolated) != 2 || len(r.Chains[r.Isolated[0].Ingress]) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestAddresses(t *testing.T) {
	for name, tt := range map[string]struct {
		cidr   string
		except []string
		want   string
	}{
		"plain":                 {"192.0.2.0/24", nil, "192.0.2.0/24"},
		"host bits":             {"192.0.2.7/24", nil, "192.0.2.0/24"},
		"one address":           {"192.0.2.7/32", nil, "192.0.2.7/32"},
		"everything":            {"0.0.0.0/0", nil, "0.0.0.0/1 128.0.0.0/1"},
		"without a half":        {"192.0.2.0/24", []string{"192.0.2.128/25"}, "192.0.2.0/25"},
		"without the middle":    {"192.0.2.0/24", []string{"192.0.2.64/26"}, "192.0.2.0/26 192.0.2.128/25"},
		"without an address":    {"192.0.2.0/30", []string{"192.0.2.1/32"}, "192.0.2.0/32 192.0.2.2/31"},
		"without two":           {"192.0.2.0/30", []string{"192.0.2.1/32", "192.0.2.2/32"}, "192.0.2.0/32 192.0.2.3/32"},
		"without itself":        {"192.0.2.0/24", []string{"192.0.2.0/24"}, ""},
		"without more":          {"192.0.2.0/24", []string{"192.0.0.0/16"}, ""},
		"without what it lacks": {"192.0.2.0/24", []string{"198.51.100.0/24"}, "192.0.2.0/24"},
		"IPv6":                  {"2001:db8::/32", nil, ""},
	} {
		got, err := addresses(&networkingv1.IPBlock{CIDR: tt.cidr, Except: tt.except})
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Trim(fmt.Sprint(got), "[]"); text != tt.want {
			t.Errorf("%s: got %s, want %s", name, text, tt.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	p := Pod{Ports: []NamedPort{{"a", corev1.ProtocolTCP, 1}, {"a", corev1.ProtocolUDP, 2}, {"b", corev1.ProtocolTCP, 3}}}
	if got := p.numbers("a", corev1.ProtocolUDP); !slices.Equal(got, []int32{2}) {
		t.Errorf("%v", got)
	}
}
