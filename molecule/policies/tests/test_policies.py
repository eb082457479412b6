# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the objects of the role do on real Kubernetes. The load that the autoscaler follows begins first and is looked at last, so that nobody waits for it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

import gpu_host as lab

APPLIANCE, DRAIN, SCALE = "forge-cognition", "policies-drain", "policies-scale"
WORKER = "k3s-worker"
SLICE = "nvidia.com/gpu"


def wait(what: str, found: Callable[[], Any]) -> Any:
    """The first true answer; other work on this machine may slow everything down."""
    return lab.wait(what, found, seconds=240)


def policies(of: str, **variables: Any) -> lab.Run:
    """The role with the variables of a file beside this folder, and others that go before them."""
    # Molecule forces colours, which go before their absence
    colours = {"ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"}
    environment = {**os.environ, **colours, "ANSIBLE_CONFIG": str(lab.PROJECT / "ansible.cfg"), "COLUMNS": "1000"}
    extra = json.dumps({"policies": of, **variables})
    command = ["ansible-playbook", "--inventory", "inventories/lab/hosts.yml", "molecule/policies/converge.yml", "--extra-vars", extra]
    done = subprocess.run(command, cwd=lab.PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    return lab.Run(done.returncode, done.stdout + done.stderr)


def held(of: str, **variables: Any) -> lab.Run:
    run = policies(of, **variables)
    assert run.status == 0, run.output
    return run


@pytest.fixture(scope="module")
def image() -> str:
    """One that every node has and that has a shell: what the local volumes' provisioner runs."""
    settings = lab.read("configmap", "local-path-config", "--namespace=kube-system")["data"]
    return yaml.safe_load(settings["helperPod.yaml"])["spec"]["containers"][0]["image"]


def deployment(namespace: str, name: str, image: str, replicas: int = 1, command: str = "exec sleep 3600", **content: Any) -> None:
    """C(content): C(pod) goes into the spec of the pods, C(container) into that of their container."""
    container = {"name": "main", "image": image, "command": ["sh", "-c", command], **content.get("container", {})}
    template = {"terminationGracePeriodSeconds": 0, "containers": [container], **content.get("pod", {})}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": template},
        },
    }
    lab.kubectl("apply", "--filename=-", given=json.dumps(body))


def pods(namespace: str, name: str, phase: str | None = None) -> list[Any]:
    found = lab.read("pods", f"--namespace={namespace}", f"--selector=app={name}")["items"]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp") and phase in (None, pod["status"]["phase"])]


def ready(namespace: str, name: str, count: int) -> list[Any]:
    def found() -> list[Any] | None:
        running = pods(namespace, name, "Running")
        fit = [pod for pod in running if all(one["ready"] for one in pod["status"].get("containerStatuses", [{"ready": False}]))]
        return fit if len(fit) == count else None

    return wait(f"{count} pods of {name} are ready", found)


class Load:
    """A service that is busy until its autoscaler wants three pods of it, and how many it wanted over time."""

    def __init__(self, image: str) -> None:
        held("scale")
        command = ": >/tmp/busy; while :; do if [ -e /tmp/busy ]; then i=0; while [ $i -lt 9000 ]; do i=$((i+1)); done; else sleep 0.2; fi; done"
        deployment(SCALE, "max-serve-llama", image, command=command, container={"resources": {"requests": {"cpu": "20m"}, "limits": {"cpu": "200m"}}})
        ready(SCALE, "max-serve-llama", 1)
        self.wanted: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def seen(self) -> list[int]:
        return [replicas for _at, replicas in self.wanted]

    def _watch(self) -> None:
        started = time.monotonic()
        quiet = False
        while not self._over.wait(1):
            replicas = lab.read("deployment", "max-serve-llama", f"--namespace={SCALE}")["spec"]["replicas"]
            if self.seen[-1:] != [replicas]:
                self.wanted.append((time.monotonic() - started, replicas))
            if not quiet and max(self.seen) == 3 and len(pods(SCALE, "max-serve-llama", "Running")) == 3:
                for pod in pods(SCALE, "max-serve-llama", "Running"):
                    lab.kubectl("exec", f"--namespace={SCALE}", pod["metadata"]["name"], "--", "rm", "-f", "/tmp/busy")
                quiet = True

    def end(self) -> None:
        self._over.set()
        self._watcher.join(timeout=30)
        lab.kubectl("delete", "namespace", SCALE, "--wait=false")


@pytest.fixture(scope="module", autouse=True)
def load(image: str) -> Iterator[Load]:
    found = Load(image)
    yield found
    found.end()


@pytest.fixture
def _clean_appliance() -> Iterator[None]:
    yield
    lab.kubectl("delete", "deployments", "--all", f"--namespace={APPLIANCE}")
    wait("its pods are gone", lambda: not lab.read("pods", f"--namespace={APPLIANCE}")["items"])


@pytest.mark.usefixtures("_clean_appliance")
def test_quota_refuses_the_eleventh_pod(image: str) -> None:
    deployment(APPLIANCE, "crowd", image, replicas=11)
    ready(APPLIANCE, "crowd", 10)

    def refusal() -> str | None:
        found = lab.read("replicasets", f"--namespace={APPLIANCE}", "--selector=app=crowd")["items"][0]["status"].get("conditions", [])
        return next((one["message"] for one in found if one["type"] == "ReplicaFailure"), None)

    message = wait("the eleventh is refused", refusal)
    assert "exceeded quota: inference-quota, requested: pods=1, used: pods=10, limited: pods=10" in message
    # What the limit range gave to containers that said nothing: without it the quota would refuse them all
    assert pods(APPLIANCE, "crowd")[0]["spec"]["containers"][0]["resources"] == {"limits": {"memory": "64Mi"}, "requests": {"memory": "16Mi"}}
    run = policies("appliance")
    assert run.status != 0
    assert "inference_policies_quota.hard.pods: it allows 10, and 11 pods of the Deployment crowd take 11" in run.text
    assert run.changed == 0


@pytest.fixture
def _two_slices() -> Iterator[None]:
    """Offered by a node that has no GPU: scheduling is all that is looked at."""
    patch = [{"op": "add", "path": f"/status/{part}/nvidia.com~1gpu", "value": "2"} for part in ("capacity", "allocatable")]
    lab.kubectl("patch", "node", WORKER, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")
    yield
    patch = [{"op": "remove", "path": f"/status/{part}/nvidia.com~1gpu"} for part in ("capacity", "allocatable")]
    lab.kubectl("patch", "node", WORKER, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")


@pytest.mark.usefixtures("_two_slices", "_clean_appliance")
def test_critical_pod_preempts_a_low_one(image: str) -> None:
    slices = {"resources": {"limits": {SLICE: "1"}}}
    where = {"nodeSelector": {"kubernetes.io/hostname": WORKER}}
    deployment(APPLIANCE, "batch", image, replicas=2, container=slices, pod={**where, "priorityClassName": "forge-low"})
    before = {pod["metadata"]["name"] for pod in ready(APPLIANCE, "batch", 2)}
    deployment(APPLIANCE, "inference-server", image, container=slices, pod={**where, "priorityClassName": "forge-llm-critical"})
    (critical,) = ready(APPLIANCE, "inference-server", 1)
    assert critical["spec"]["priority"] == 1_000_000
    after = {pod["metadata"]["name"] for pod in pods(APPLIANCE, "batch", "Running")}
    assert after < before
    assert len(after) == 1
    waiting = wait("the other one waits", lambda: pods(APPLIANCE, "batch", "Pending"))[0]
    assert waiting["spec"]["priority"] == 1_000
    events = lab.read("events", f"--namespace={APPLIANCE}", "--field-selector=reason=Preempted")["items"]
    # Events of an earlier run may still be there
    assert {event["involvedObject"]["name"] for event in events} & before == before - after


def evict(pod: Any, dry_run: bool = True) -> str:
    """What the API server answers to an eviction."""
    name = pod["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": DRAIN}}
    path = f"/api/v1/namespaces/{DRAIN}/pods/{name}/eviction{'?dryRun=All' if dry_run else ''}"
    command = [str(lab.PROJECT / ".lab/podman"), "exec", "--interactive", "k3s-server", "k3s", "kubectl", "create", "--raw", path, "--filename=-"]
    done = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True, check=False)
    return "let through" if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def budgets(image: str) -> Iterator[lab.Run]:
    # What an interrupted run may have left
    lab.kubectl("uncordon", WORKER)
    run = held("drain")
    where = {"nodeSelector": {"kubernetes.io/hostname": WORKER}}
    for name, replicas in {"egpu": 1, "safe": 1, "scaled": 1, "pair": 2}.items():
        deployment(DRAIN, name, image, replicas, pod=where)
    never = {"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}}
    for name in ("broken", "broken-kept"):
        deployment(DRAIN, name, image, 2, pod=where, container=never)
    for name, replicas in {"egpu": 1, "safe": 1, "scaled": 1, "pair": 2}.items():
        ready(DRAIN, name, replicas)
    for name in ("broken", "broken-kept"):
        wait(f"{name} runs", lambda name=name: len(pods(DRAIN, name, "Running")) == 2)

    def counted() -> bool:
        found = {one["metadata"]["name"]: one["status"] for one in lab.read("poddisruptionbudgets", f"--namespace={DRAIN}")["items"]}
        return [found[f"{name}-pdb"].get("currentHealthy") for name in ("egpu", "safe", "scaled", "pair", "broken")] == [1, 1, 1, 2, 0]

    wait("the budgets have counted their pods", counted)
    yield run
    lab.kubectl("uncordon", WORKER)
    lab.kubectl("delete", "namespace", DRAIN)


@pytest.mark.parametrize(
    ("name", "let_through"),
    [("egpu", True), ("safe", True), ("scaled", False), ("pair", True), ("broken", True), ("broken-kept", False)],
)
@pytest.mark.usefixtures("budgets")
def test_budgets_hold_back_or_let_through_as_stated(name: str, let_through: bool) -> None:
    answer = evict(pods(DRAIN, name, "Running")[0])
    if let_through:
        assert answer == "let through"
    else:
        assert "Cannot evict pod as it would violate the pod's disruption budget" in answer


def test_what_blocks_every_drain_was_told(budgets: lab.Run) -> None:
    assert "error: inference_policies_services[scaled].pdb: minAvailable 1 of 1 pod (Deployment scaled) lets none go" in budgets.text
    run = policies("drain", inference_policies_refuse=True)
    assert run.status != 0
    assert "nothing was changed, for this can never work" in run.text
    assert run.changed == 0


@pytest.mark.usefixtures("budgets")
def test_drain_is_held_back_and_goes_on_when_the_budget_allows(tmp_path: Path) -> None:
    kubectl = [str(lab.PROJECT / ".lab/podman"), "exec", "k3s-server", "k3s", "kubectl"]
    said = tmp_path / "said"
    with said.open("w", encoding="utf-8") as output:
        drain = subprocess.Popen([*kubectl, "drain", WORKER, "--pod-selector=app=pair", "--timeout=180s", "--ignore-daemonsets"], stdout=output, stderr=output)
    try:
        wait("it is held back", lambda: "would violate the pod's disruption budget" in said.read_text(encoding="utf-8"))
        # The one that went cannot come back to this node, so the other one is all that is left
        assert [pod["spec"].get("nodeName") for pod in pods(DRAIN, "pair", "Running")] == [WORKER]
        assert drain.poll() is None
        # As soon as its pods may run elsewhere, the budget lets the last one go
        patch = {"spec": {"template": {"spec": {"nodeSelector": None}}, "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 2}}}}
        lab.kubectl("patch", "deployment", "pair", f"--namespace={DRAIN}", f"--patch={json.dumps(patch)}")
        assert drain.wait(timeout=180) == 0, said.read_text(encoding="utf-8")
    finally:
        drain.kill()
        drain.wait()
    wait("both run elsewhere", lambda: [pod["spec"].get("nodeName") != WORKER for pod in pods(DRAIN, "pair", "Running")] == [True, True])


def test_parts_that_are_switched_off_are_removed() -> None:
    def names() -> set[str]:
        kinds = "networkpolicies,resourcequotas,limitranges,poddisruptionbudgets"
        return {f"{one['kind']}/{one['metadata']['name']}" for one in lab.read(kinds, f"--namespace={APPLIANCE}")["items"]}

    foreign = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "foreign", "namespace": APPLIANCE}, "spec": {"limits": []}}
    lab.kubectl("apply", "--filename=-", given=json.dumps(foreign))
    before = names()
    assert "ResourceQuota/inference-quota" in before
    row = {"name": "inference-server", "pdb": {"enabled": False}, "network": {"enabled": False}}
    held("appliance", inference_policies_services=[row], inference_policies_quota={}, inference_policies_network={})
    assert names() == {"LimitRange/inference-limits", "LimitRange/foreign"}
    lab.kubectl("delete", "limitrange", "foreign", f"--namespace={APPLIANCE}")
    assert held("appliance").changed == 1
    assert names() == before - {"LimitRange/foreign"}
    assert held("appliance").changed == 0
    # Another namespace's settings take nothing away from this one
    assert lab.read("priorityclass", "forge-low")["value"] == 1_000


def test_priority_classes_are_replaced_on_demand_only() -> None:
    def value() -> int:
        return lab.read("priorityclass", "forge-low")["value"]

    classes = [{"name": "forge-llm-critical", "value": 1_000_000}, {"name": "forge-low", "value": 2_000}]
    run = policies("appliance", inference_policies_priority_classes=classes)
    assert run.status != 0
    assert "inference_policies_priority_classes[forge-low].value: it is 1000 in the cluster and 2000 here, and Kubernetes lets nobody change it" in run.text
    assert (value(), run.changed) == (1_000, 0)
    held("appliance", inference_policies_priority_classes=classes, inference_policies_replace_priority_classes=True)
    assert value() == 2_000
    held("appliance", inference_policies_replace_priority_classes=True)
    assert value() == 1_000


def test_autoscaler_follows_the_load_within_its_policy_and_comes_back(load: Load) -> None:
    wait("three pods are wanted", lambda: 3 in load.seen)
    wait("one pod is wanted again", lambda: load.seen[-1] == 1)
    print("wanted", ", ".join(f"{replicas} after {at:.0f} s" for at, replicas in load.wanted))
    assert (load.seen[0], max(load.seen)) == (1, 3)
    # One pod at a time, up and down; on a machine that others use, the load may waver in between
    assert {abs(after - before) for before, after in itertools.pairwise(load.seen)} == {1}
    ready(SCALE, "max-serve-llama", 1)
