# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the role ollama: what they become, and which are refused. The role's own defaults, variables and template are used."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.ollama_plan import ollama_plan
from ansible_collections.homelab.gpu.tests.unit.rendered_role import Object, RenderedRole

GPU_NODE: Object = {"metadata": {"name": "g", "labels": {"homelab.gpu/sku": "tesla-p40-24gb"}}}
CPU_NODE: Object = {"metadata": {"name": "c", "labels": {}}}
SHUT = {"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": "-1", "OLLAMA_VULKAN": "0", "GGML_VK_VISIBLE_DEVICES": "-1"}
IMPORT = {"host_path": "/srv/models"}


def role(nodes: list[Object] | None = None, **given: t.Any) -> RenderedRole:
    found = [CPU_NODE, GPU_NODE] if nodes is None else nodes
    return RenderedRole("ollama", lambda settings: ollama_plan(settings, found), **{"ollama_models": [{"name": "llama3.2:1b"}], **given})


def pod(**given: t.Any) -> Object:
    return t.cast("Object", role(**given).objects()["Deployment ollama"]["spec"]["template"]["spec"])


def environment(container: Object) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_objects_fit_together() -> None:
    objects = role(ollama_namespace="other").objects()
    assert sorted(objects) == ["ConfigMap ollama-scripts", "Deployment ollama", "Namespace other", "PersistentVolumeClaim ollama-models", "Service ollama"]
    deployment = objects["Deployment ollama"]
    template = deployment["spec"]["template"]
    service = objects["Service ollama"]["spec"]
    assert service["selector"] == {"app": "ollama"} == deployment["spec"]["selector"]["matchLabels"]
    assert service["ports"][0]["port"] == 11434
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "ollama"
    for container in (*template["spec"]["initContainers"], *template["spec"]["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in template["spec"]["volumes"]}
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert environment(container)["OLLAMA_NO_CLOUD"] == "1"
    assert set(objects["ConfigMap ollama-scripts"]["data"]) == {"models.sh", "warm.sh", "ready.sh", "models.txt", "warm.txt"}


def test_ollama_of_an_office() -> None:
    """As system S2 has it."""
    objects = role().objects()
    spec = objects["Deployment ollama"]["spec"]
    assert spec["strategy"] == {"type": "Recreate"}
    (container,) = spec["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}}
    assert objects["PersistentVolumeClaim ollama-models"]["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}}
    security = spec["template"]["spec"]["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"], security["runAsNonRoot"]) == (1000, 1000, 1000, True)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    # Nobody but root may go through /root, unless something else is there
    assert (mounts["data"], mounts["home"]) == ("/root/.ollama", "/root")
    assert environment(container)["HOME"] == "/root"
    assert environment(container)["OLLAMA_MODELS"] == "/root/.ollama/models"


def test_cpu_mode_shuts_each_way_to_a_gpu() -> None:
    spec = pod()
    for container in (*spec["initContainers"], *spec["containers"]):
        assert SHUT.items() <= environment(container).items()
        assert "gpu" not in str(container["resources"])
    assert "runtimeClassName" not in spec


def test_gpu_mode_asks_for_one_where_the_server_runs() -> None:
    spec = pod(ollama_mode="gpu", ollama_gpu_resource="nvidia.com/gpu.shared")
    (container,), (first,) = spec["containers"], spec["initContainers"]
    assert spec["runtimeClassName"] == "nvidia"
    assert not set(SHUT) & set(environment(container))
    assert container["resources"]["limits"]["nvidia.com/gpu.shared"] == "1"
    # NVIDIA's runtime would show it all GPUs
    assert SHUT.items() <= environment(first).items()
    assert "gpu" not in str(first["resources"])


def test_models_come_from_where_they_are() -> None:
    models = [
        "llama3.2:1b",
        {"name": "tiny", "gguf": "files/tiny.gguf"},
        {"name": "stored", "store": True},
        {"name": "org/Model", "copy_of": "tiny"},
        {"name": "hf.co/a/b:q4", "pull": True, "warm": False},
        {"name": "kept", "copy_of": "org/Model:latest", "warm": True},
    ]
    made = role(ollama_models=models, ollama_import=IMPORT)
    files = made.objects()["ConfigMap ollama-scripts"]["data"]
    assert [line.split() for line in files["models.txt"].splitlines()] == [
        ["pull", "llama3.2:1b", "registry.ollama.ai/library/llama3.2/1b"],
        ["gguf", "tiny:latest", "registry.ollama.ai/library/tiny/latest", "files/tiny.gguf"],
        ["store", "stored:latest", "registry.ollama.ai/library/stored/latest", "."],
        ["copy_of", "org/Model:latest", "registry.ollama.ai/org/Model/latest", "tiny"],
        ["pull", "hf.co/a/b:q4", "hf.co/a/b/q4"],
        ["copy_of", "kept:latest", "registry.ollama.ai/library/kept/latest", "org/Model:latest"],
    ]
    assert files["warm.txt"].split() == ["llama3.2:1b", "tiny:latest", "stored:latest", "kept:latest"]
    assert made.plan["environment"]["OLLAMA_MAX_LOADED_MODELS"] == "4"


def test_other_models_start_pods_anew() -> None:
    def noted(*models: str) -> str:
        template = role(ollama_models=[{"name": name} for name in models]).objects()["Deployment ollama"]["spec"]["template"]
        return t.cast("str", template["metadata"]["annotations"]["homelab.gpu/files"])

    assert noted("a") == noted("a")
    assert noted("a") != noted("a", "b")


@pytest.mark.parametrize(
    ("storage", "volume"),
    [
        ({"claim": "models"}, {"persistentVolumeClaim": {"claimName": "models"}}),
        ({"host_path": "/srv/ollama"}, {"hostPath": {"path": "/srv/ollama", "type": "DirectoryOrCreate"}}),
        ({"empty_dir": True}, {"emptyDir": {}}),
    ],
)
def test_storage_that_is_not_the_roles(storage: Object, volume: Object) -> None:
    made = role(ollama_storage=storage)
    assert not any(key.startswith("PersistentVolumeClaim") for key in made.objects())
    assert {"name": "data", **volume} in made.objects()["Deployment ollama"]["spec"]["template"]["spec"]["volumes"]


def test_claim() -> None:
    claim = role(ollama_storage={"size_gib": 1.5, "storage_class": "nfs", "access_mode": "ReadWriteMany"}).plan["claim"]
    assert claim["spec"] == {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1536Mi"}}, "storageClassName": "nfs"}


def test_root_needs_no_other_home() -> None:
    spec = pod(ollama_run_as_user=0, ollama_run_as_group=0)
    assert spec["securityContext"]["runAsNonRoot"] is False
    assert not [volume for volume in spec["volumes"] if volume["name"] == "home"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ollama_replicas": 2}, "all 2 pods have to be on one node"),
        ({"ollama_models": [{"name": "a", "warm": False}]}, "No model is kept warm"),
    ],
)
def test_what_is_worth_knowing(given: Object, says: str) -> None:
    assert says in " ".join(role(**given).plan["messages"])


BAD: list[tuple[Object, str]] = [
    ({"ollama_mode": "cuda"}, "ollama_mode is 'cuda': it has to be one of cpu, gpu"),
    ({"ollama_mode": "gpu", "nodes": [CPU_NODE]}, "no node of the cluster has the label homelab.gpu/sku"),
    ({"ollama_mode": "gpu", "ollama_node_selector": {"a": "b"}}, "with the labels of ollama_node_selector"),
    ({"ollama_mode": "gpu", "ollama_gpus": 0}, "ollama_gpus is 0: give a number from 1 to 16"),
    ({"ollama_runtime_class": "nvidia"}, "in mode cpu no runtime may bring a GPU"),
    ({"ollama_extra_env": {"CUDA_VISIBLE_DEVICES": "0"}}, "CUDA_VISIBLE_DEVICES is set by the role"),
    ({"ollama_extra_env": {"OLLAMA_VULKAN": "1"}}, "OLLAMA_VULKAN is set by the role"),
    ({"ollama_image": "ollama/ollama"}, "ollama_image is 'ollama/ollama': give it a version's tag"),
    ({"ollama_image": "not an image"}, "name an image as registry/repository:tag"),
    ({"ollama_models": []}, "ollama_models is []: list at least one"),
    ({"ollama_models": [{"gguf": "a.gguf"}]}, "ollama_models[0] is {'gguf': 'a.gguf'}: it has to have a name"),
    ({"ollama_models": [{"name": "a b"}]}, "ollama_models[0].name is 'a b'"),
    ({"ollama_models": [{"name": "a", "file": "a.gguf"}]}, "ollama_models[0] has the unknown key file"),
    ({"ollama_models": [{"name": "a", "gguf": "a.gguf", "store": "s"}], "ollama_import": IMPORT}, "has gguf and store; one of them"),
    ({"ollama_models": [{"name": "a", "warm": "yes"}]}, "ollama_models[0].warm is 'yes'"),
    ({"ollama_models": [{"name": "a"}, {"name": "a:latest"}]}, "ollama_models[1].name is a:latest, which an entry before it has too"),
    ({"ollama_models": [{"name": "b", "copy_of": "a"}, {"name": "a"}]}, "copy_of is 'a', which no entry before it has"),
    ({"ollama_models": [{"name": "a", "gguf": "/abs.gguf"}], "ollama_import": IMPORT}, "give a path below that of ollama_import"),
    ({"ollama_models": [{"name": "a", "store": "../x"}], "ollama_import": IMPORT}, "give a path below that of ollama_import"),
    ({"ollama_models": [{"name": "a", "gguf": "a.bin"}], "ollama_import": IMPORT}, "has to be a file that ends in .gguf"),
    ({"ollama_models": [{"name": "a", "gguf": "a.gguf"}]}, "ollama_import: models are to be imported, and nothing says from where"),
    ({"ollama_import": {"path": "/srv"}}, "ollama_import is {'path': '/srv'}: give one of claim, host_path, image"),
    ({"ollama_storage": {}}, "give one of size_gib"),
    ({"ollama_storage": {"size_gib": 5, "claim": "x"}}, "give one of size_gib"),
    ({"ollama_storage": {"size_gib": -1}}, "size_gib is -1; give a number of GiB"),
    ({"ollama_storage": {"size_gib": 5, "access_mode": "RWO"}}, "access_mode is 'RWO'; it has to be one of"),
    ({"ollama_storage": {"host_path": "models"}}, "host_path has to be an absolute path"),
    ({"ollama_strategy": "RollingUpdate"}, "would wait for the old one's volume"),
    ({"ollama_keep_alive": "5m"}, "models are kept warm (llama3.2:1b), and this would unload them"),
    ({"ollama_keep_alive": "for ever"}, "write -1 for ever, or a time such as 30m"),
    ({"ollama_models": ["a", "b"], "ollama_max_loaded_models": 1}, "2 models are kept warm (a:latest, b:latest); raise it"),
    ({"ollama_data_path": "models"}, "ollama_data_path is 'models': give an absolute path"),
    ({"ollama_data_path": "/.ollama"}, "take /root/.ollama"),
    ({"ollama_termination_grace_seconds": 10}, "ollama_pre_stop_seconds, 10, is part of it"),
    ({"ollama_port": 70000}, "ollama_port is 70000"),
    ({"ollama_resources": {"limits": {"nvidia.com/gpu": 1}}}, "has an option of its own"),
    ({"ollama_context_length": 1}, "ollama_context_length is 1: give a number of at least 16, or leave it out"),
]


@pytest.mark.parametrize(("given", "says"), BAD, ids=[says[:60] for _given, says in BAD])
def test_bad_input_is_refused(given: Object, says: str) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        role(**given)
    assert says in str(refused.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    settings = role().settings
    told = ollama_plan({**settings, "port": 0, "name": "A", "keep_alive": "x"}, [CPU_NODE], tell_problems=True)["problem"]
    assert len(told.splitlines()) == 3
    assert ollama_plan(settings, [CPU_NODE], tell_problems=True)["problem"] == ""


def test_number_of_pods_can_be_left_to_an_autoscaler() -> None:
    assert role().objects()["Deployment ollama"]["spec"]["replicas"] == 1
    assert "replicas" not in role(ollama_replicas=None).objects()["Deployment ollama"]["spec"]
