#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_runtime_info
short_description: Tell which NVIDIA container runtime K3s' containerd has, and whether it is the right one
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - K3s looks for C(nvidia-container-runtime) only when it starts, in C(/usr/local/nvidia/toolkit) and then in its C(PATH), and writes containerd's
    configuration with what it found. A runtime that was installed later is not used, and one that lies in a folder before wins.
extends_documentation_fragment:
  - homelab.gpu._attributes
  - homelab.gpu._attributes.info
options:
  runtime:
    description:
      - The program that should be used.
    type: path
    default: /usr/bin/nvidia-container-runtime
  data_dir:
    description:
      - K3s' data directory.
    type: path
    default: /var/lib/rancher/k3s
"""

EXAMPLES = r"""
- name: Ask which runtime containerd has
  homelab.gpu.k3s_runtime_info:
  register: runtime

- name: Say what is wrong
  ansible.builtin.debug:
    msg: "{{ runtime.reason }}"
  when: runtime.state != 'registered'
"""

RETURN = r"""
state:
  description:
    - V(registered), V(not_installed) (the program is not on the host), V(foreign) (K3s would take another program), V(stopped) (K3s does not run),
      V(not_registered), or V(outdated) (containerd has another program).
  returned: always
  type: str
reason:
  description: What tells that, and what to do about it.
  returned: always
  type: str
restart_needed:
  description: Whether a restart of K3s would register the right program.
  returned: always
  type: bool
unit:
  description: The unit of K3s that runs, or an empty string.
  returned: always
  type: str
runtimes:
  description: Programs by the name of the runtime, as containerd's configuration has them.
  returned: always
  type: dict
found:
  description: The program that K3s would take if it started now, or an empty string.
  returned: always
  type: str
templates:
  description: Templates of containerd's configuration that take the place of K3s' own.
  returned: always
  type: list
  elements: str
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import read
from ansible_collections.homelab.gpu.plugins.module_utils._k3s_runtimes import NVIDIA, look_up, registered, templates, verdict
from ansible_collections.homelab.gpu.plugins.module_utils._service import PROPERTIES, parse_environ, parse_show

_UNITS = ("k3s.service", "k3s-agent.service")
# That of services, where none runs that could tell its own
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ROOT = "/"


def running_unit(run: t.Callable[[list[str]], tuple[int, str, str]]) -> tuple[str, int]:
    """The unit of K3s that runs, with its process."""
    for unit in _UNITS:
        _code, output, _error = run(["systemctl", "show", "--property", ",".join(PROPERTIES), "--", unit])
        state = parse_show(output)
        if state.running and state.pid:
            return unit, state.pid
    return "", 0


def facts(runtime: str, data_dir: str, unit: str, pid: int, root: str) -> dict[str, t.Any]:
    def at(path: str) -> str:
        return os.path.join(root, path.lstrip("/"))

    folder = f"{data_dir}/agent/etc/containerd"
    path = _PATH
    if pid:
        try:
            with open(at(f"/proc/{pid}/environ"), "rb") as stream:
                path = parse_environ(stream.read()).get("PATH", _PATH)
        except OSError:
            # It ended a moment ago
            unit = ""

    def executable(file: str) -> bool:
        return os.path.isfile(at(file)) and os.access(at(file), os.X_OK)

    def named(file: str) -> str:
        """By the wanted name if it is that program: folders can be links to one another."""
        return runtime if file and os.path.realpath(at(file)) == os.path.realpath(at(runtime)) else file

    found = named(look_up(NVIDIA["nvidia"], path, executable))
    runtimes = {name: named(file) for name, file in registered(read(root, f"{folder}/config.toml".lstrip("/"))).items()}
    template = templates(folder, lambda file: os.path.exists(at(file)))
    judged = verdict(expected=runtime, installed=executable(runtime), found=found, running=bool(unit), runtimes=runtimes, template=template)
    return {**vars(judged), "unit": unit, "runtimes": runtimes, "found": found, "templates": template}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "runtime": {"type": "path", "default": "/usr/bin/nvidia-container-runtime"},
            "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
        },
        supports_check_mode=True,
    )
    for option in ("runtime", "data_dir"):
        if not os.path.isabs(module.params[option]):
            module.fail_json(msg=f"{option} is {module.params[option]!r}; it has to be an absolute path")
    unit, pid = running_unit(module.run_command)
    module.exit_json(changed=False, **facts(module.params["runtime"], module.params["data_dir"], unit, pid, _ROOT))


if __name__ == "__main__":
    main()
