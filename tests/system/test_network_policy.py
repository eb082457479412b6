# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkPolicies hold on the scenario's cluster, on one node and between nodes: what runs under them may rely on that."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/homelab-lab/tools:1"
SERVER_HOST = "k3s-server"
NODE, OTHER_NODE = "k3s-worker", "k3s-server"
# Under load nodes take longer than the second that it takes them otherwise
PATIENCE_SECONDS = 30
PROBE_SECONDS = 2
SERVE = "trap exit TERM; httpd -p 8080 -h /tmp; httpd -p 8081 -h /tmp; nc -ll -p 8082 -e cat & sleep 3600 & wait"
WAIT = "trap exit TERM; sleep 3600 & wait"

Object = dict[str, Any]


def on_host(host: str, *command: str, text: str | None = None) -> str:
    done = subprocess.run([str(PROJECT / ".lab" / "podman"), "exec", "-i", host, *command], input=text or "", capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)[:300]}: {done.stderr[-2000:]}"
    return done.stdout


def kubectl(*arguments: str, objects: list[Object] | None = None) -> str:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}) if objects else None
    return on_host(SERVER_HOST, "k3s", "kubectl", *arguments, text=text)


def pod(name: str, namespace: str, node: str, labels: dict[str, str], command: str, **container: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command], **container}],
        },
    }


class Cluster:
    """A server, and clients beside it, on another node, and in another namespace, which say what they reach."""

    def __init__(self, namespace: str) -> None:
        self.namespace, self.foreign = namespace, f"{namespace}-foreign"
        self.clients = {"near": self.namespace, "far": self.namespace, "foreign": self.foreign}
        self.addresses: dict[str, str] = {}
        self.probes: dict[str, str] = {}

    def start(self) -> None:
        here = self.namespace
        names = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"netpol-test": name}}} for name in (here, self.foreign)]
        ports = [{"name": "web", "containerPort": 8080}]
        probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
        pods = [
            pod("server", here, NODE, {"app": "server"}, SERVE, ports=ports, readinessProbe=probe, livenessProbe=probe),
            pod("near", here, NODE, {"app": "client", "side": "near"}, WAIT),
            pod("far", here, OTHER_NODE, {"app": "client", "side": "far"}, WAIT),
            pod("foreign", self.foreign, OTHER_NODE, {"app": "client"}, WAIT),
        ]
        service = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": "web"}]}
        metadata = {"name": "server", "namespace": here}
        kubectl("create", "-f", "-", objects=[*names, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}])
        # Accounts of new namespaces come a moment later
        for name in (here, self.foreign):
            kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=30s")
        kubectl("create", "-f", "-", objects=pods)
        for name in (here, self.foreign):
            kubectl("wait", "--for=condition=Ready", "pod", "--all", "-n", name, "--timeout=60s")
        for name, namespace in {"server": here, **self.clients}.items():
            self.addresses[name] = self.get("pod", name, namespace)["status"]["podIP"]
        api = self.get("service", "kubernetes", "default")["spec"]["clusterIP"]
        node = self.get("node", NODE)["status"]["addresses"][0]["address"]
        fetch = f"fetch -insecure -timeout {PROBE_SECONDS}s"
        self.probes = {
            "web": f"{fetch} http://{self.addresses['server']}:8080/",
            "admin": f"{fetch} http://{self.addresses['server']}:8081/",
            "service": f"{fetch} http://server.{here}.svc.cluster.local/",
            "dns": f"timeout {PROBE_SECONDS} nslookup server.{here}.svc.cluster.local",
            "api": f"{fetch} https://{api}/",
            "kubelet": f"{fetch} https://{node}:10250/",
        }

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        found: Object = json.loads(kubectl("get", kind, name, *(["-n", namespace] if namespace else []), "-o", "json"))
        return found

    def execute(self, client: str, command: str) -> str:
        return kubectl("exec", "-n", self.clients[client], client, "--", "sh", "-c", command)

    def wait_for(self, client: str) -> None:
        """A kubelet that has just started does not know its pods yet."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.execute(client, "true")
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def reached(self, client: str) -> set[str]:
        # An HTTP error is an answer, too: fetch then ends with 22
        script = "".join(f"({probe}) >/dev/null 2>&1; case $? in 0|22) echo {name};; esac & " for name, probe in self.probes.items())
        return set(self.execute(client, f"{script} wait").split())

    def expect(self, *clients: str, reach: set[str]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        seen: dict[str, set[str]] = {}
        while time.monotonic() < deadline:
            with ThreadPoolExecutor(len(clients)) as pool:
                seen = dict(zip(clients, pool.map(self.reached, clients), strict=True))
            if all(found == reach for found in seen.values()):
                return
        told = {client: sorted(found) for client, found in seen.items()}
        pytest.fail(f"wanted {sorted(reach)} to be reached, but it was {told}")

    def expect_open(self) -> None:
        self.expect(*self.clients, reach=ALL)

    def connect(self, client: str) -> None:
        """Opens a connection that stays, to a server that says everything again."""
        keep = f"mkfifo /tmp/in; nc {self.addresses['server']} 8082 </tmp/in >/tmp/out 2>&1 & sleep 3600 >/tmp/in &"
        self.execute(client, f"({keep}) >/dev/null 2>&1")
        self.say(client, "hello")

    def say(self, client: str, words: str) -> None:
        wait = f"for i in $(seq {PATIENCE_SECONDS}0); do grep -q '{words}' /tmp/out && exit; sleep 0.1; done; cat /tmp/out; exit 1"
        self.execute(client, f"echo '{words}' >/tmp/in; {wait}")

    def apply(self, name: str, spec: Object) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        kubectl("apply", "-f", "-", objects=[{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}])

    def allow_in(self, *rules: Object) -> None:
        self.apply("server", {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"], "ingress": list(rules)})

    def allow_out_of_near(self, *rules: Object) -> None:
        self.apply("near", {"podSelector": {"matchLabels": {"side": "near"}}, "policyTypes": ["Egress"], "egress": list(rules)})

    def readiness(self) -> tuple[str, str, int]:
        status = self.get("pod", "server", self.namespace)["status"]
        ready = next(condition for condition in status["conditions"] if condition["type"] == "Ready")
        return ready["status"], ready["lastTransitionTime"], status["containerStatuses"][0]["restartCount"]


ALL = {"web", "admin", "service", "dns", "api", "kubelet"}
SERVER = {"web", "admin", "service"}
ELSEWHERE = ALL - SERVER
DNS: Object = {
    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}
WEB: Object = {"to": [{"podSelector": {"matchLabels": {"app": "server"}}}], "ports": [{"port": "web"}]}


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    cluster = Cluster(f"netpol-{uuid.uuid4().hex[:8]}")
    try:
        cluster.start()
        cluster.expect_open()
        yield cluster
    finally:
        kubectl("delete", "namespace", cluster.namespace, cluster.foreign, "--ignore-not-found", "--wait=false")


@pytest.fixture
def cluster(made: Cluster) -> Iterator[Cluster]:
    """Open again when the test's policies are deleted."""
    yield made
    kubectl("delete", "networkpolicy", "--all", "-n", made.namespace)
    made.expect_open()


def test_default_deny_spares_probes_and_connections_from_before(cluster: Cluster) -> None:
    before = cluster.readiness()
    for client in ("near", "far"):
        cluster.connect(client)
    cluster.apply("deny", {"podSelector": {}, "policyTypes": ["Ingress"]})
    cluster.expect(*cluster.clients, reach=ELSEWHERE)
    for client in ("near", "far"):
        cluster.say(client, "still there")
    # Probes ran each second meanwhile, and one failure would have counted
    assert cluster.readiness() == before
    assert before[0] == "True"


def test_by_label_and_named_port(cluster: Cluster) -> None:
    cluster.allow_in({"from": [{"podSelector": {"matchLabels": {"side": "far"}}}], "ports": [{"port": "web"}]})
    cluster.expect("near", "foreign", reach=ELSEWHERE)
    cluster.expect("far", reach=ALL - {"admin"})
    kubectl("label", "pod", "near", "side=far", "--overwrite", "-n", cluster.namespace)
    try:
        cluster.expect("near", reach=ALL - {"admin"})
    finally:
        kubectl("label", "pod", "near", "side=near", "--overwrite", "-n", cluster.namespace)


def test_by_namespace(cluster: Cluster) -> None:
    cluster.allow_in({"from": [{"namespaceSelector": {"matchLabels": {"netpol-test": cluster.foreign}}}]})
    cluster.expect("foreign", reach=ALL)
    cluster.expect("near", "far", reach=ELSEWHERE)


def test_by_block_with_exception_and_range_of_ports(cluster: Cluster) -> None:
    block = {"cidr": "0.0.0.0/0", "except": [f"{cluster.addresses[name]}/32" for name in ("near", "foreign")]}
    cluster.allow_in({"from": [{"ipBlock": block}], "ports": [{"port": 8081, "endPort": 8090}]})
    cluster.expect("far", reach=ELSEWHERE | {"admin"})
    cluster.expect("near", "foreign", reach=ELSEWHERE)


def test_way_out_denied_but_for_names(cluster: Cluster) -> None:
    cluster.allow_out_of_near()
    cluster.expect("near", reach=set())
    cluster.allow_out_of_near(DNS)
    cluster.expect("near", reach={"dns"})
    cluster.allow_out_of_near(DNS, WEB)
    cluster.expect("near", reach={"dns", "web", "service"})
    cluster.expect("far", "foreign", reach=ALL)


def test_both_ends_must_allow(cluster: Cluster) -> None:
    cluster.allow_out_of_near(DNS, WEB)
    cluster.allow_in({"from": [{"podSelector": {"matchLabels": {"side": "near"}}}], "ports": [{"port": 8081}]})
    cluster.expect("near", reach={"dns"})


def test_policies_outlive_the_nodes_service(cluster: Cluster) -> None:
    cluster.allow_in({"ports": [{"port": 8080}]})
    closed = ALL - {"admin"}
    cluster.expect(*cluster.clients, reach=closed)
    on_host(NODE, "systemctl", "stop", "k3s-agent")
    try:
        # Its pods go on, and so do the rules; kubectl exec reaches the clients on the other node only
        clients = [name for name in cluster.clients if name != "near"]
        cluster.expect(*clients, reach=closed - {"kubelet"})
        # What changes meanwhile is caught up with
        cluster.allow_in({"ports": [{"port": 8081}]})
    finally:
        on_host(NODE, "systemctl", "start", "k3s-agent")
    cluster.wait_for("near")
    cluster.expect(*cluster.clients, reach=ELSEWHERE | {"admin"})
