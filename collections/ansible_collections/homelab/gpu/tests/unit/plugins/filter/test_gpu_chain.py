# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.gpu_chain import gpu_chain
from ansible_collections.homelab.gpu.plugins.plugin_utils._gpu_chain import Evidence, Verdict, judge

Object = dict[str, t.Any]

LABEL = "homelab.gpu/device-plugin-config"
GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
KEY, OTHER_KEY = "tesla-p40-24gb-x4-00000004", "tesla-p40-24gb-x2-00000002"
NAME, MPS_NAME = f"nvidia-device-plugin-{KEY}", f"nvidia-mps-control-daemon-{KEY}"
IDLE = "I1 main.go:1] Starting\nI1 main.go:2] No devices found. Waiting indefinitely.\n"


def plugin_pod(name: str = "plugin-1", key: str | None = KEY, created: str | None = "2026-01-01T00:00:00Z", **status: t.Any) -> Object:
    state = status or {"phase": "Running", "containerStatuses": [{"name": "nvidia-device-plugin", "state": {"running": {"startedAt": "now"}}}]}
    return {"metadata": {"name": name, "labels": {LABEL: key} if key else None, "creationTimestamp": created}, "status": state}


def waiting(reason: str | None = None, message: str | None = None, ended: str = "") -> list[Object]:
    told = {key: value for key, value in {"reason": reason, "message": message}.items() if value} or {"reason": None}
    return [{"state": {"waiting": told}, "lastState": {"terminated": {"reason": ended}} if ended else {}}]


def all_is_well() -> Object:
    """What the filter gets of a node that offers its slices."""
    return {
        "slices": {"key": KEY, "allocatable": 4, "replicas": 4, "sharing": "time-slicing", "resource": GPU},
        "gpu": {
            "gpus": [{"pci_address": "0000:01:00.0", "state": "ready", "state_reason": ""}],
            "driver": {"state": "ready", "message": ""},
        },
        "runtime": {"state": "registered", "reason": "containerd has it"},
        "node": {
            "metadata": {"name": "worker", "labels": {LABEL: KEY}},
            "spec": {},
            "status": {
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
                "runtimeHandlers": [{"name": ""}, {"name": "nvidia"}, {"name": "runc"}],
                "capacity": {"cpu": "8", GPU: "4"},
                "allocatable": {"cpu": "8", GPU: "4"},
            },
        },
        "daemon_sets": [{"metadata": {"name": NAME}}],
        "pods": [plugin_pod()],
        "logs": {"plugin-1": "I1 Registered\n"},
        "runtime_classes": ["crun", "nvidia"],
    }


Break = t.Callable[[Object], t.Any]


def broken(*breaks: Break) -> Object:
    evidence = all_is_well()
    for one in breaks:
        one(evidence)
    return t.cast("Object", gpu_chain(**evidence))


def gpus(*states: tuple[str, str]) -> Break:
    return lambda found: found["gpu"].update(gpus=[{"pci_address": f"0000:0{n}:00.0", "state": s, "state_reason": why} for n, (s, why) in enumerate(states, 1)])


def driver(**told: str) -> Break:
    return lambda found: found["gpu"].update(driver=told)


def runtime(**told: str) -> Break:
    return lambda found: found.update(runtime=told)


def handlers(*names: Object) -> Break:
    return lambda found: found["node"]["status"].update(runtimeHandlers=[*names])


def classes(*names: str) -> Break:
    return lambda found: found.update(runtime_classes=[*names])


def ready(**told: str) -> Break:
    return lambda found: found["node"]["status"].update(conditions=[{"type": "Ready", **told}])


def label(value: str | None) -> Break:
    return lambda found: found["node"]["metadata"].update(labels={LABEL: value} if value else None)


def daemon_sets(*names: str) -> Break:
    return lambda found: found.update(daemon_sets=[{"metadata": {"name": name}} for name in names])


def pods(*listed: Object) -> Break:
    return lambda found: found.update(pods=[*listed])


def log(text: str) -> Break:
    return lambda found: found.update(logs={"plugin-1": text})


def offers(allocatable: str, capacity: str = "4", resource: str = GPU) -> Break:
    def change(found: Object) -> None:
        found["node"]["status"]["allocatable"][resource] = allocatable
        found["node"]["status"]["capacity"][resource] = capacity

    return change


def taints(*listed: Object, tolerations: t.Sequence[Object] = ()) -> Break:
    def change(found: Object) -> None:
        found["pods"] = []
        found["node"]["spec"]["taints"] = [*listed]
        found["daemon_sets"] = [{"metadata": {"name": NAME}, "spec": {"template": {"spec": {"tolerations": [*tolerations]}}}}]

    return change


MPS_READY = "I1 Starting Daemons.\nI1 Staring MPS daemon\n"
MPS_FAILED = "E1 Failed to start MPS daemon: error setting compute mode EXCLUSIVE_PROCESS\nI1 Failed to start one or more MPS deamons. Retrying in 30s...\n"
UNREACHED = "I1 Starting Plugins.\nE1 Failed to start plugin: error waiting for MPS daemon: error checking MPS daemon health: exit status 1\n"


def by_mps(*breaks: Break, daemon_log: str = MPS_READY) -> Break:
    """The node shares its GPUs by MPS, and something of that is broken."""

    def change(found: Object) -> None:
        found["slices"]["sharing"] = "mps"
        found["daemon_sets"].append({"metadata": {"name": MPS_NAME}})
        found["mps_pods"] = [plugin_pod("mps-1")]
        found["logs"] = {**found["logs"], "mps-1": daemon_log}
        for one in breaks:
            one(found)

    return change


def mps_pods(*listed: Object) -> Break:
    return lambda found: found.update(mps_pods=[*listed])


# In the order of the chain
LINKS: list[tuple[str, Break, str, bool]] = [
    ("gpu", gpus(), "the host has no NVIDIA GPU now; the driver's state is ready: no message", False),
    ("gpu", gpus(("ready", ""), ("lost", "off the bus"), ("nouveau", "")), "GPU 0000:02:00.0 is in the state lost: off the bus", False),
    ("driver", driver(state="mismatch", message="Driver/library version mismatch"), "the driver's state is mismatch: Driver/library version mismatch", False),
    ("runtime", runtime(state="stopped", reason="K3s does not run"), "K3s does not run", False),
    ("runtime", handlers({"name": ""}, {"name": "runc"}), "the kubelet knows no runtime nvidia, only runc; restart K3s", False),
    ("runtime_class", classes("wasm", "crun"), "the cluster has no RuntimeClass nvidia, only crun, wasm; K3s brings it", False),
    ("node", ready(status="Unknown", message="Kubelet stopped posting node status."), "the node is not ready: Kubelet stopped posting node status.", False),
    ("label", label(OTHER_KEY), f"its label {LABEL} is {OTHER_KEY} instead of {KEY}; something else sets it", False),
    ("daemon_set", daemon_sets("nvidia-device-plugin"), f"its label {LABEL} chooses the DaemonSet {NAME}, which does not exist", False),
    ("daemon_set", pods(), f"the DaemonSet {NAME} has no pod on the node", False),
    ("mps", by_mps(mps_pods()), f"the DaemonSet {MPS_NAME} has no pod on the node", False),
    (
        "pod",
        pods(plugin_pod(phase="Pending", containerStatuses=waiting("ImagePullBackOff", "Back-off pulling"))),
        "the plugin's pod plugin-1 does not run: ImagePullBackOff: Back-off pulling",
        False,
    ),
    ("idle", log(IDLE), "the plugin's pod plugin-1 runs, but found no GPU when it started and will not look again", True),
    ("unhealthy", offers("1"), "3 of 4 slices are unhealthy to the plugin", True),
    ("allocatable", offers("2", "2"), "the node offers 2 of nvidia.com/gpu instead of 4, and has registered 2: the plugin's pod plugin-1 runs with", True),
]
NUMBERED = [pytest.param(number, id=f"{number}-{link[0]}") for number, link in enumerate(LINKS)]


def test_all_is_well() -> None:
    assert broken() == {"link": "", "text": "worker offers what it should", "restart": False}


@pytest.mark.parametrize("number", NUMBERED)
def test_one_broken_link(number: int) -> None:
    link, one, text, restart = LINKS[number]
    verdict = broken(one)
    assert (verdict["link"], verdict["restart"]) == (link, restart)
    assert verdict["text"].startswith(text)
    assert "None" not in verdict["text"]
    # The role puts it into a sentence
    assert not verdict["text"].endswith(".") or link == "node"


@pytest.mark.parametrize("number", NUMBERED[1:])
def test_first_of_several_wins(number: int) -> None:
    """With this link, and all that come after it in the chain; whatever of them does not spoil the other."""
    link, _one, text, _restart = LINKS[number]
    after = [later for later in LINKS[number:] if later[0] != link]
    verdict = broken(*(entry[1] for entry in reversed([LINKS[number], *after])))
    assert (verdict["link"], verdict["text"][:20]) == (link, text[:20])


def test_reasons_of_a_host_without_gpus() -> None:
    verdict = broken(gpus(), driver(state="absent", message="no NVIDIA driver is loaded"))
    assert verdict["text"] == "the host has no NVIDIA GPU now; the driver's state is absent: no NVIDIA driver is loaded"


@pytest.mark.parametrize("state", ["ready", "no_nvidia_smi"])
def test_drivers_that_serve(state: str) -> None:
    assert broken(driver(state=state))["link"] == ""


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(handlers(), id="a kubelet that does not tell its runtimes"),
        pytest.param(lambda found: found.pop("runtime_classes"), id="runtime classes that nobody asked for"),
        pytest.param(lambda found: found.pop("logs"), id="no logs"),
        pytest.param(lambda found: found.update(logs={"plugin-1": None}), id="an empty log"),
        pytest.param(lambda found: found.update(logs={"other": IDLE}), id="a log of another pod"),
        pytest.param(offers("4", "8"), id="more registered than offered, as from a second GPU that went"),
        pytest.param(offers("0", "4", SHARED), id="another name, of which nothing is offered any more"),
        pytest.param(pods(plugin_pod("other", None, "2026-02-01T00:00:00Z", phase="Failed"), plugin_pod()), id="a pod that is not the plugin's"),
        pytest.param(pods(plugin_pod("old", OTHER_KEY, "2026-02-01T00:00:00Z", phase="Failed"), plugin_pod()), id="a pod of another config"),
        pytest.param(pods(plugin_pod("ended", phase="Failed", created="2025-01-01T00:00:00Z"), plugin_pod()), id="an older pod that failed"),
    ],
)
def test_what_is_no_fault(one: Break) -> None:
    assert broken(one) == {"link": "", "text": "worker offers what it should", "restart": False}


def test_cluster_without_any_runtime_class() -> None:
    verdict = broken(classes())
    assert verdict["link"] == "runtime_class"
    assert verdict["text"].startswith("the cluster has no RuntimeClass nvidia; K3s brings it")


def test_runtime_class_of_another_name() -> None:
    assert "no RuntimeClass own, only crun, nvidia" in broken(lambda found: found.update(runtime_class="own"))["text"]


UNTOLERATED = {"key": "own", "value": "x", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("one", "told"),
    [
        pytest.param(taints(UNTOLERATED), "own=x:NoSchedule", id="with a value"),
        pytest.param(taints({"key": "own", "effect": "NoExecute"}), "own:NoExecute", id="without"),
        pytest.param(taints(UNTOLERATED, {"key": "a", "value": "", "effect": "NoSchedule"}), "own=x:NoSchedule, a:NoSchedule", id="two"),
        pytest.param(taints({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}), "", id="drained a moment ago"),
        pytest.param(taints({"key": "own", "effect": "PreferNoSchedule"}), "", id="only preferred"),
        pytest.param(taints(UNTOLERATED, tolerations=[{"key": "own", "operator": "Equal", "value": "x", "effect": "NoSchedule"}]), "", id="tolerated"),
        pytest.param(taints(UNTOLERATED, tolerations=[{"key": "own", "value": "x"}]), "", id="tolerated whatever it does"),
        pytest.param(taints(UNTOLERATED, tolerations=[{"operator": "Exists"}]), "", id="all are tolerated"),
        pytest.param(taints(UNTOLERATED, tolerations=[{"key": "own", "operator": "Exists", "effect": "NoExecute"}]), "own=x:NoSchedule", id="another effect"),
        pytest.param(taints(UNTOLERATED, tolerations=[{"key": "own", "value": "y"}]), "own=x:NoSchedule", id="another value"),
        pytest.param(taints(UNTOLERATED, tolerations=[{"key": "ow", "operator": "Exists"}]), "own=x:NoSchedule", id="another key"),
    ],
)
def test_taints_that_keep_the_plugin_away(one: Break, told: str) -> None:
    verdict = broken(one)
    assert verdict["link"] == "daemon_set"
    expected = f"; the node has the taints {told}: put them into nvidia_device_plugin_tolerations" if told else ""
    assert verdict["text"] == f"the DaemonSet {NAME} has no pod on the node{expected}"


def test_only_pods_of_other_configs_are_there() -> None:
    verdict = broken(pods(plugin_pod("old", OTHER_KEY), plugin_pod("stray", None)))
    assert (verdict["link"], verdict["text"]) == ("daemon_set", f"the DaemonSet {NAME} has no pod on the node")


@pytest.mark.parametrize(
    ("status", "text", "restart"),
    [
        pytest.param(
            {"phase": "Running", "containerStatuses": waiting("CrashLoopBackOff", "back-off 10s restarting", ended="Error")},
            "does not run: CrashLoopBackOff: back-off 10s restarting. The last it said: two | three | four",
            True,
            id="crashes",
        ),
        pytest.param(
            {"phase": "Running", "containerStatuses": waiting("CrashLoopBackOff", ended="OOMKilled")},
            "does not run: CrashLoopBackOff: OOMKilled. The last it said: two | three | four",
            True,
            id="crashes without a message",
        ),
        pytest.param(
            {"phase": "Running", "containerStatuses": [{"state": {"terminated": {"reason": "Error", "exitCode": 1}}}]},
            "does not run: Error: no message. The last it said: two | three | four",
            True,
            id="has just crashed",
        ),
        pytest.param(
            {"phase": "Pending", "containerStatuses": waiting("CreateContainerConfigError", 'configmap "x" not found')},
            'does not run: CreateContainerConfigError: configmap "x" not found. The last it said: two | three | four',
            False,
            id="has no config",
        ),
        pytest.param({"phase": "Pending", "containerStatuses": waiting()}, "does not run: no reason is given: no message. The", False, id="waits for nothing"),
        pytest.param(
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]},
            "is Pending: PodScheduled: 0/1 nodes are available",
            False,
            id="was not scheduled",
        ),
        pytest.param(
            {"phase": "Pending", "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}]},
            "is Pending: Ready: no reason is given",
            False,
            id="does not say why",
        ),
        pytest.param({"phase": "Failed"}, "is Failed: no reason is given", False, id="failed"),
        pytest.param({"conditions": None, "containerStatuses": None}, "is in no known phase: no reason is given", False, id="tells nothing"),
    ],
)
def test_pod_that_does_not_run(status: Object, text: str, restart: bool) -> None:
    verdict = broken(pods(plugin_pod(**status)), log("one\n\n two\nthree  \nfour\n\n"))
    assert (verdict["link"], verdict["restart"]) == ("pod", restart)
    assert verdict["text"].startswith(f"the plugin's pod plugin-1 {text}")
    assert "None" not in verdict["text"]


def test_node_that_shares_by_mps_is_well() -> None:
    assert broken(by_mps()) == {"link": "", "text": "worker offers what it should", "restart": False}
    # What was wrong at an earlier try is so no more
    assert broken(by_mps(log(UNREACHED + "I1 Starting Plugins.\nI1 MPS daemon is healthy\n"), daemon_log=MPS_FAILED + MPS_READY))["link"] == ""


@pytest.mark.parametrize(
    ("one", "text", "restart"),
    [
        pytest.param(
            by_mps(daemon_sets(NAME)), f"its label {LABEL} chooses the DaemonSet {MPS_NAME}, which does not exist", False, id="somebody deleted its DaemonSet"
        ),
        pytest.param(by_mps(mps_pods(plugin_pod("old", OTHER_KEY))), f"the DaemonSet {MPS_NAME} has no pod on the node", False, id="only another config's"),
        pytest.param(
            by_mps(
                mps_pods(plugin_pod("mps-1", phase="Pending", initContainerStatuses=waiting("CrashLoopBackOff", ended="Error"), containerStatuses=waiting())),
                daemon_log="",
            ),
            "the MPS daemon's pod mps-1 does not run: CrashLoopBackOff: Error",
            True,
            id="its memory cannot be mounted",
        ),
        pytest.param(
            by_mps(
                mps_pods(
                    plugin_pod(
                        "mps-1",
                        phase="Running",
                        initContainerStatuses=[{"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}],
                        containerStatuses=waiting("CrashLoopBackOff", "back-off"),
                    )
                ),
                daemon_log="one\nsending quit message\n",
            ),
            "the MPS daemon's pod mps-1 does not run: CrashLoopBackOff: back-off. The last it said: one | sending quit message",
            True,
            id="it crashes",
        ),
        pytest.param(
            by_mps(daemon_log=MPS_READY + MPS_FAILED),
            "the MPS daemon's pod mps-1 runs, but MPS does not start on the GPUs: Failed to start MPS daemon: error setting compute mode EXCLUSIVE_PROCESS",
            True,
            id="it does not start on the GPUs",
        ),
        pytest.param(
            by_mps(daemon_log="I1 No devices are configured for MPS sharing; Waiting indefinitely.\n"),
            "the MPS daemon's pod mps-1 runs, but found no GPU when it started and will not look again",
            True,
            id="it idles",
        ),
        pytest.param(
            by_mps(lambda found: found["logs"].update({"plugin-1": UNREACHED})),
            "the MPS daemon of pod mps-1 does not answer the plugin's pod plugin-1: "
            "error waiting for MPS daemon: error checking MPS daemon health: exit status 1",
            True,
            id="it does not answer",
        ),
        pytest.param(
            by_mps(pods(plugin_pod(phase="Pending", containerStatuses=waiting("ContainerCreating"))), mps_pods(plugin_pod("mps-1", phase="Pending"))),
            "the MPS daemon's pod mps-1 is Pending: no reason is given",
            False,
            id="the plugin waits for it",
        ),
    ],
)
def test_mps_daemon_that_is_broken(one: Break, text: str, restart: bool) -> None:
    assert broken(one) == {"link": "mps", "text": text, "restart": restart}


def test_plugin_that_does_not_start_beside_its_mps_daemon() -> None:
    verdict = broken(by_mps(pods(plugin_pod(phase="Pending", containerStatuses=waiting("ContainerCreating")))))
    assert (verdict["link"], verdict["restart"]) == ("pod", False)


def test_newest_pod_counts() -> None:
    newer = plugin_pod("plugin-2", created="2026-01-02T00:00:00Z", phase="Pending")
    assert broken(pods(newer, plugin_pod()))["text"].startswith("the plugin's pod plugin-2 is Pending")
    unborn = plugin_pod("plugin-0", created=None, phase="Pending")
    assert broken(pods(unborn, plugin_pod()))["link"] == ""


@pytest.mark.parametrize(
    ("one", "link", "words", "restart"),
    [
        pytest.param(offers("0", "0"), "allocatable", "offers 0 of nvidia.com/gpu instead of 4, and has registered 0", True, id="nothing is registered"),
        pytest.param(offers("8", "8"), "allocatable", "offers 8 of nvidia.com/gpu instead of 4, and has registered 8", True, id="too many"),
        pytest.param(offers("0", "8"), "allocatable", "offers 0 of nvidia.com/gpu instead of 4, and has registered 8", True, id="other ones are unhealthy"),
        pytest.param(offers("0", "4"), "unhealthy", "4 of 4 slices are unhealthy", True, id="all are unhealthy"),
        pytest.param(
            offers("1", "1", SHARED), "allocatable", "offers 1 of nvidia.com/gpu.shared as well: another device plugin", False, id="another name, too"
        ),
    ],
)
def test_what_the_node_offers(one: Break, link: str, words: str, restart: bool) -> None:
    verdict = broken(one)
    assert (verdict["link"], verdict["restart"]) == (link, restart)
    assert words in verdict["text"]


def test_renamed_slices() -> None:
    def rename(found: Object) -> None:
        found["slices"]["resource"] = SHARED

    assert broken(rename)["text"].startswith(f"the node offers 0 of {SHARED} instead of 4, and has registered 0")
    assert broken(rename, offers("4", "4", SHARED), offers("0", "4"))["link"] == ""


def nothing_wanted(found: Object) -> None:
    """As planned for a node whose GPU is unplugged."""
    found.update(slices={"key": "unknown-x1-00000000", "allocatable": 0, "replicas": 1, "resource": GPU}, daemon_sets=[], pods=[], logs={})
    found["gpu"]["gpus"] = []
    found["node"]["metadata"]["labels"] = {}


def test_node_without_gpus_that_offers_none_is_well() -> None:
    assert broken(nothing_wanted, offers("0", "4"))["link"] == ""
    verdict = broken(nothing_wanted)
    assert (verdict["link"], verdict["restart"]) == ("allocatable", False)
    assert "offers 4 of nvidia.com/gpu instead of 0, and has registered 4: another device plugin runs there" in verdict["text"]


@pytest.mark.parametrize(
    ("one", "link"),
    [
        pytest.param(lambda found: found["gpu"].update(gpus=[{"state": "lost"}]), "gpu", id="GPU without address and reason"),
        pytest.param(lambda found: found["gpu"].update(gpus=[{"pci_address": "", "state": "lost", "state_reason": None}]), "gpu", id="GPU with empty ones"),
        pytest.param(lambda found: found["gpu"].update(gpus=[], driver={}), "gpu", id="neither GPU nor driver"),
        pytest.param(driver(), "driver", id="driver without state"),
        pytest.param(driver(state="failing"), "driver", id="driver without message"),
        pytest.param(runtime(), "runtime", id="runtime without state"),
        pytest.param(runtime(state="foreign"), "runtime", id="runtime without reason"),
        pytest.param(handlers({}), "runtime", id="handler without name"),
        pytest.param(lambda found: found["node"].pop("status"), "node", id="node without status"),
        pytest.param(lambda found: found["node"].update(status=None), "node", id="node with a null status"),
        pytest.param(ready(status="False"), "node", id="node without a message"),
        pytest.param(lambda found: found["node"]["metadata"].pop("labels"), "label", id="node without labels"),
        pytest.param(lambda found: (found.pop("daemon_sets"), found.pop("pods")), "daemon_set", id="nothing in the namespace"),
        pytest.param(lambda found: (found["node"].pop("spec"), found.update(pods=[])), "daemon_set", id="node without spec"),
        pytest.param(lambda found: found["pods"][0].pop("status"), "pod", id="pod without status"),
        pytest.param(lambda found: found["pods"][0].update(status={"containerStatuses": [{}]}), "pod", id="container without state"),
        pytest.param(lambda found: found["node"]["status"].update(allocatable=None, capacity=None), "allocatable", id="node that offers nothing"),
        pytest.param(lambda found: found["node"]["status"]["allocatable"].update({GPU: None}), "unhealthy", id="node that offers null"),
    ],
)
def test_what_is_missing_is_told_and_does_not_raise(one: Break, link: str) -> None:
    verdict = broken(one)
    assert verdict["link"] == link
    assert "None" not in verdict["text"]
    assert "GPU  " not in verdict["text"]
    assert "only ;" not in verdict["text"]


def test_evidence_is_left_as_it_is() -> None:
    evidence = all_is_well()
    before = copy.deepcopy(evidence)
    gpu_chain(**evidence)
    assert evidence == before


def test_judge_alone() -> None:
    found = all_is_well()
    gpu = found.pop("gpu")
    assert judge(Evidence(gpus=gpu["gpus"], driver=gpu["driver"], **found)) == Verdict("", "worker offers what it should")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpu": {"driver": {}}}, "gpu_chain: KeyError('gpus')"),
        ({"gpu": {"gpus": []}}, "gpu_chain: KeyError('driver')"),
        ({"slices": {"problem": "no"}}, "gpu_chain: KeyError('allocatable')"),
        ({"nodes": []}, "unexpected keyword argument 'nodes'"),
    ],
)
def test_bad_input(change: Object, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as failure:
        gpu_chain(**{**all_is_well(), **change})
    assert words in str(failure.value)
