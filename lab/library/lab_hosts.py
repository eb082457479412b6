#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one command of lab/hosts/engine.py and report it as a task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_hosts
short_description: Make, change and remove the hosts of this checkout's lab
description:
  - Runs C(lab/hosts/engine.py) on the machine itself, as root.
options:
  checkout:
    description: The repository whose lab is meant.
    type: path
    required: true
  state:
    description:
      - V(image) builds the hosts' image if the cache lacks it.
      - V(up) makes and starts hosts and waits until they answer over SSH.
      - V(down) removes the lab, or only O(host).
      - V(power) presses the button named in O(action) on O(host).
    choices: [image, up, down, power]
    type: str
    required: true
  hosts:
    description: Hosts that have to be there. Others stay.
    type: list
    elements: str
  host:
    description: One host.
    type: str
    default: ''
  action:
    description: What happens to the host.
    choices: [start, stop, kill, restart, pause, unpause]
    type: str
    default: restart
  lab_id:
    description: With O(state=down), a lab whose checkout is gone.
    type: str
    default: ''
  distribution:
    description: The cluster software taken, written to C(.lab/lab.json).
    type: str
    default: ''
  artifacts_lock:
    description: Its list of artifacts, written to C(.lab/lab.json).
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Make the hosts
  lab_hosts:
    checkout: "{{ playbook_dir }}/.."
    state: up
    hosts: [k3s-server, k3s-worker]
"""

RETURN = r"""
actions:
  description: What was done or, in check mode, would be.
  returned: always
  type: list
  elements: str
seconds:
  description: What the parts of it took.
  returned: always
  type: dict
"""

import json
import sys

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "checkout": {"type": "path", "required": True},
            "state": {"type": "str", "required": True, "choices": ["image", "up", "down", "power"]},
            "hosts": {"type": "list", "elements": "str"},
            "host": {"type": "str", "default": ""},
            "action": {"type": "str", "default": "restart", "choices": ["start", "stop", "kill", "restart", "pause", "unpause"]},
            "lab_id": {"type": "str", "default": ""},
            "distribution": {"type": "str", "default": ""},
            "artifacts_lock": {"type": "str", "default": ""},
        },
        required_if=[("state", "power", ["host"]), ("state", "up", ["hosts"])],
        supports_check_mode=True,
    )
    options = module.params
    command = [
        sys.executable,
        f"{options['checkout']}/lab/hosts/engine.py",
        options["state"],
        f"--checkout={options['checkout']}",
        f"--host={options['host']}",
        f"--action={options['action']}",
        f"--lab-id={options['lab_id']}",
        f"--distribution={options['distribution']}",
        f"--artifacts-lock={options['artifacts_lock']}",
    ]
    if options["hosts"] is not None:
        command.append(f"--hosts={json.dumps(options['hosts'])}")
    if module.check_mode:
        command.append("--check")
    returncode, output, errors = module.run_command(command)
    try:
        result = json.loads(output)
    except ValueError:
        module.fail_json(msg=f"lab/hosts/engine.py ended with {returncode}: {errors.strip() or output.strip()}")
    if result.pop("failed", False):
        module.fail_json(**result)
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
