#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_power
short_description: Keep the kernel from putting external GPUs to sleep
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Sets C(power/control) to V(on) for each external GPU of NVIDIA, the other functions of its slot, and the bridges above it. A GPU in an enclosure that is
    powered down while idle may not come back.
  - The kernel forgets this when the device goes; a rule for udev does the same for one that comes.
extends_documentation_fragment:
  - homelab.gpu._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options: {}
"""

EXAMPLES = r"""
- name: Keep external GPUs awake
  homelab.gpu.gpu_power:
"""

RETURN = r"""
devices:
  description: PCI addresses of what belongs to external GPUs.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import read
from ansible_collections.homelab.gpu.plugins.module_utils._pci import NVIDIA, enclosures_of, functions_of_vendor, thunderbolt_devices

_ROOT = "/"


def devices(root: str) -> list[str]:
    functions = functions_of_vendor(root, NVIDIA)
    plugged = thunderbolt_devices(root)
    found: list[str] = []
    for gpu in functions:
        if gpu.is_display and (gpu.removable or enclosures_of(root, gpu, plugged)):
            found += [*gpu.ancestors, *(other.address for other in functions if other.slot == gpu.slot)]
    return list(dict.fromkeys(found))


def control(address: str) -> str:
    return f"sys/bus/pci/devices/{address}/power/control"


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    found = devices(_ROOT)
    asleep = [address for address in found if read(_ROOT, control(address)).strip() == "auto"]
    for address in [] if module.check_mode else asleep:
        try:
            with open(os.path.join(_ROOT, control(address)), "w", encoding="ascii") as stream:
                stream.write("on")
        except OSError as error:
            module.fail_json(msg=f"power/control of {address} could not be set to on: {error.strerror}. It may have been unplugged a moment ago; run again.")
    module.exit_json(
        changed=bool(asleep),
        devices=found,
        diff={"before": "".join(f"{address} auto\n" for address in asleep), "after": "".join(f"{address} on\n" for address in asleep)},
    )


if __name__ == "__main__":
    main()
