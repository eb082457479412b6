# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the role vllm: what they become, and which are refused. The role's own defaults, variables and template are used."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.vllm_plan import vllm_plan
from ansible_collections.homelab.gpu.tests.unit.rendered_role import Object, RenderedRole

SKU, MEMORY, COUNT, CONFIG = "homelab.gpu/sku", "homelab.gpu/memory-mib", "homelab.gpu/count", "homelab.gpu/device-plugin-config"
MEMORIES = {"rtx-3060-12gb": 12288, "rtx-pro-4000-20gb": 20480, "tesla-p40-24gb": 23040, "jetson-thor-128gb": 125800}
MODEL = "Org/Model-7B-AWQ"


def node(name: str, sku: str = "rtx-3060-12gb", slices: int = 1, gpus: int = 1, **labels: str) -> Object:
    known = {MEMORY: str(MEMORIES[sku])} if sku in MEMORIES else {}
    return {"metadata": {"name": name, "labels": {SKU: sku, COUNT: str(gpus), CONFIG: f"{sku}-x{slices}-0123abcd", **known, **labels}}, "status": {}}


CPU_NODE: Object = {"metadata": {"name": "cpu", "labels": {}}, "status": {"allocatable": {"cpu": "4"}}}
NODES = [CPU_NODE, node("a")]


def role(nodes: list[Object] | None = None, **given: t.Any) -> RenderedRole:
    return RenderedRole("vllm", lambda settings: vllm_plan(settings, NODES if nodes is None else nodes), **{"vllm_model": MODEL, **given})


def pod(**given: t.Any) -> Object:
    return t.cast("Object", role(**given).objects()["Deployment vllm"]["spec"]["template"]["spec"])


def words(**given: t.Any) -> str:
    return " ".join(role(**given).plan["arguments"])


def test_objects_fit_together() -> None:
    objects = role(vllm_namespace="other").objects()
    assert sorted(objects) == ["ConfigMap vllm-probe", "Deployment vllm", "Namespace other", "Service vllm", "Service vllm-api"]
    deployment = objects["Deployment vllm"]
    template = deployment["spec"]["template"]
    for service in ("vllm", "vllm-api"):
        spec = objects[f"Service {service}"]["spec"]
        assert spec["selector"] == {"app": "vllm-server"} == deployment["spec"]["selector"]["matchLabels"]
        assert spec["ports"][0]["port"] == 8000
        assert spec["selector"].items() <= template["metadata"]["labels"].items()
    assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "homelab-gpu"
    assert template["metadata"]["annotations"]["prometheus.io/port"] == "8000"
    (container,) = template["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in template["spec"]["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert template["spec"]["runtimeClassName"] == "nvidia"
    assert template["spec"]["enableServiceLinks"] is False
    assert "answers.py" in objects["ConfigMap vllm-probe"]["data"]
    assert container["readinessProbe"]["exec"]["command"] == ["python3", "/probe/answers.py", "8000", MODEL, "3"]


def test_requests_in_flight_have_their_time() -> None:
    spec = pod(vllm_pre_stop_seconds=4, vllm_shutdown_timeout_seconds=30)
    assert spec["terminationGracePeriodSeconds"] >= 4 + 30 + 5
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 4}}}
    assert words(vllm_shutdown_timeout_seconds=30).endswith("--shutdown-timeout 30")
    assert "lifecycle" not in pod(vllm_pre_stop_seconds=0)["containers"][0]


def test_arguments() -> None:
    assert words() == f"serve {MODEL} --served-model-name {MODEL} --port 8000 --gpu-memory-utilization 0.9 --dtype auto --shutdown-timeout 20"
    given = words(
        vllm_served_names=["a", "b/c"],
        vllm_port=9000,
        vllm_max_model_len=4096,
        vllm_quantization="awq_marlin",
        vllm_max_num_seqs=8,
        vllm_enforce_eager=True,
        vllm_extra_args=["--kv-cache-dtype", "fp8"],
    )
    assert "--served-model-name a b/c --port 9000 --max-model-len 4096" in given
    assert "--quantization awq_marlin" in given
    assert given.endswith("--max-num-seqs 8 --enforce-eager --shutdown-timeout 20 --kv-cache-dtype fp8")


def test_numbers_from_a_command_line() -> None:
    assert "--port 9000 --gpu-memory-utilization 0.5" in words(vllm_port="9000", vllm_gpu_memory_utilization="0.5", vllm_gpus="1")


@pytest.mark.parametrize(
    ("nodes", "fraction"),
    [
        ([node("a")], 0.9),
        ([node("a", "rtx-pro-4000-20gb", 2)], 0.45),
        ([node("a"), node("b", "rtx-pro-4000-20gb", 2)], 0.45),
        ([node("a", "jetson-thor-128gb", 4)], 0.2),
        ([node("a", "unknown")], 0.9),
    ],
)
def test_fraction_is_that_of_the_smallest_slice(nodes: list[Object], fraction: float) -> None:
    assert role(nodes, vllm_weights_gib=1).plan["gpu_memory_utilization"] == fraction


def test_slices_without_a_label_are_counted() -> None:
    found = node("a", "rtx-pro-4000-20gb")
    del found["metadata"]["labels"][CONFIG]
    found["status"] = {"allocatable": {"nvidia.com/gpu": "2", "nvidia.com/gpu.shared": "0"}}
    assert role([found]).plan["gpu_memory_utilization"] == 0.45


@pytest.mark.parametrize(
    ("nodes", "given", "strategy"),
    [
        ([node("a")], {}, "Recreate"),
        ([node("a", "rtx-pro-4000-20gb", 2)], {}, "RollingUpdate"),
        ([node("a", "rtx-pro-4000-20gb", 2)], {"vllm_replicas": 2}, "Recreate"),
        ([node("a"), node("b")], {}, "RollingUpdate"),
        ([node("a"), node("b")], {"vllm_strategy": "Recreate"}, "Recreate"),
        ([node("a"), node("b", "tesla-p40-24gb", 4)], {}, "Recreate"),
        ([CPU_NODE], {"vllm_gpus": 0}, "RollingUpdate"),
    ],
)
def test_a_new_pod_comes_first_only_if_there_is_a_slice_for_it(nodes: list[Object], given: Object, strategy: str) -> None:
    made = role(nodes, **{"vllm_weights_gib": 1, **given}).objects()["Deployment vllm"]["spec"]["strategy"]
    assert made == {"type": strategy, **({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}} if strategy == "RollingUpdate" else {})}


def test_pods_stay_away_from_gpus_that_vllm_does_not_run_on() -> None:
    mine = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "x", "operator": "Exists"}]}]}}
    }
    made = role([node("a"), node("p", "tesla-p40-24gb", 4)], vllm_affinity=mine)
    (term,) = made.plan["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "x", "operator": "Exists"}, {"key": SKU, "operator": "NotIn", "values": ["tesla-p40-24gb"]}]
    assert any("stays away from tesla-p40-24gb" in message for message in made.plan["messages"])


def test_on_the_cpu_no_gpu_is_asked_for() -> None:
    spec = pod(nodes=[CPU_NODE], vllm_gpus=0)
    environment = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
    assert (environment["NVIDIA_VISIBLE_DEVICES"], environment["CUDA_VISIBLE_DEVICES"]) == ("void", "-1")
    assert "runtimeClassName" not in spec
    assert "nvidia.com/gpu" not in str(spec["containers"][0]["resources"])
    assert "--gpu-memory-utilization" not in spec["containers"][0]["args"]


@pytest.mark.parametrize(
    ("given", "offline"),
    [
        ({}, False),
        ({"vllm_model": "/models/m", "vllm_model_source": {"host_path": "/srv/m"}}, True),
        ({"vllm_offline": True, "vllm_cache": {"claim": "cache"}}, True),
        ({"vllm_model": "/models/m", "vllm_model_source": {"image": "reg.example/m:1"}, "vllm_offline": False}, False),
    ],
)
def test_nothing_is_downloaded_where_the_model_is_given(given: Object, offline: bool) -> None:
    names = {entry["name"] for entry in pod(**given)["containers"][0]["env"]}
    assert ({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} <= names) == offline


def test_volumes() -> None:
    spec = pod(vllm_model="/models/m", vllm_model_source={"claim": "m"}, vllm_cache={"host_path": "/srv/cache"}, vllm_shm_gib=0.5)
    volumes = {volume.pop("name"): volume for volume in spec["volumes"]}
    assert volumes["model"] == {"persistentVolumeClaim": {"claimName": "m", "readOnly": True}}
    assert volumes["cache"] == {"hostPath": {"path": "/srv/cache", "type": "DirectoryOrCreate"}}
    assert volumes["shm"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "512Mi"}}


def test_secrets_are_named_and_not_shown() -> None:
    made = role(vllm_api_key_secret={"name": "keys", "key": "vllm"})
    environment = {entry["name"]: entry for entry in made.objects()["Deployment vllm"]["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert environment["VLLM_API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "vllm"}}
    assert "--api-key" not in made.plan["arguments"]


def test_a_bigger_model_may_take_longer() -> None:
    def seconds(**given: t.Any) -> int:
        plan = role(**given).plan
        assert plan["timeout_seconds"] > plan["startup_failures"] * plan["startup_period_seconds"]
        return t.cast("int", plan["startup_failures"] * plan["startup_period_seconds"])

    assert seconds(vllm_weights_gib=1) < seconds(vllm_weights_gib=8)
    assert seconds(vllm_weights_gib=1, vllm_enforce_eager=True) < seconds(vllm_weights_gib=1)
    assert seconds(vllm_startup_timeout_seconds=300) == 300


def test_health_alone_if_wanted() -> None:
    assert pod(vllm_hung_restart_seconds=0)["containers"][0]["livenessProbe"]["httpGet"]["path"] == "/health"
    probe = pod(vllm_hung_restart_seconds=120)["containers"][0]["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120
    assert probe["timeoutSeconds"] < probe["periodSeconds"]


def test_lost_nodes_are_left_soon() -> None:
    tolerations = pod(vllm_tolerations=["gpu=true:NoSchedule"], vllm_node_lost_seconds=5)["tolerations"]
    assert {"key": "gpu", "operator": "Equal", "value": "true", "effect": "NoSchedule"} in tolerations
    assert {one["tolerationSeconds"] for one in tolerations if one["effect"] == "NoExecute"} == {5}


BAD: list[tuple[Object, str]] = [
    ({"vllm_name": "vLLM"}, "vllm_name is 'vLLM': write small letters"),
    ({"vllm_namespace": "my ns"}, "vllm_namespace is 'my ns'"),
    ({"vllm_image": "vllm/vllm-openai"}, "vllm_image is 'vllm/vllm-openai': give it a version's tag"),
    ({"vllm_image": "vllm/vllm-openai:latest"}, "so that a restart cannot bring another version"),
    ({"vllm_image": "docker.io/vllm/vllm-openai:v0.17.1"}, "since 0.18"),
    ({"vllm_model": ""}, "vllm_model is '': name a model"),
    ({"vllm_model": "--help"}, "vllm_model is '--help'"),
    ({"vllm_model_source": {"host_path": "/srv"}}, "so the model is a path below it"),
    ({"vllm_model": "/models/m", "vllm_model_source": {"hostPath": "/srv"}}, "give one of claim, host_path, image"),
    ({"vllm_model": "/models/m", "vllm_model_source": {"host_path": "srv"}}, "host_path has to be an absolute path"),
    ({"vllm_model": "/models/m", "vllm_model_source": {"host_path": "/srv/../etc"}}, "host_path has to be an absolute path"),
    ({"vllm_cache": {"image": "a/b:1"}}, "vllm_cache is {'image': 'a/b:1'}: give one of host_path, claim"),
    ({"vllm_offline": True}, "neither vllm_model is a path nor vllm_cache keeps"),
    ({"vllm_served_names": ["a", "a"]}, "a is there twice"),
    ({"vllm_served_names": ["a b"]}, "'a b' has to be made of letters"),
    ({"vllm_port": 0}, "vllm_port is 0: give a number from 1 to 65535"),
    ({"vllm_gpus": -1}, "vllm_gpus is -1: give a number from 0 to 16"),
    ({"vllm_replicas": "many"}, "vllm_replicas is 'many'"),
    ({"vllm_gpu_resource": "amd.com/gpu"}, "vllm_gpu_resource is 'amd.com/gpu'"),
    ({"vllm_gpu_memory_utilization": 1.2}, "vllm_gpu_memory_utilization is 1.2: give a number from 0.01 to 1"),
    ({"vllm_termination_grace_seconds": 10}, "+ 5 to end are 28: requests in flight would be cut"),
    ({"vllm_hung_restart_seconds": 5}, "give at least 15, or 0 for never"),
    ({"vllm_answer_deadline_seconds": 0}, "vllm_answer_deadline_seconds is 0"),
    ({"vllm_service_aliases": ["vllm"]}, "vllm is there twice, or is vllm_service_name"),
    ({"vllm_service_aliases": ["API"]}, "'API' is no name of a Service"),
    ({"vllm_extra_args": ["--port", "1"]}, "--port is given by the role; use vllm_port"),
    ({"vllm_extra_args": ["--api-key=secret"]}, "--api-key is given by the role; use vllm_api_key_secret"),
    ({"vllm_extra_args": [1]}, "1 is no text; put it in quotes"),
    ({"vllm_extra_env": {"HF_TOKEN": "x"}}, "HF_TOKEN is set by the role"),
    ({"vllm_extra_env": {"A-B": "x"}}, "'A-B' is no name of an environment variable"),
    ({"vllm_api_key_secret": {"value": "secret"}}, "vllm_api_key_secret: give name and key of a Secret"),
    ({"vllm_resources": {"limits": {"nvidia.com/gpu": 1}}}, "for which the role has an option of its own"),
    ({"vllm_resources": {"requests": {"memory": "lots"}}}, "requests.memory is 'lots'; write a quantity"),
    ({"vllm_resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}, "requests.cpu is 2, more than the limit 1"),
    ({"vllm_tolerations": ["gpu=true"]}, "vllm_tolerations"),
    ({"vllm_node_selector": {"a": True}}, "a is no text; put it in quotes"),
    ({"vllm_weights_gib": 12}, "12.0 GiB of rtx-3060-12gb on a × 0.9 = 10.8 GiB, and one vLLM needs 12.0 GiB of weights"),
    ({"nodes": [CPU_NODE]}, "none has the label homelab.gpu/sku. Run homelab.gpu.site"),
    ({"vllm_node_selector": {"gpu": "big"}}, "with the labels of vllm_node_selector"),
    (
        {"nodes": [node("p", "tesla-p40-24gb", 4)]},
        "compute capability is 6.1, and vLLM needs 7.0; serve models there by Ollama (role ollama with ollama_mode: gpu)",
    ),
    ({"nodes": [node("t", "jetson-thor-128gb", 4)], "vllm_gpu_memory_utilization": 0.9}, "give at most 0.8"),
    ({"nodes": [node("a", "rtx-pro-4000-20gb", 2, gpus=2)], "vllm_gpus": 2}, "set nvidia_device_plugin_sharing to none"),
]


@pytest.mark.parametrize(("given", "says"), BAD, ids=[says[:60] for _given, says in BAD])
def test_bad_input_is_refused(given: Object, says: str) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        role(**given)
    assert says in str(refused.value)
    assert "secret" not in str(refused.value).replace("_secret", "")


def test_all_that_is_wrong_is_told_at_once() -> None:
    settings = role().settings
    told = vllm_plan({**settings, "port": 0, "name": "A", "image": "x"}, NODES, tell_problems=True)["problem"]
    assert len(told.splitlines()) == 3
    assert vllm_plan(settings, NODES, tell_problems=True)["problem"] == ""


def test_what_nodes_cannot_run_is_told_apart_from_bad_input() -> None:
    """In check mode nodes have not got what the same run would give them."""
    settings = role().settings
    assert vllm_plan(settings, [], tell_problems=True)["of_nodes"]
    assert not vllm_plan({**settings, "port": 0}, [], tell_problems=True)["of_nodes"]


def test_number_of_pods_can_be_left_to_an_autoscaler() -> None:
    assert role().objects()["Deployment vllm"]["spec"]["replicas"] == 1
    assert "replicas" not in role(vllm_replicas=None).objects()["Deployment vllm"]["spec"]
