#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_cdi_spec
short_description: Have the host's CDI specification name the GPUs that are there
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - The service that makes the specification, C(nvidia-cdi-refresh), runs when the driver is loaded or the toolkit is changed, but not when a GPU comes to a
    driver that is loaded already. This module runs it if the specification does not name the given GPUs, or names others.
extends_documentation_fragment:
  - homelab.gpu._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  uuids:
    description:
      - The GPUs, as RV(homelab.gpu.gpu_info#module:gpus[].uuid) tells them; an empty one is left out. Without any, nothing is done, for no specification can be
        made.
    type: list
    elements: str
    required: true
  service:
    description:
      - The service that makes the specification.
    type: str
    default: nvidia-cdi-refresh.service
  timeout_seconds:
    description:
      - How long the service may take.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Look for GPUs
  homelab.gpu.gpu_info:
  register: gpu

- name: Let containers find those that answer
  homelab.gpu.nvidia_cdi_spec:
    uuids: "{{ gpu.gpus | selectattr('state', 'eq', 'ready') | map(attribute='uuid') }}"
"""

RETURN = r"""
before:
  description: UUIDs that the specification named.
  returned: always
  type: list
  elements: str
"""

import subprocess
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

_KIND = "nvidia.com/gpu="


def named(output: str) -> list[str]:
    """UUIDs in what C(nvidia-ctk cdi list) printed; devices have an index as well."""
    names = [line.strip().removeprefix(_KIND) for line in output.splitlines() if line.strip().startswith(_KIND)]
    return sorted(name for name in names if name.startswith(("GPU-", "MIG-")))


class Host:
    def __init__(self, nvidia_ctk: str, service: str, timeout_seconds: int) -> None:
        self._nvidia_ctk = nvidia_ctk
        self._service = service
        self._timeout = timeout_seconds

    def named(self) -> list[str]:
        code, output = self._run(self._nvidia_ctk, "--quiet", "cdi", "list")
        if code:
            raise InputError(f"nvidia-ctk cdi list failed: {output}")
        return named(output)

    def refresh(self) -> None:
        code, output = self._run("systemctl", "restart", self._service)
        if code:
            raise InputError(f"{self._service} failed: {output}. Why: journalctl -u {self._service}")

    def _run(self, *command: str) -> tuple[int, str]:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=self._timeout, check=False
            )
        except FileNotFoundError as error:
            raise InputError(f"{command[0]} is not on this host") from error
        except subprocess.TimeoutExpired as error:
            raise InputError(f"{' '.join(command)} did not end within timeout_seconds={self._timeout}; a driver that hangs lets it wait for ever") from error
        return done.returncode, done.stdout.strip()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "uuids": {"type": "list", "elements": "str", "required": True},
            "service": {"type": "str", "default": "nvidia-cdi-refresh.service"},
            "timeout_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    wanted = sorted({uuid for uuid in module.params["uuids"] if uuid})
    program = module.get_bin_path("nvidia-ctk")
    if program is None and not module.check_mode:
        module.fail_json(msg="nvidia-ctk is not on this host; install the package nvidia-container-toolkit-base")
    host = Host(program or "", module.params["service"], module.params["timeout_seconds"])
    try:
        before = host.named() if program else []
        changed = bool(wanted) and wanted != before
        if changed and not module.check_mode:
            host.refresh()
            after = host.named()
            missing = [uuid for uuid in wanted if uuid not in after]
            if missing:
                raise InputError(
                    f"the CDI specification does not name {missing[0]} after {module.params['service']} ran. Why: journalctl -u {module.params['service']}"
                )
    except InputError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, before=before, diff={"before": _lines(before), "after": _lines(wanted if changed else before)})


def _lines(names: t.Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in names)


if __name__ == "__main__":
    main()
