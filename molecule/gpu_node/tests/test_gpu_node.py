# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the GPU to the slices of its node, on real Kubernetes with NVIDIA's container toolkit. Tests run in their order; each leaves a node that is well."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

import gpu_host as lab

THOR_OF_THE_LAB = [{"name": "jetson-thor-128gb", "memory_mib_min": 1000}]


@pytest.fixture
def _no_users() -> Iterator[None]:
    yield
    lab.end_users()


@pytest.fixture
def _well_again() -> Iterator[None]:
    """The state of the GPU that the other tests begin with."""
    yield
    lab.gpu("swap", "tesla-p40")


def of_plugin(key: str) -> dict:
    """The plugin's config of this key."""
    (config_map,) = [one for one in lab.read("configmaps", "--namespace", lab.NAMESPACE)["items"] if one["metadata"]["name"] == f"nvidia-device-plugin-{key}"]
    return yaml.safe_load(config_map["data"]["config.yaml"])


def test_second_run_touches_nothing() -> None:
    """Not the service, not the plugin's pod, and systemd does not read its units anew: that would take GPUs from running containers."""
    before = [lab.on_host("systemctl show --property=InvocationID k3s-agent.service"), [pod["metadata"]["uid"] for pod in lab.plugin_pods()]]
    since = lab.on_host("date +%s.%N").strip()
    run = lab.playbook("playbooks/site.yml")
    assert (run.status, run.changed) == (0, 0), run.output
    assert [lab.on_host("systemctl show --property=InvocationID k3s-agent.service"), [pod["metadata"]["uid"] for pod in lab.plugin_pods()]] == before
    journal = lab.on_host(f"journalctl --no-pager --output=cat --since=@{since} _PID=1")
    assert re.findall(r"^(?:Reloading|Reexecuting).*", journal, re.MULTILINE) == []


@pytest.mark.usefixtures("_no_users")
def test_slices_hold_pods_and_no_more() -> None:
    assert lab.allocatable() == 4
    run = lab.succeeds(lab.verify())
    assert "4 pods ran at once on its 4 slices" in run.text
    lab.start_users(5)
    running = lab.wait("four pods run", lambda: len(lab.users("Running")) == 4 and lab.users("Running"))
    (waiting,) = lab.users("Pending")
    assert "Insufficient nvidia.com/gpu" in waiting["status"]["conditions"][0]["message"]
    told = lab.succeeds(lab.playbook("playbooks/status.yml")).text
    assert re.search(rf"default/{waiting['metadata']['name']}, for \S+: .*Insufficient nvidia.com/gpu", told), told
    told = {re.findall(r"GPU-[0-9a-f-]{36}", lab.wait("it tells its GPU", lambda pod=pod: lab.log(pod)))[0] for pod in running}
    assert told == set(re.findall(r"GPU-[0-9a-f-]{36}", lab.on_host("nvidia-smi -L")))
    assert "in use: there is none to try" in lab.verify().text


@pytest.mark.usefixtures("_no_users")
def test_fewer_slices_let_pods_go_and_more_let_them_run() -> None:
    lab.start_users(4)
    before = {pod["metadata"]["uid"] for pod in lab.wait("four pods run", lambda: len(lab.users("Running")) == 4 and lab.users("Running"))}
    # In that time no node can offer anything: the run fails after its pods had to go, and must not leave the node closed
    assert lab.offer(nvidia_device_plugin_replicas=2, nvidia_device_plugin_timeout_seconds=1).status != 0
    assert not lab.node()["spec"].get("unschedulable")
    # As a command line gives it
    lab.succeeds(lab.offer(nvidia_device_plugin_replicas="2"))
    assert lab.allocatable() == 2
    assert of_plugin(lab.config())["sharing"]["timeSlicing"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 2}]
    assert not lab.node()["spec"].get("unschedulable")
    two = {pod["metadata"]["uid"] for pod in lab.wait("two pods run", lambda: len(lab.users("Running")) == 2 and lab.users("Running"))}
    assert not two & before, "pods kept devices that are no longer there"
    lab.succeeds(lab.offer())
    assert lab.allocatable() == 4
    four = {pod["metadata"]["uid"] for pod in lab.wait("four pods run", lambda: len(lab.users("Running")) == 4 and lab.users("Running"))}
    assert two < four, "pods had to leave although their devices stayed"
    assert [one["metadata"]["name"] for one in lab.read("daemonsets", "--namespace", lab.NAMESPACE)["items"]] == [f"nvidia-device-plugin-{lab.config()}"]


@pytest.mark.usefixtures("_no_users")
def test_two_slices_for_one_container_are_refused() -> None:
    lab.kubectl("apply", "--filename=-", given=(lab.USERS % 1).replace("nvidia.com/gpu: 1", "nvidia.com/gpu: 2"))
    pod = lab.wait("the kubelet refuses it", lambda: [one for one in lab.users("Failed") if one["status"].get("reason") == "UnexpectedAdmissionError"])[0]
    assert "maximum request size for shared resources is 1; found 2" in pod["status"]["message"]


@pytest.mark.parametrize(
    ("products", "variables", "labels", "count", "sharing"),
    [
        (["rtx-3060-12gb"], {}, {"gpu-type": "rtx3060", "homelab.gpu/sku": "rtx-3060-12gb", "homelab.gpu/memory-mib": "12288"}, 1, None),
        (["rtx-4000-ada"], {}, {"gpu-type": "rtxpro4000", "homelab.gpu/sku": "rtx-pro-4000-20gb", "homelab.gpu/memory-mib": "20475"}, 4, 4),
        (["thor"], {"gpu_skus": THOR_OF_THE_LAB}, {"gpu-type": "jetsonthor", "homelab.gpu/sku": "jetson-thor-128gb"}, 4, 4),
        # Has the name of the one with 20 GB, but is not it: not shared
        (["rtx-pro-4000-blackwell"], {}, {"homelab.gpu/sku": "unknown", "homelab.gpu/memory-mib": "24467"}, 1, None),
        (["tesla-p40", "rtx-3060-12gb"], {"nvidia_device_plugin_mixed": "smallest"}, {"homelab.gpu/sku": "mixed", "homelab.gpu/count": "2"}, 4, 2),
    ],
    ids=["rtx-3060", "rtx-4000-ada", "thor", "unknown", "mixed"],
)
@pytest.mark.usefixtures("_well_again")
def test_each_sku(products: list[str], variables: dict, labels: dict, count: int, sharing: int | None) -> None:
    lab.gpu("swap", *products)
    lab.succeeds(lab.site(**variables))
    assert lab.allocatable() == count
    assert labels.items() <= lab.node()["metadata"]["labels"].items()
    found = of_plugin(lab.config())
    assert ("sharing" in found) == (sharing is not None), "the plugin refuses a sharing of 1"
    if sharing:
        assert found["sharing"]["timeSlicing"]["resources"][0]["replicas"] == sharing
    tegra = products == ["thor"]
    assert found["flags"]["deviceDiscoveryStrategy"] == ("tegra" if tegra else "nvml")
    assert found["flags"]["plugin"]["deviceIDStrategy"] == ("index" if tegra else "uuid")


ONLY_MOUNTS = {"accept-nvidia-visible-devices-as-volume-mounts": True, "accept-nvidia-visible-devices-envvar-when-unprivileged": False}
BY_DEFAULT = {name: not value for name, value in ONLY_MOUNTS.items()}


@pytest.mark.parametrize(("strategy", "settings"), [("volume-mounts", ONLY_MOUNTS), ("cdi-cri", BY_DEFAULT), ("cdi-annotations", BY_DEFAULT)])
def test_each_strategy_brings_gpus_into_containers(strategy: str, settings: dict) -> None:
    lab.succeeds(lab.offer(nvidia_device_plugin_device_list_strategy=strategy, nvidia_container_toolkit_settings=settings))
    run = lab.succeeds(lab.verify())
    assert "4 pods ran at once on its 4 slices" in run.text


def in_user(command: str) -> str:
    """What a command says in the pod that holds a slice."""
    (pod,) = lab.wait("its pod runs", lambda: lab.users("Running"))
    return lab.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", command).strip()


def mps_daemons() -> list[str]:
    """The DaemonSets and their pods."""
    names = lab.kubectl("get", "daemonsets,pods", "--namespace", lab.NAMESPACE, "--output=name").split()
    return [name for name in names if "/nvidia-mps-control-daemon-" in name]


@pytest.mark.usefixtures("_well_again", "_no_users")
def test_slices_by_mps_and_back() -> None:
    lab.gpu("swap", "rtx-4000-ada")
    lab.succeeds(lab.offer(nvidia_device_plugin_replicas=2, nvidia_device_plugin_sharing="mps"))
    assert lab.allocatable() == 2
    assert len(mps_daemons()) == 2
    assert "size=65536k" in lab.on_host("findmnt --noheadings --output OPTIONS --types tmpfs /run/nvidia/mps/shm")
    lab.start_users(1)
    # In the words of its own environment the container reaches the daemon, whose limits are those of one of two slices
    assert in_user("echo $CUDA_MPS_PIPE_DIRECTORY") == "/mps/nvidia.com/gpu/pipe"
    assert in_user("echo get_default_active_thread_percentage | nvidia-cuda-mps-control") == "50.0"
    assert in_user("echo get_default_device_pinned_mem_limit 0 | nvidia-cuda-mps-control") == f"{20475 // 2}M"
    before = {pod["metadata"]["uid"] for pod in lab.users()}
    # As many slices as before, but nobody can take one from a daemon that goes
    lab.succeeds(lab.offer(nvidia_device_plugin_replicas=2))
    assert lab.allocatable() == 2
    assert of_plugin(lab.config())["sharing"]["timeSlicing"]["resources"][0]["replicas"] == 2
    assert mps_daemons() == []
    assert in_user("echo ${CUDA_MPS_PIPE_DIRECTORY-none}") == "none"
    assert not before & {pod["metadata"]["uid"] for pod in lab.users()}


def profile(name: str) -> dict:
    """The GPU half of a profile that ships."""
    return yaml.safe_load((lab.PROJECT / f"inventories/{name}/group_vars/gpu_node.yml").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("_well_again")
def test_profile_egpu() -> None:
    lab.gpu("swap", "--external", "rtx-3060-12gb")
    lab.succeeds(lab.site(**profile("egpu")))
    node = lab.node()
    assert {"nvidia.com/gpu": "true", "gpu-type": "rtx3060", "homelab.gpu/external": "true"}.items() <= node["metadata"]["labels"].items()
    awake = lab.on_host("for gpu in $(grep -l 0x10de /sys/bus/pci/devices/*/vendor); do cat ${gpu%/vendor}/power/control; done").split()
    assert awake
    assert set(awake) == {"on"}, "an external GPU that sleeps may not come back"
    assert {"key": "gpu", "value": "true", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert lab.allocatable() == 1
    lab.succeeds(lab.verify())
    # What came from the profile goes with it
    lab.gpu("swap", "tesla-p40")
    lab.succeeds(lab.site(**profile("forge")))
    node = lab.node()
    assert "nvidia.com/gpu" not in node["metadata"]["labels"]
    assert not node["spec"].get("taints")
    assert lab.allocatable() == 4


@pytest.mark.usefixtures("_well_again")
def test_several_skus_in_one_node_are_refused_by_default() -> None:
    lab.succeeds(lab.site())
    lab.gpu("swap", "tesla-p40", "rtx-3060-12gb")
    run = lab.site()
    assert run.status != 0
    assert "tesla-p40-24gb (2 to 4), rtx-3060-12gb (1 to 2)" in run.text
    assert "set mixed=smallest" in run.text
    assert run.changed == 0, run.output


@pytest.mark.usefixtures("_well_again")
def test_lost_gpu_is_named_and_keeps_its_slices() -> None:
    before = lab.config()
    lab.gpu("lose")
    run = lab.site()
    assert run.status != 0
    assert "is in the state lost" in run.text
    assert lab.config() == before
    lab.gpu("return")
    lab.succeeds(lab.site())
    assert lab.allocatable() == 4


@pytest.mark.usefixtures("_well_again")
def test_plugin_that_found_no_gpu_is_mended() -> None:
    """It would wait for ever, and looks well to Kubernetes."""
    lab.gpu("remove")
    old = [pod["metadata"]["name"] for pod in lab.plugin_pods()]
    lab.kubectl("delete", "pods", "--namespace", lab.NAMESPACE, "--all", "--wait")

    def idle() -> bool:
        pods = [pod for pod in lab.plugin_pods() if pod["metadata"]["name"] not in old]
        return bool(pods) and "Waiting indefinitely" in lab.log(pods[0])

    lab.wait("the plugin idles", idle)
    lab.wait("the node offers nothing", lambda: lab.allocatable() == 0)
    lab.gpu("return")
    run = lab.succeeds(lab.offer())
    assert lab.allocatable() == 4
    assert run.changed > 0
    assert lab.succeeds(lab.offer()).changed == 0


def test_node_is_opened_by_whom_it_was_closed() -> None:
    lab.kubectl("cordon", lab.HOST)
    assert lab.succeeds(lab.offer()).changed == 0
    assert lab.node()["spec"]["unschedulable"], "somebody closed it, for reasons of theirs"
    # As a run leaves it that was cut off
    lab.kubectl("annotate", "node", lab.HOST, "homelab.gpu/closed-by=nvidia_device_plugin")
    lab.succeeds(lab.offer())
    node = lab.node()
    assert not node["spec"].get("unschedulable")
    assert "homelab.gpu/closed-by" not in node["metadata"].get("annotations", {})


def test_label_that_points_nowhere_is_put_right() -> None:
    right = lab.config()
    lab.kubectl("label", "node", lab.HOST, f"{lab.CONFIG_LABEL}=nowhere", "--overwrite")
    lab.wait("the plugin leaves", lambda: not lab.plugin_pods())
    lab.succeeds(lab.offer())
    assert (lab.config(), lab.allocatable()) == (right, 4)


def test_config_cannot_be_edited_and_a_replaced_one_is_put_right() -> None:
    name = f"nvidia-device-plugin-{lab.config()}"
    right = lab.read("configmap", name, "--namespace", lab.NAMESPACE)
    wrong = right["data"]["config.yaml"].replace("replicas: 4", "replicas: 3")
    assert wrong != right["data"]["config.yaml"]
    with pytest.raises(lab.subprocess.CalledProcessError) as refused:
        lab.kubectl("patch", "configmap", name, "--namespace", lab.NAMESPACE, "--patch", yaml.safe_dump({"data": {"config.yaml": wrong}}))
    assert "immutable" in refused.value.stderr
    lab.kubectl("delete", "configmap", name, "--namespace", lab.NAMESPACE)
    lab.kubectl("create", "configmap", name, "--namespace", lab.NAMESPACE, f"--from-literal=config.yaml={wrong}")
    lab.kubectl("delete", "pods", "--namespace", lab.NAMESPACE, "--all", "--wait")
    # The kubelet may still hold the right one, for it does not expect another under this name; the plugin has whichever it was given
    lab.wait("a plugin runs", lambda: [pod for pod in lab.plugin_pods() if pod["status"]["phase"] == "Running"])
    lab.succeeds(lab.offer())
    assert lab.allocatable() == 4
    assert of_plugin(lab.config())["sharing"]["timeSlicing"]["resources"][0]["replicas"] == 4


FOREIGN = "/usr/local/bin/nvidia-container-runtime"


def place_foreign_runtime() -> None:
    lab.on_host(f"printf '#!/bin/sh\\nexec /usr/bin/nvidia-container-runtime \"$@\"\\n' >{FOREIGN} && chmod 755 {FOREIGN}")


@pytest.fixture
def _foreign_runtime() -> Iterator[None]:
    place_foreign_runtime()
    yield
    # containerd stops a container with the program that started it
    place_foreign_runtime()
    lab.end_users()
    lab.on_host(f"rm {FOREIGN}")


@pytest.mark.usefixtures("_foreign_runtime")
def test_foreign_runtime_is_named_and_given_up_when_no_pod_uses_it() -> None:
    run = lab.site()
    assert run.status != 0
    assert f"K3s takes {FOREIGN}, which comes before /usr/bin/nvidia-container-runtime" in run.text
    lab.on_host("systemctl restart k3s-agent.service")
    lab.wait("the slices are back", lambda: lab.allocatable() == 4)
    lab.start_users(1)
    lab.wait("a pod runs", lambda: lab.users("Running"))
    lab.on_host(f"rm {FOREIGN}")
    run = lab.site()
    assert run.status != 0
    assert f"containerd has the runtime nvidia as {FOREIGN}" in run.text
    assert "these pods use the GPU: default/users-" in run.text
    assert lab.users("Running"), "its pod had to go"
    place_foreign_runtime()
    lab.end_users()
    lab.on_host(f"rm {FOREIGN}")
    lab.succeeds(lab.site())
    assert lab.succeeds(lab.site()).changed == 0


def test_toolkit_that_comes_after_k3s_is_registered_and_nothing_comes_from_elsewhere() -> None:
    lab.on_host("DEBIAN_FRONTEND=noninteractive apt-get purge --yes --allow-change-held-packages 'nvidia-container-toolkit*' 'libnvidia-container*'")
    lab.on_host("systemctl restart k3s-agent.service")
    before = lab.on_host("systemctl show --property=InvocationID k3s-agent.service")
    # Everything that is neither of the lab nor of the cluster
    lab.on_host(
        "iptables --new-chain HOMELAB_TEST; for net in 127.0.0.0/8 10.0.0.0/8; do iptables --append HOMELAB_TEST --destination $net --jump RETURN; done;"
        "iptables --append HOMELAB_TEST --jump REJECT; iptables --insert OUTPUT --jump HOMELAB_TEST"
    )
    try:
        lab.succeeds(lab.site())
        refused = lab.on_host("iptables --list HOMELAB_TEST --verbose --numeric --exact | awk '$3 == \"REJECT\" {print $1}'").strip()
    finally:
        lab.on_host("iptables --delete OUTPUT --jump HOMELAB_TEST; iptables --flush HOMELAB_TEST; iptables --delete-chain HOMELAB_TEST")
    assert refused == "0", f"{refused} packets left for elsewhere"
    assert lab.on_host("systemctl show --property=InvocationID k3s-agent.service") != before
    assert lab.allocatable() == 4
    assert lab.succeeds(lab.site()).changed == 0
