#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_credentials
short_description: Read token, kubeconfig and identity of the cluster on a K3s server
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Waits, for a bounded time, until the server has written its token and its administrator's kubeconfig and its API answers, then returns them.
  - The result holds secrets, so tasks need C(no_log=true).
attributes:
  check_mode:
    support: full
    description: The module only reads. In check mode it does not wait, and RV(available) is false where there is no server yet.
  diff_mode:
    support: none
    description: The module only reads.
options:
  data_dir:
    description: The server's data directory.
    type: path
    default: /var/lib/rancher/k3s
  kubeconfig:
    description: The administrator's kubeconfig on the server.
    type: path
    default: /etc/rancher/k3s/k3s.yaml
  timeout_seconds:
    description: How long to wait for files and API.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Read the credentials
  homelab.gpu.k3s_credentials:
  register: credentials
  no_log: true
"""

RETURN = r"""
available:
  description: Whether everything below is known.
  returned: always
  type: bool
server_token:
  description: Secure token with which servers join.
  returned: when available
  type: str
agent_token:
  description: Secure token with which agents join.
  returned: when available
  type: str
kubeconfig:
  description: Content of the kubeconfig.
  returned: when available
  type: str
cluster_uid:
  description: Uid of the namespace kube-system.
  returned: when available
  type: str
waited_seconds:
  description: How long the module waited.
  returned: always
  type: float
transitions:
  description: What was missing, and since when.
  returned: always
  type: list
  elements: dict
"""

import base64
import http.client
import json
import os
import re
import ssl
import tempfile
import time
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

_POLL_SECONDS = 0.25
_SECURE = re.compile(r"K10[0-9a-f]{64}::\S+")


class NotYet(Exception):
    """What is missing for the moment."""


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise NotYet(f"{path} is missing") from error


def token(*paths: str) -> str:
    """The first of the files that exists; what is not in secure form would let a joiner trust any cluster."""
    present = [path for path in paths if os.path.exists(path)]
    text = read((present or list(paths))[0]).strip()
    if not _SECURE.fullmatch(text):
        raise NotYet(f"{(present or list(paths))[0]} has no token in secure form")
    return text


def field(kubeconfig: str, key: str) -> str:
    # K3s writes this file itself, one entry of each kind; the host may have no YAML library.
    match = re.search(rf"^\s*(?:- )?{re.escape(key)}:\s*(\S+)\s*$", kubeconfig, re.MULTILINE)
    if match is None:
        raise NotYet(f"the kubeconfig has no {key}")
    return match.group(1).strip("\"'")


def cluster_uid(kubeconfig: str, directory: str, timeout: float) -> str:
    server = urlsplit(field(kubeconfig, "server"))
    context = ssl.create_default_context(cadata=base64.b64decode(field(kubeconfig, "certificate-authority-data")).decode("ascii"))
    pair = {}
    for key in ("client-certificate-data", "client-key-data"):
        # Made by mkstemp, so readable to root alone.
        descriptor, pair[key] = tempfile.mkstemp(dir=directory)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(base64.b64decode(field(kubeconfig, key)))
    try:
        context.load_cert_chain(pair["client-certificate-data"], pair["client-key-data"])
    finally:
        for path in pair.values():
            os.unlink(path)
    connection = http.client.HTTPSConnection(server.hostname or "127.0.0.1", server.port or 6443, timeout=timeout, context=context)
    try:
        connection.request("GET", "/api/v1/namespaces/kube-system")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotYet(f"the API does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise NotYet(f"the API answers {answer.status} for the namespace kube-system")
    uid = json.loads(body)["metadata"]["uid"]
    return str(uid)


def attempt(data_dir: str, kubeconfig_path: str, directory: str) -> dict[str, Any]:
    server = os.path.join(data_dir, "server")
    kubeconfig = read(kubeconfig_path)
    return {
        "available": True,
        "server_token": token(os.path.join(server, "token")),
        "agent_token": token(os.path.join(server, "agent-token"), os.path.join(server, "node-token"), os.path.join(server, "token")),
        "kubeconfig": kubeconfig,
        "cluster_uid": cluster_uid(kubeconfig, directory, timeout=5.0),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
            "kubeconfig": {"type": "path", "default": "/etc/rancher/k3s/k3s.yaml"},
            "timeout_seconds": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    begin = time.monotonic()
    transitions: list[dict[str, Any]] = []
    while True:
        waited = round(time.monotonic() - begin, 2)
        reason = ""
        try:
            found = attempt(module.params["data_dir"], module.params["kubeconfig"], module.tmpdir)
        except (NotYet, ValueError, KeyError, ssl.SSLError) as error:
            reason = str(error)
        else:
            module.exit_json(changed=False, waited_seconds=waited, transitions=transitions, **found)
        if not transitions or transitions[-1]["what"] != reason:
            transitions.append({"at_seconds": waited, "what": reason})
        if module.check_mode:
            module.exit_json(changed=False, available=False, waited_seconds=waited, transitions=transitions)
        if waited >= module.params["timeout_seconds"]:
            module.fail_json(
                msg=f"This K3s server gave no credentials within {module.params['timeout_seconds']} s: {reason}. See journalctl -u k3s.service.",
                available=False,
                waited_seconds=waited,
                transitions=transitions,
            )
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
