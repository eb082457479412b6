# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs that cannot be right. Each is refused before anything is sent, by a message that names the option and the way out."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

MAP: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
SECRET: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "correct-horse"}}
LABEL = {"name": "a", "labels": {"x": "y"}}
TAINT = {"key": "x", "effect": "NoSchedule"}


def workload(kind: str = "Deployment", **entry: t.Any) -> Object:
    """For kube_rollout, and with replicas for kube_scale."""
    return {"workloads": [{"kind": kind, "name": "a", **entry}]}


def node(**settings: t.Any) -> Object:
    return {"nodes": [{"name": "a", **settings}]}


def command(*argv: str, **options: t.Any) -> Object:
    return {"pod": "a", "command": list(argv), **options}


def target(**options: t.Any) -> Object:
    return {"targets": [{"kind": "Pod"}, {"kind": "Node", **options}]}


# module, options, words of the message
TABLE: list[tuple[str, Object, list[str]]] = [
    # The connection
    ("kube_info", {"kubeconfig": "/nonexistent/config"}, ["kubeconfig: there is no file /nonexistent/config"]),
    ("kube_info", {"kubeconfig": {}}, ["kubeconfig"]),
    ("kube_info", {"kubeconfig": {"kind": "Config", "current-context": "a"}}, ["kubeconfig (inline) cannot be used", "no context named a"]),
    ("kube_info", {"kubeconfig": 7}, ["kubeconfig"]),
    ("kube_info", {"context": "none"}, ["with context none cannot be used", "no context named none"]),
    ("kube_info", {"host": "k3s:6443"}, ["host is 'k3s:6443'; write it as https://NAME:PORT"]),
    ("kube_info", {"host": "ftp://k3s"}, ["host is 'ftp://k3s'; write it as https://NAME:PORT"]),
    ("kube_info", {"host": "https://"}, ["host is 'https://'; write it as https://NAME:PORT"]),
    ("kube_info", {"in_cluster": True}, ["in_cluster=true excludes kubeconfig and host; give one of them"]),
    ("kube_info", {"host": "https://a", "in_cluster": True}, ["in_cluster=true excludes kubeconfig and host"]),
    ("kube_info", {"host": "https://a", "ca_cert": "/nonexistent/ca.crt"}, ["ca_cert: there is no file /nonexistent/ca.crt"]),
    (
        "kube_info",
        {"host": "https://a", "ca_cert": "{tmp}/not-a-cert"},
        ["not-a-cert (ca_cert, or certificate-authority of the kubeconfig) cannot be used, check that it is complete and PEM"],
    ),
    ("kube_info", {"host": "https://a", "client_cert": "{tmp}/not-a-cert"}, ["client_cert and client_key belong together: client_key is missing"]),
    ("kube_info", {"host": "https://a", "client_key": "{tmp}/not-a-cert"}, ["client_cert and client_key belong together: client_cert is missing"]),
    (
        "kube_info",
        {"host": "https://a", "client_cert": "{tmp}/not-a-cert", "client_key": "{tmp}/not-a-cert"},
        ["not-a-cert (client_cert with client_key", "cannot be used"],
    ),
    ("kube_info", {"validate_certs": "perhaps"}, ["validate_certs", "perhaps"]),
    ("kube_info", {"proxy": "nonsense"}, ["proxy is 'nonsense'; write it as http://NAME:PORT"]),
    ("kube_info", {"proxy": "socks5://me:secret@a:1"}, ["proxy is '(hidden)@a:1'; write it as http://NAME:PORT"]),
    ("kube_info", {"kubconfig": "~/.kube/config"}, ["Unsupported parameters", "kubconfig", "kubeconfig"]),
    ("kube_ping", {"heartbeat_seconds": 0}, ["heartbeat_seconds is 0; set it to more than 10"]),
    ("kube_ping", {"heartbeat_seconds": -5}, ["heartbeat_seconds is -5; set it to more than 10"]),
    ("kube_ping", {"heartbeat_seconds": "long"}, ["heartbeat_seconds", "long"]),
    ("kube_ping", {"host": ""}, ["which cluster is meant? Set kubeconfig (or host and api_key, or in_cluster=true)"]),
    ("kube_ping", {"kubeconfig": ""}, ["which cluster is meant? Set kubeconfig"]),
    ("kube_ping", {"heartbeat_seconds": "long", "kubconfig": "x"}, ["heartbeat_seconds", "long", "; Unsupported parameters for ", "kubconfig"]),
    # kube_info
    ("kube_info", {"kind": "pods"}, ["kind is 'pods'; write it as Pod"]),
    ("kube_info", {"kind": "node"}, ["kind is 'node'; write it as Node"]),
    ("kube_info", {"kind": ""}, ["kind is empty; give a kind"]),
    ("kube_info", {"kind": "Pod", "queries": [{"kind": "Node"}]}, ["kind and queries exclude each other; move kind"]),
    ("kube_info", {"name": "a"}, ["name is given without kind; add kind"]),
    ("kube_info", {"namespace": "a", "queries": [{"kind": "Pod"}]}, ["namespace is given without kind; move it into the entries of queries"]),
    ("kube_info", {"kind": "Pod", "name": ""}, ["name is empty; give a name, or leave it out"]),
    ("kube_info", {"kind": "Pod", "name": "a", "field_selectors": ["x=y"]}, ["name excludes field_selectors; give one of them"]),
    ("kube_info", {"kind": "Pod", "label_selectors": [""]}, ["label_selectors contains an empty selector", "leave it out"]),
    ("kube_info", {"kind": "Pod", "query": "[?"}, ["query: '[?' is not JMESPath"]),
    ("kube_info", {"kind": "Pod", "query": ""}, ["query: '' is not JMESPath"]),
    ("kube_info", {"kind": "Pod", "query": "size(@)"}, ["query: JMESPath has no function size; it has ", "length"]),
    ("kube_info", {"kind": "Pod", "query": '[?status.phase=="Running"]'}, ["query: ", "write 'Running' for the text"]),
    ("kube_info", {"queries": [{"kind": "Pod"}, {"name": "a"}]}, ["missing required arguments: kind found in queries"]),
    ("kube_info", {"queries": [{"kind": "Pod"}, {"kind": "NODE"}]}, ["queries[1].kind is 'NODE'; write it as Node"]),
    ("kube_info", {"queries": [{"kind": "Pod", "name": "a", "label_selectors": ["x"]}]}, ["queries[0].name excludes queries[0].label_selectors"]),
    ("kube_info", {"queries": [{"kind": "Pod", "query": "a =="}]}, ["queries[0].query: 'a ==' is not JMESPath"]),
    ("kube_info", {"queries": [{"kind": "Pod", "selector": "a"}]}, ["Unsupported parameters", "queries.selector", "label_selectors"]),
    ("kube_info", {"queries": "Pod"}, ["Elements value for option 'queries'", "unable to convert to dict"]),
    # kube_wait
    ("kube_wait", {}, ["kind is missing; give the kind of the objects, or several of them in targets"]),
    ("kube_wait", {"kind": "deployment"}, ["kind is 'deployment'; write it as Deployment"]),
    ("kube_wait", {"kind": "Node", "name": "a", "names": ["b"]}, ["name and names exclude each other; put all names into names"]),
    ("kube_wait", {"kind": "Node", "names": ["a", ""]}, ["names contains an empty name; give the name of each object"]),
    ("kube_wait", {"kind": "Node", "name": ""}, ["name is an empty name; give the name"]),
    ("kube_wait", {"kind": "Node", "names": []}, ["names is empty; give at least one name, or leave names out"]),
    ("kube_wait", {"kind": "Node", "field_selectors": [" "]}, ["field_selectors contains an empty selector"]),
    ("kube_wait", {"kind": "Node", "until": "reddy"}, ["value of until must be one of: ready, exists, gone", "reddy"]),
    ("kube_wait", {"kind": "Node", "until": "expression"}, ["until=expression and expression do not fit together: add expression"]),
    ("kube_wait", {"kind": "Node", "expression": "a"}, ["set until=expression or leave expression out"]),
    ("kube_wait", {"kind": "Node", "until": "expression", "expression": "a =="}, ["expression: 'a ==' is not JMESPath"]),
    ("kube_wait", {"kind": "Node", "until": "expression", "expression": 'a == "b"'}, ["expression: ", "write 'b' for the text"]),
    ("kube_wait", {"kind": "Node", "until": "condition"}, ["until=condition and condition do not fit together: add condition"]),
    ("kube_wait", {"kind": "Node", "condition": {"type": "Ready"}}, ["set until=condition or leave condition out"]),
    ("kube_wait", {"kind": "Node", "until": "condition", "condition": {"status": "True"}}, ["missing required arguments: type found in condition"]),
    ("kube_wait", {"kind": "Node", "until": "condition", "condition": {"type": "Ready", "status": "yes"}}, ["status", "must be one of: True, False, Unknown"]),
    ("kube_wait", {"kind": "Pod", "allocatable": {"cpu": 1}}, ["allocatable is for Node", "leave it out"]),
    ("kube_wait", {"kind": "Node", "until": "gone", "allocatable": {"cpu": 1}}, ["allocatable is for Node, and not with until=gone"]),
    ("kube_wait", {"kind": "Node", "allocatable": {}}, ["allocatable is empty; give at least one resource"]),
    ("kube_wait", {"kind": "Node", "allocatable": {"cpu": "two"}}, ["allocatable['cpu']: 'two' is not a Kubernetes quantity; write it as 4, 500m or 16Gi"]),
    ("kube_wait", {"kind": "Node", "allocatable": {"cpu": None}}, ["allocatable['cpu']", "write it as 4"]),
    ("kube_wait", {"kind": "Pod", "replicas": 1}, ["replicas is for ", "Deployment", "leave it out"]),
    ("kube_wait", {"kind": "Deployment", "replicas": -1}, ["replicas is -1; it cannot be less than 0"]),
    ("kube_wait", {"kind": "Pod", "at_least": 0}, ["at_least is 0; it cannot be less than 1"]),
    ("kube_wait", {"kind": "Pod", "at_least": 2, "name": "a"}, ["at_least is for objects that are selected", "leave it out"]),
    ("kube_wait", {"kind": "Pod", "at_least": 2, "until": "gone"}, ["at_least", "leave it out"]),
    ("kube_wait", {"kind": "Pod", "kubelet_version": "v1"}, ["kubelet_version is for kind=Node with until=ready", "leave it out"]),
    ("kube_wait", {"kind": "Node", "until": "gone", "kubelet_version": "v1"}, ["kubelet_version is for kind=Node with until=ready"]),
    ("kube_wait", {"kind": "Node", "heartbeat_seconds": 15}, ["heartbeat_seconds needs name or names"]),
    ("kube_wait", {"kind": "Node", "name": "a", "heartbeat_seconds": 0}, ["heartbeat_seconds is 0; it cannot be less than 1"]),
    ("kube_wait", {"kind": "Node", "timeout_seconds": -1}, ["timeout_seconds is -1; it cannot be less than 0"]),
    ("kube_wait", {"kind": "Node", "timeout_seconds": "soon"}, ["timeout_seconds", "soon"]),
    ("kube_wait", {"kind": "Node", "stable_seconds": -1}, ["stable_seconds is -1; it cannot be less than 0"]),
    (
        "kube_wait",
        {"kind": "Node", "stable_seconds": 10, "timeout_seconds": 5},
        ["stable_seconds=10 can never pass within timeout_seconds=5; raise the latter"],
    ),
    ("kube_wait", {"kind": "Node", "nmae": "a"}, ["Unsupported parameters", "nmae", "name"]),
    ("kube_wait", {"targets": []}, ["targets is empty; give at least one entry, or kind"]),
    ("kube_wait", {"targets": [{"kind": "Node"}], "kind": "Pod"}, ["kind stands beside targets; move it into the entries of targets"]),
    ("kube_wait", {"targets": [{"kind": "Node"}], "until": "gone"}, ["until stands beside targets; move it into the entries of targets"]),
    ("kube_wait", {"targets": [{"name": "a"}]}, ["missing required arguments: kind found in targets"]),
    ("kube_wait", target(until="expression"), ["targets[1].until=expression and expression do not fit together: add expression"]),
    ("kube_wait", target(allocatable={"cpu": "x"}), ["targets[1].allocatable['cpu']: 'x' is not a Kubernetes quantity"]),
    ("kube_wait", target(names=[]), ["targets[1].names is empty"]),
    ("kube_wait", target(until="expression", expression="a("), ["targets[1].expression: 'a(' is not JMESPath"]),
    # kube_exec
    ("kube_exec", {}, ["missing required arguments: ", "command", "pod"]),
    ("kube_exec", {"pod": "a"}, ["missing required arguments: command"]),
    ("kube_exec", command(), ["command is []; begin it with the name of a program"]),
    ("kube_exec", command(""), ["command is ['']; begin it with the name of a program"]),
    ("kube_exec", {"pod": "a", "command": "cat /etc/hosts"}, ["command begins with 'cat /etc/hosts'; give each word as an element of its own, or run a shell"]),
    ("kube_exec", {"pod": "a", "command": {"sh": "-c"}}, ["command", "list"]),
    ("kube_exec", command("sh -c", "true"), ["command begins with 'sh -c'; give each word as an element of its own"]),
    ("kube_exec", command("printf", "a\0b"), ["command[1] contains a NUL character", "give such data as stdin"]),
    ("kube_exec", command("true", pod=""), ["pod is empty; give the name of the pod"]),
    ("kube_exec", command("true", namespace=""), ["namespace is empty; give the name of the namespace"]),
    ("kube_exec", command("true", container=""), ["container is empty; give the name of the container, or leave it out"]),
    ("kube_exec", command("true", timeout_seconds=0), ["timeout_seconds is 0; it cannot be less than 1"]),
    ("kube_exec", command("true", timeout_seconds="soon"), ["timeout_seconds", "soon"]),
    ("kube_exec", command("true", limit_bytes=-1), ["limit_bytes is -1; it cannot be less than 1"]),
    ("kube_exec", command("true", stdin_add_newline="perhaps"), ["stdin_add_newline", "perhaps"]),
    ("kube_exec", command("true", argv=["true"]), ["Unsupported parameters", "argv", "command"]),
    # kube_logs
    ("kube_logs", {}, ["which pods are meant? Set name, names or label_selectors, or kind and name of a workload"]),
    ("kube_logs", {"name": ""}, ["name is an empty name; give the name of each pod"]),
    ("kube_logs", {"names": ["a", ""]}, ["names contains an empty name; give the name of each pod"]),
    ("kube_logs", {"names": []}, ["which pods are meant? Set name, names or label_selectors"]),
    ("kube_logs", {"name": "a", "names": ["b"]}, ["name and names exclude each other; put all names into names"]),
    ("kube_logs", {"name": "a", "label_selectors": ["b"]}, ["label_selectors stands beside the names of pods; give one of them"]),
    ("kube_logs", {"label_selectors": [" "]}, ["label_selectors contains an empty selector, which would select everything; give a selector"]),
    ("kube_logs", {"name": "a", "namespace": ""}, ["namespace is empty; give a namespace, or leave it out"]),
    ("kube_logs", {"kind": "deployment", "name": "a"}, ["kind is 'deployment'; write it as Deployment"]),
    ("kube_logs", {"kind": "Deployment"}, ["name is missing; give the name of the Deployment"]),
    ("kube_logs", {"kind": "Deployment", "names": ["a"]}, ["names is for kind=Pod, and kind is Deployment; give the name of one Deployment"]),
    ("kube_logs", {"kind": "Job", "name": "a", "label_selectors": ["b"]}, ["label_selectors is for kind=Pod, and kind is Job"]),
    ("kube_logs", {"name": "a", "container": ""}, ["container is empty; give the name of a container, or leave it out"]),
    ("kube_logs", {"name": "a", "container": "c", "all_containers": True}, ["container and all_containers exclude each other; leave one of them out"]),
    ("kube_logs", {"name": "a", "tail_lines": -1}, ["tail_lines is -1; it cannot be less than 0"]),
    ("kube_logs", {"name": "a", "tail_lines": "few"}, ["tail_lines", "few"]),
    ("kube_logs", {"name": "a", "limit_bytes": 0}, ["limit_bytes is 0; it cannot be less than 1"]),
    ("kube_logs", {"name": "a", "follow_seconds": 0}, ["follow_seconds is 0; it cannot be less than 1"]),
    ("kube_logs", {"name": "a", "since_seconds": 0}, ["since_seconds is 0; it cannot be less than 1"]),
    ("kube_logs", {"name": "a", "since_time": "yesterday"}, ["since_time is 'yesterday'; write it with its zone, as 2026-01-31T15:04:05Z"]),
    ("kube_logs", {"name": "a", "since_time": "2026-01-31T15:04:05"}, ["since_time is '2026-01-31T15:04:05'; write it with its zone"]),
    (
        "kube_logs",
        {"name": "a", "since_time": "2026-01-31T15:04:05Z", "since_seconds": 5},
        ["since_seconds and since_time exclude each other; leave one of them out"],
    ),
    ("kube_logs", {"name": "a", "until_pattern": "x"}, ["until_pattern needs follow_seconds", "add it, for example follow_seconds: 60"]),
    ("kube_logs", {"name": "a", "until_pattern": "", "follow_seconds": 5}, ["until_pattern is empty, which every line matches"]),
    ("kube_logs", {"name": "a", "until_pattern": "a(", "follow_seconds": 5}, ["until_pattern: 'a(' is not a regular expression", "correct it"]),
    ("kube_logs", {"name": "a", "previous": True, "follow_seconds": 5}, ["previous and follow_seconds exclude each other", "leave one of them out"]),
    ("kube_logs", {"name": "a", "since": 5}, ["Unsupported parameters", "since_seconds"]),
    # kube_events
    ("kube_events", {"kind": "pod"}, ["kind is 'pod'; write it as Pod"]),
    ("kube_events", {"kind": ""}, ["kind is empty; give a value, or leave it out"]),
    ("kube_events", {"name": "a"}, ["name is given without kind, and names belong to kinds; add kind"]),
    ("kube_events", {"api_version": "apps/v1"}, ["api_version is given without kind", "add kind"]),
    ("kube_events", {"kind": "Pod", "name": ""}, ["name is empty; give a value, or leave it out"]),
    ("kube_events", {"uid": ""}, ["uid is empty; give a value, or leave it out"]),
    ("kube_events", {"namespace": ""}, ["namespace is empty; give a value, or leave it out"]),
    ("kube_events", {"types": []}, ["types is empty or contains an empty value; give at least one value, or leave it out"]),
    ("kube_events", {"types": ["warning"]}, ["value of types must be one or more of: Normal, Warning", "warning"]),
    ("kube_events", {"reasons": []}, ["reasons is empty or contains an empty value"]),
    ("kube_events", {"reasons": ["BackOff", ""]}, ["reasons is empty or contains an empty value"]),
    ("kube_events", {"reasons": ["BackOff Failed"]}, ["reasons contains 'BackOff Failed'; give single reasons such as BackOff"]),
    ("kube_events", {"reasons": ["x,type=Normal"]}, ["reasons contains 'x,type=Normal'; give single reasons"]),
    ("kube_events", {"since_seconds": -1}, ["since_seconds is -1; it cannot be less than 1"]),
    ("kube_events", {"since_time": "now"}, ["since_time is 'now'; write it with its zone, as 2026-01-31T15:04:05Z"]),
    ("kube_events", {"since_time": "2026-01-31T15:04:05Z", "since_seconds": 5}, ["since_seconds and since_time exclude each other"]),
    ("kube_events", {"related": True}, ["related needs name and kind of a workload; set both", "Deployment", "or leave related out"]),
    ("kube_events", {"related": True, "kind": "Deployment"}, ["related needs name and kind of a workload"]),
    ("kube_events", {"related": True, "kind": "Node", "name": "a"}, ["related needs name and kind of a workload; set both, kind to one of CronJob, DaemonSet"]),
    ("kube_events", {"events_api": "v2"}, ["value of events_api must be one of: v1, events.k8s.io/v1", "v2"]),
    # kube_node
    ("kube_node", {}, ["missing required arguments: nodes"]),
    ("kube_node", {"nodes": []}, ["nodes is empty; name at least one node"]),
    ("kube_node", {"nodes": ["a"]}, ["Elements value for option 'nodes'", "unable to convert to dict"]),
    ("kube_node", {"nodes": [{"labels": {"x": "y"}}]}, ["missing required arguments: name found in nodes"]),
    ("kube_node", {"nodes": [{"name": ""}]}, ["nodes[0].name is empty; give the name of a node"]),
    ("kube_node", {"nodes": [LABEL, LABEL]}, ["nodes[1].name: a is listed twice; merge the two entries"]),
    ("kube_node", node(labels={"a b": "c"}), ["nodes[0].labels['a b']: 'a b' is not a valid key; use at most 63 letters"]),
    (
        "kube_node",
        node(labels={"Example.com/x": "c"}),
        ["nodes[0].labels['Example.com/x']: 'Example.com' is not a DNS name; write the key as example.com/name"],
    ),
    ("kube_node", node(labels={"x": "not valid"}), ["nodes[0].labels['x']: 'not valid' is not a valid value; use at most 63 letters"]),
    ("kube_node", node(labels={"x": ["y"]}), ["nodes[0].labels['x'] is a list; give a string, or null to remove it"]),
    ("kube_node", node(labels={"x": "y" * 64}), ["nodes[0].labels['x']", "at most 63"]),
    ("kube_node", node(annotations={"a/b/c": "d"}), ["nodes[0].annotations['a/b/c']", "write the key as example.com/name"]),
    ("kube_node", node(annotations={"x": {"y": "z"}}), ["nodes[0].annotations['x'] is a dict; give a string, or null to remove it"]),
    ("kube_node", node(taints=[{"key": "x"}]), ["nodes[0].taints[0].effect is missing; set it to one of NoSchedule, PreferNoSchedule, NoExecute"]),
    ("kube_node", node(taints=[{"key": "x", "effect": "NoRun"}]), ["value of effect must be one of: NoSchedule, PreferNoSchedule, NoExecute", "NoRun"]),
    ("kube_node", node(taints=[{"effect": "NoSchedule"}]), ["missing required arguments: key found in nodes -> taints"]),
    ("kube_node", node(taints=[TAINT, TAINT]), ["nodes[0].taints[1]: x:NoSchedule is listed twice; keep one entry"]),
    ("kube_node", node(taints=[{**TAINT, "value": "y", "state": "absent"}]), ["nodes[0].taints[0].value", "leave value out"]),
    ("kube_node", node(taints=[{**TAINT, "value": "a b"}]), ["nodes[0].taints[0].value: 'a b' is not a valid value"]),
    ("kube_node", node(unschedulable="perhaps"), ["unschedulable", "perhaps"]),
    # kube_scale
    ("kube_scale", {}, ["missing required arguments: workloads"]),
    ("kube_scale", {"workloads": []}, ["workloads is empty; name at least one workload"]),
    ("kube_scale", workload(), ["missing required arguments: replicas found in workloads"]),
    ("kube_scale", workload(replicas="many"), ["replicas", "many"]),
    ("kube_scale", workload(replicas=-1), ["workloads[0].replicas is -1; it cannot be less than 0"]),
    ("kube_scale", workload(replicas=1, current_replicas=-2), ["workloads[0].current_replicas is -2; it cannot be less than 0"]),
    ("kube_scale", workload(replicas=1, resource_version=""), ["workloads[0].resource_version is empty", "or leave it out"]),
    ("kube_scale", workload(replicas=1, kind="deployments"), ["workloads[0].kind is 'deployments'; write it as Deployment"]),
    ("kube_scale", workload(replicas=1, kind="DaemonSet"), ["workloads[0].kind is DaemonSet, which has no number of replicas", "label nodes by kube_node"]),
    ("kube_scale", workload(replicas=1, kind="Job"), ["workloads[0].kind is Job", "set its spec.parallelism by kube_apply"]),
    ("kube_scale", workload(replicas=1, kind="Pod"), ["workloads[0].kind is Pod", "give one of Deployment, ReplicaSet"]),
    ("kube_scale", workload(replicas=1, name="deployment/a"), ["workloads[0].name is 'deployment/a'; give the name of one object"]),
    ("kube_scale", workload(replicas=1, namespace=""), ["workloads[0].namespace is empty; give a namespace, or leave it out for default"]),
    ("kube_scale", {**workload(replicas=1), "namespace": ""}, ["namespace is empty; give a namespace, or leave it out for default"]),
    ("kube_scale", {**workload(replicas=1), "timeout_seconds": 0}, ["timeout_seconds is 0; it cannot be less than 1"]),
    ("kube_scale", {**workload(replicas=1), "replicas": 2}, ["Unsupported parameters", "replicas"]),
    (
        "kube_scale",
        {"workloads": [{"kind": "Deployment", "name": "a", "replicas": number, "namespace": name} for number, name in ((1, None), (2, "default"))]},
        ["workloads[1]: Deployment default/a is listed twice, also by workloads[0]; keep one of them"],
    ),
    # kube_rollout
    ("kube_rollout", {}, ["missing required arguments: workloads"]),
    ("kube_rollout", {"workloads": []}, ["workloads is empty; name at least one workload"]),
    ("kube_rollout", {"workloads": ["deployment/a"]}, ["Elements value for option 'workloads'", "unable to convert to dict"]),
    ("kube_rollout", workload(kind=""), ["workloads[0].kind is empty; give a kind"]),
    ("kube_rollout", workload(kind="statefulset"), ["workloads[0].kind is 'statefulset'; write it as StatefulSet"]),
    ("kube_rollout", workload(kind="ReplicaSet"), ["workloads[0].kind is ReplicaSet, which has no rollouts; give one of Deployment, StatefulSet, DaemonSet"]),
    ("kube_rollout", workload(name=""), ["workloads[0].name is ''; give the name of one object"]),
    ("kube_rollout", {**workload(), "state": "restart"}, ["value of state must be one of: complete, restarted, undone, paused, resumed", "restart"]),
    ("kube_rollout", workload(to_revision=1), ["workloads[0].to_revision is for state=undone, not for state=complete; leave it out"]),
    ("kube_rollout", {**workload(to_revision=0), "state": "undone"}, ["workloads[0].to_revision is 0; revisions count from 1, leave it out"]),
    ("kube_rollout", {**workload(to_revision="last"), "state": "undone"}, ["to_revision", "last"]),
    ("kube_rollout", {**workload("StatefulSet"), "state": "paused"}, ["state=paused is for Deployments", "set spec.updateStrategy.rollingUpdate.partition"]),
    ("kube_rollout", {**workload("DaemonSet"), "state": "resumed"}, ["workloads[0].kind is DaemonSet, and state=resumed is for Deployments"]),
    ("kube_rollout", {**workload(), "trigger": "a"}, ["trigger is for state=restarted, not for state=complete; leave it out"]),
    ("kube_rollout", {**workload(), "trigger": "", "state": "restarted"}, ["trigger is empty, so it would never change; give a text that changes"]),
    ("kube_rollout", {**workload(), "timeout_seconds": -1}, ["timeout_seconds is -1; it cannot be less than 1"]),
    # kube_apply
    ("kube_apply", {}, ["there is nothing to apply: definitions, src and template hold no object"]),
    ("kube_apply", {"definitions": ["text"]}, ["definitions[0], document 1 is a str, not a mapping with apiVersion, kind and metadata"]),
    ("kube_apply", {"definitions": [MAP, {"kind": "ConfigMap"}]}, ["definitions[1]: apiVersion is missing"]),
    ("kube_apply", {"definitions": [{**MAP, "kind": None}]}, ["definitions[0]: kind is missing or not a string"]),
    ("kube_apply", {"definitions": [{**MAP, "metadata": {}}]}, ["definitions[0]: metadata.name of this ConfigMap is missing"]),
    ("kube_apply", {"definitions": [{**MAP, "metadata": {"generateName": "c-"}}]}, ["generateName cannot be applied, give a name"]),
    ("kube_apply", {"src": ["/nonexistent"]}, ["src: there is no file or directory /nonexistent"]),
    ("kube_apply", {"src": ["{tmp}/empty"]}, ["src: the directory", "holds no file ending in .yml, .yaml, .json"]),
    ("kube_apply", {"src": ["{tmp}/broken.yml"]}, ["src: ", "broken.yml cannot be read as YAML"]),
    ("kube_apply", {"definitions": [MAP], "state": "gone"}, ["value of state must be one of: present, absent", "gone"]),
    ("kube_apply", {"definitions": [MAP], "timeout_seconds": 0}, ["timeout_seconds is 0; it cannot be less than 1"]),
    ("kube_apply", {"definitions": [MAP], "field_manager": ""}, ["field_manager is ''; it has to be 1 to 128 characters long"]),
    ("kube_apply", {"definitions": [MAP], "field_manager": "x" * 129}, ["field_manager is 'xxx", "it has to be 1 to 128 characters long"]),
    ("kube_apply", {"definitions": [MAP], "namespace": ""}, ["namespace is empty; give a namespace, or leave it out for default"]),
    ("kube_apply", {"definitions": [MAP], "force": True}, ["Unsupported parameters", "force_conflicts"]),
    ("kube_apply", {"definitions": 7}, ["definitions is a int; give a list of objects, one object, or YAML text"]),
    ("kube_apply", {"definitions": [MAP, MAP]}, ["ConfigMap c is defined twice, by definitions[0] and by definitions[1]"]),
    ("kube_apply", {"template": ["models.yml.j2"]}, ["template: models.yml.j2 was not rendered"]),
    ("kube_apply", {"definitions": [MAP], "prune": {"kinds": ["ConfigMap"]}}, ["label_selectors", "prune"]),
    ("kube_apply", {"definitions": [MAP], "prune": {"kinds": [], "label_selectors": ["a=b"]}}, ["prune.kinds is empty", "for example ConfigMap"]),
    ("kube_apply", {"definitions": [MAP], "prune": {"kinds": ["ConfigMap"], "label_selectors": [""]}}, ["prune.label_selectors is empty or has an empty item"]),
    ("kube_apply", {"definitions": [MAP], "state": "absent", "prune": {"kinds": ["Pod"], "label_selectors": ["a"]}}, ["prune is for state=present"]),
    ("kube_apply", {"definitions": [SECRET], "force": True}, ["Unsupported parameters", "force_conflicts"]),
    ("kube_apply", {"definitions": [SECRET, {"kind": "Secret", "stringData": {"x": "correct-horse"}}]}, ["definitions[1]: apiVersion is missing"]),
]


@pytest.mark.parametrize("check_mode", [False, True], ids=["", "check mode"])
@pytest.mark.parametrize(("module", "options", "words"), TABLE, ids=[f"{module} {index}" for index, (module, _options, _words) in enumerate(TABLE)])
def test_bad_input(
    api: FakeApi,
    run_module: Run,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    options: Object,
    words: list[str],
    check_mode: bool,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "not-a-cert").write_text("nothing")
    (tmp_path / "broken.yml").write_text("a: [")
    filled = {
        key: [entry.replace("{tmp}", str(tmp_path)) if isinstance(entry, str) else entry for entry in value]
        if isinstance(value, list)
        else value.replace("{tmp}", str(tmp_path))
        if isinstance(value, str)
        else value
        for key, value in options.items()
    }
    result = run_module(module, check_mode=check_mode, **filled)
    assert result["failed"] is True, result
    assert [word for word in words if word not in result["msg"]] == [], result["msg"]
    assert "Traceback" not in str(result)
    assert [secret for secret in ("test-token", "correct-horse") if secret in str(result)] == []
    assert not result.get("changed")
    assert api.requests == []


# What only the server can tell


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        ("kube_apply", {"definitions": [MAP], "cluster_uid": "another"}, ["wrong cluster", "cluster_uid asks for another", "Nothing was changed"]),
        ("kube_node", {**node(labels={"x": "y"}), "cluster_uid": "another"}, ["wrong cluster", "cluster_uid asks for another"]),
        ("kube_node", node(labels={"x": "y"}), ["no node named a in the cluster", "correct the name"]),
        ("kube_apply", {"definitions": [{**MAP, "apiVersion": "none.example.com/v1"}]}, ["does not serve kind ConfigMap of none.example.com/v1"]),
        ("kube_info", {"kind": "Pod", "label_selectors": ["a b"]}, ["400 BadRequest", "unable to parse requirement"]),
        ("kube_info", {"kind": "Pod", "field_selectors": ["spec.none=a"]}, ["400 BadRequest", "field label not supported: spec.none"]),
        ("kube_scale", workload(replicas=1), ["there is no Deployment default/a. Nothing was changed. Correct workloads or namespace."]),
        ("kube_scale", {**workload(replicas=1), "cluster_uid": "another"}, ["wrong cluster", "Nothing was changed"]),
        ("kube_scale", workload(replicas=1, kind="Gadget"), ["does not serve kind Gadget; check kind and api_version"]),
        ("kube_rollout", {**workload(), "state": "restarted"}, ["there is no Deployment default/a. Nothing was changed. Correct workloads or namespace."]),
        ("kube_rollout", {**workload(), "cluster_uid": "another"}, ["wrong cluster", "Nothing was changed"]),
        ("kube_wait", {"kind": "Pod", "label_selectors": ["a b"]}, ["400 BadRequest", "unable to parse requirement"]),
        ("kube_wait", {"kind": "Pod", "cluster_uid": "another"}, ["wrong cluster", "cluster_uid asks for another"]),
        ("kube_ping", {"cluster_uid": "another"}, ["wrong cluster", "cluster_uid asks for another"]),
        ("kube_info", {"api_key": "wrong"}, ["401 Unauthorized", "check api_key, or fetch the kubeconfig anew"]),
    ],
)
def test_what_the_server_refuses_changes_nothing(api: FakeApi, run_module: Run, module: str, options: Object, words: list[str]) -> None:
    api.token = "test-token"
    result = run_module(module, **options)
    assert result["failed"] is True, result
    assert [word for word in words if word not in result["msg"]] == [], result["msg"]
    assert not result.get("changed")
    assert {method for method, _path in api.requests} == {"GET"}
