#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_image_info
short_description: Tell which images K3s' containerd has, or wait until it has them
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - K3s imports archives from its folder C(agent/images) some time after they were placed there. A pod that starts before fails, and is tried again later and
    later; this module waits instead.
extends_documentation_fragment:
  - homelab.gpu._attributes
  - homelab.gpu._attributes.info
options:
  references:
    description:
      - Images that are asked for, such as V(docker.io/library/haproxy:3.2). A registry or tag that is left out is what containerd takes for it.
    type: list
    elements: str
    required: true
  timeout_seconds:
    description:
      - How long to wait for them. With V(0) it is only told what is missing.
    type: int
    default: 0
  k3s:
    description:
      - The K3s binary.
    type: path
    default: /usr/local/bin/k3s
"""

EXAMPLES = r"""
- name: Wait until the host has imported its archives
  homelab.gpu.k3s_image_info:
    references:
      - docker.io/library/haproxy:3.2
    timeout_seconds: 120
"""

RETURN = r"""
present:
  description: Those of the references that containerd has, in full.
  returned: always
  type: list
  elements: str
missing:
  description: Those that it does not have, in full.
  returned: always
  type: list
  elements: str
waited_seconds:
  description: How long it took until all were there.
  returned: always
  type: float
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._image_references import full_reference

_PAUSE_SECONDS = 0.5


def wait(listed: t.Callable[[], set[str]], wanted: t.Sequence[str], timeout_seconds: float, clock: t.Any = time) -> tuple[list[str], float]:
    """What is missing at the end, and how long that took."""
    begin = clock.monotonic()
    while True:
        found = listed()
        missing = [reference for reference in wanted if reference not in found]
        waited = clock.monotonic() - begin
        if not missing or waited >= timeout_seconds:
            return missing, waited
        clock.sleep(min(_PAUSE_SECONDS, max(timeout_seconds - waited, 0.01)))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "references": {"type": "list", "elements": "str", "required": True},
            "timeout_seconds": {"type": "int", "default": 0},
            "k3s": {"type": "path", "default": "/usr/local/bin/k3s"},
        },
        supports_check_mode=True,
    )
    params = module.params

    def listed() -> set[str]:
        code, output, error = module.run_command([params["k3s"], "ctr", "--namespace", "k8s.io", "images", "list", "--quiet"])
        if code and not params["timeout_seconds"]:
            raise InputError(f"containerd could not be asked for its images: {(error or output).strip()}; see whether K3s runs on this host")
        return set(output.split()) if code == 0 else set()

    try:
        if params["timeout_seconds"] < 0:
            raise InputError(f"timeout_seconds is {params['timeout_seconds']}; write a number of seconds from 0")
        wanted = list(dict.fromkeys(map(full_reference, params["references"])))
        missing, waited = wait(listed, wanted, params["timeout_seconds"])
    except InputError as error:
        module.fail_json(msg=str(error))
    result = {"present": [reference for reference in wanted if reference not in missing], "missing": missing, "waited_seconds": round(waited, 3)}
    if missing and params["timeout_seconds"]:
        module.fail_json(
            msg=f"after {params['timeout_seconds']} s containerd has no {', '.join(missing)}; K3s' journal tells what became of the archives in agent/images",
            **result,
        )
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
