# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

HERE = Path(__file__).resolve().parent


@pytest.fixture
def templates() -> jinja2.Environment:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE / "templates"), trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["split"] = lambda text, separator: text.split(separator)
    environment.filters["realpath"] = os.path.realpath
    return environment


def node(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": "v1.34.1", "containerRuntimeVersion": "containerd://2"}}}


def answer(name: str, text: str) -> dict[str, Any]:
    timings = {"predicted_n": 3, "predicted_per_second": 7000.4, "prompt_ms": 1.0, "predicted_ms": 2.0}
    return {"item": [node(name), "Who?"], "json": {"choices": [{"message": {"content": text}}], "timings": timings}}


def test_summary_is_a_box_that_tells_who_forwarded(templates: jinja2.Environment) -> None:
    text = templates.get_template("summary.txt.j2").render(
        demo_answers={"results": [answer("one", "word " * 60), answer("two", "pong")]},
        demo_pod={"metadata": {"name": "model-server-x"}, "spec": {"nodeName": "two"}},
        demo_nodes=[node("one"), node("two")],
        demo_address_of={"one": "192.0.2.1", "two": "192.0.2.2"},
        demo_namespace="demo",
        demo_node_port=30080,
        inventory_hostname="one",
        k3s_kubeconfig="/k",
    )
    box, _, below = text.partition("╯\n")
    assert {len(line) for line in (box + "╯").splitlines()} == {100}
    assert "by one (which forwards)" in box
    assert "by two (the pod's own node)" in box
    assert "3 tokens, 7000 tokens/s, 3.0 ms" in box
    assert "│   pong " in box
    assert "http://192.0.2.1:30080/" in below
    assert "make demo-down" in below


def test_manifests_fit_together(templates: jinja2.Environment) -> None:
    rendered = templates.get_template("model-server.yml.j2").render(demo_namespace="other", demo_node_port=30081, demo_image="localhost/m:1")
    namespace, deployment, service = yaml.safe_load_all(rendered)
    assert namespace["metadata"]["name"] == deployment["metadata"]["namespace"] == service["metadata"]["namespace"] == "other"
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= service["spec"]["selector"].items()
    assert pod["metadata"]["labels"].items() >= deployment["spec"]["selector"]["matchLabels"].items()
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "localhost/m:1"
    (port,) = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert str(port["containerPort"]) == container["args"][container["args"].index("--port") + 1]
    assert service["spec"]["ports"][0]["nodePort"] == 30081
