#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_exec
short_description: Run a command in a container of a pod
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Runs a command in a running container and returns its output and its exit code, as M(ansible.builtin.command) does on hosts.
  - There is no shell in between. Where one is wanted, it is the command, as V([sh, -c, 'echo $HOME']).
  - An exit code other than 0 is a failure. So is a connection that ends before the exit code has come, and so is a command that has not
    ended after O(timeout_seconds); it may then still run, for Kubernetes has no means to end it.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
attributes:
  check_mode:
    support: partial
    details:
      - The command is not run, and the API server is not asked. The task counts as skipped.
  diff_mode:
    support: none
  idempotent:
    support: N/A
    details:
      - What a command does, only its author knows. A command that was run counts as a change; use C(changed_when) to say otherwise.
options:
  pod:
    description:
      - Name of the pod.
    type: str
    required: true
  namespace:
    description:
      - Namespace of the pod.
    type: str
    default: default
  container:
    description:
      - Name of the container. It has to be running.
      - Without it, the one that the pod's annotation C(kubectl.kubernetes.io/default-container) names, or the only one.
    type: str
  command:
    description:
      - The program and its arguments, one element each.
      - It becomes part of a URL, which API servers and proxies may write to their logs. Secrets belong in O(stdin).
    type: list
    elements: str
    required: true
  stdin:
    description:
      - What the command reads from its standard input, which ends after that. Without it, the command has no standard input.
      - It is not shown among the options of the task, but what the command prints is; use C(no_log) on tasks that print secrets.
      - Needs Kubernetes 1.30 or later. An older API server could not tell the command that its input has ended, so nothing is run.
      - A command that ends before it has read all of a large input may never be told to have ended, and O(timeout_seconds) passes. That is
        so with C(kubectl exec), too. Let such a command read the rest, for example by C(cat >/dev/null).
    type: str
  stdin_add_newline:
    description:
      - Whether O(stdin) is given a line break at its end.
    type: bool
    default: true
  strip_empty_ends:
    description:
      - Whether line breaks at the end of RV(stdout) and RV(stderr) are taken away.
    type: bool
    default: true
  timeout_seconds:
    description:
      - How long the command may take, the time to reach the container included.
    type: int
    default: 120
  limit_bytes:
    description:
      - How many bytes of the standard output, and of the standard error, are kept. RV(truncated) says whether there was more, which is read
        and thrown away.
    type: int
    default: 1048576
requirements:
  - websocket-client (Python package) >= 1.6, which the package kubernetes brings along
notes:
  - Needs the right to get pods, and to get and create C(pods/exec).
  - A request that was begun is never repeated, so that a command runs once at most.
seealso:
  - module: homelab.gpu.kube_wait
    description: Waits until a container runs.
  - module: ansible.builtin.command
"""

EXAMPLES = r"""
- name: Ask the model server what it serves
  homelab.gpu.kube_exec:
    kubeconfig: ~/.kube/lab
    namespace: models
    pod: model-server-0
    container: server
    command: [wget, -q, -O, '-', 'http://127.0.0.1:8080/v1/models']
  delegate_to: localhost
  changed_when: false
  register: served

- name: Write a file
  homelab.gpu.kube_exec:
    kubeconfig: ~/.kube/lab
    namespace: models
    pod: model-server-0
    container: server
    command: [sh, -c, 'umask 077 && cat > /tmp/token']
    stdin: secret
    timeout_seconds: 30
  delegate_to: localhost
"""

RETURN = r"""
cmd:
  description: The command.
  type: list
  elements: str
  returned: always
  sample: [hostname]
container:
  description: The container in which it was run.
  type: str
  returned: when the command was run
  sample: server
rc:
  description: The command's exit code.
  type: int
  returned: when the command has ended
  sample: 0
stdout:
  description: The command's standard output. Bytes that are not UTF-8 are replaced.
  type: str
  returned: when the command was run
stdout_lines:
  description: RV(stdout) by lines.
  type: list
  elements: str
  returned: when the command was run
stderr:
  description: The command's standard error.
  type: str
  returned: when the command was run
stderr_lines:
  description: RV(stderr) by lines.
  type: list
  elements: str
  returned: when the command was run
truncated:
  description: Whether some output was left out because of O(limit_bytes).
  type: bool
  returned: when the command was run
waited_seconds:
  description: How long it took.
  type: float
  returned: when the command was run
  sample: 0.412
timed_out:
  description: That the command had not ended after O(timeout_seconds).
  type: bool
  returned: when O(timeout_seconds) have passed
skipped:
  description: That the command was not run.
  type: bool
  returned: in check mode
status:
  description: HTTP status of the API server's answer.
  type: int
  returned: when the API server refused a request
reason:
  description: The reason that the API server gave.
  type: str
  returned: when the API server refused a request, or the command could not be run
causes:
  description: Details that the API server gave.
  type: list
  elements: dict
  returned: when the API server refused a request
"""

import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, ClusterModule
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError, KubeError, Unreachable, WaitFailed
from ansible_collections.homelab.gpu.plugins.module_utils._exec import Command, CommandFailed, check_command, execute, running_container


def check(params: dict[str, t.Any]) -> None:
    for option in ("pod", "namespace", "container"):
        if params[option] == "":
            raise InputError(f"{option} is empty; give the name of the {option}" + (", or leave it out" if option == "container" else ""))
    check_command(params["command"])
    for option in ("timeout_seconds", "limit_bytes"):
        if params[option] < 1:
            raise InputError(f"{option} is {params[option]}; it cannot be less than 1")


def stdin_of(params: dict[str, t.Any]) -> bytes | None:
    if params["stdin"] is None:
        return None
    return str(params["stdin"] + ("\n" if params["stdin_add_newline"] else "")).encode()


def shown(output: dict[str, t.Any], strip: bool) -> dict[str, t.Any]:
    """With the lines that users of Ansible expect beside the output."""
    for name in ("stdout", "stderr"):
        if name in output:
            output[name] = output[name].rstrip("\r\n") if strip else output[name]
            output[f"{name}_lines"] = output[name].splitlines()
    return output


def run(call: Call) -> None:
    params, result = call.params, call.result
    if params["stdin"] is not None:
        call.shown_params = {**params, "stdin": "(not shown)"}
    result["cmd"] = params["command"]
    check(params)
    if call.check_mode:
        result.update(skipped=True, msg="Command would have run if not in check mode")
        return
    client = call.cluster()
    result["container"] = running_container(client, params["namespace"], params["pod"], params["container"])
    command = Command(params["command"], params["namespace"], params["pod"], result["container"], stdin_of(params))
    start = time.monotonic()
    try:
        done = execute(client, command, timeout_seconds=params["timeout_seconds"], limit_bytes=params["limit_bytes"])
    except KubeError as error:
        # What was asked for and not plainly refused may have been begun
        result["changed"] = isinstance(error, (CommandFailed, Unreachable, WaitFailed))
        shown(error.data, params["strip_empty_ends"])
        raise
    finally:
        result["waited_seconds"] = round(time.monotonic() - start, 3)
    result.update(changed=True, rc=done.rc, **shown(done.output, params["strip_empty_ends"]))
    if done.rc:
        raise KubeError(f"{command} ended with exit code {done.rc}{last_words(result)}")


def last_words(result: dict[str, t.Any]) -> str:
    lines = (result["stderr"] or result["stdout"]).strip().splitlines()
    return f": {lines[-1][:500]}" if lines else ""


MODULE = ClusterModule(
    run,
    {
        "pod": {"type": "str", "required": True},
        "namespace": {"type": "str", "default": "default"},
        "container": {"type": "str"},
        "command": {"type": "list", "elements": "str", "required": True},
        "stdin": {"type": "str"},
        "stdin_add_newline": {"type": "bool", "default": True},
        "strip_empty_ends": {"type": "bool", "default": True},
        "timeout_seconds": {"type": "int", "default": 120},
        "limit_bytes": {"type": "int", "default": 1048576},
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
