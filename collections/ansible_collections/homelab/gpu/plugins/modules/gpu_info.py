#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Tell which NVIDIA GPUs a host has, and in which state they and their driver are
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Reads PCI and Thunderbolt devices from sysfs and asks the driver through C(nvidia-smi), in a child with a deadline.
  - No driver, nouveau, a GPU that fell off the bus, a driver that hangs or does not fit its libraries are states that it returns, not failures.
extends_documentation_fragment:
  - homelab.gpu._attributes
  - homelab.gpu._attributes.info
options:
  timeout_seconds:
    description: How long C(nvidia-smi) may take, in seconds; from 0.1 to 60. It is given up then, as it may hang in the kernel.
    type: float
    default: 2.5
  nvidia_smi:
    description: Path of C(nvidia-smi). By default it is looked for as a shell does.
    type: path
  skus:
    description:
      - What the inventory adds to the table of known GPUs, or changes in it by name.
      - An entry with a new name needs O(skus[].product), O(skus[].memory_mib_min), O(skus[].memory_mib_max), O(skus[].replicas_max), and
        O(skus[].compute_capability).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the SKU; small letters, digits, dots and dashes.
        type: str
        required: true
      product:
        description: Regular expression for the whole name that the driver gives.
        type: str
      memory_mib_min:
        description: The least memory that the driver may report, in MiB. It tells products of one name apart.
        type: int
      memory_mib_max:
        description: The most memory that the driver may report, in MiB.
        type: int
      replicas_min:
        description: The fewest slices of one GPU.
        type: int
      replicas_max:
        description: The most slices of one GPU.
        type: int
      replicas_default:
        description: Slices of one GPU if nothing else is said.
        type: int
      compute_capability:
        description: Such as V(8.6), in quotes.
        type: str
      driver_branch_min:
        description: The oldest driver branch that drives it, such as V(525).
        type: int
      driver_branch_max:
        description: The newest driver branch that drives it.
        type: int
      kernel_modules:
        description: Which of NVIDIA's kernel modules drive it.
        type: str
        choices: [any, open, proprietary]
      serves:
        description: Model servers that run on it.
        type: list
        elements: str
      tegra:
        description: Whether it is part of a Tegra module.
        type: bool
"""

EXAMPLES = r"""
- name: Look for GPUs
  homelab.gpu.gpu_info:
  register: gpu

- name: Say what is wrong with the driver
  ansible.builtin.debug:
    msg: "{{ gpu.driver.state }}: {{ gpu.driver.message }}"

- name: Look for GPUs, one of which the table does not know
  homelab.gpu.gpu_info:
    skus:
      - name: rtx-3090-24gb
        product: NVIDIA GeForce RTX 3090
        memory_mib_min: 24000
        memory_mib_max: 24576
        replicas_max: 4
        compute_capability: "8.6"
"""

RETURN = r"""
gpus:
  description: The GPUs, in the order of their PCI addresses, which change with the port.
  returned: always
  type: list
  elements: dict
  contains:
    pci_address:
      description: As sysfs writes it; empty for a Tegra's GPU that is no PCI device.
      type: str
      sample: '0000:3f:00.0'
    pci_id:
      description: Vendor and device.
      type: str
      sample: 10de:2504
    pci_subsystem:
      description: Vendor and device of the subsystem, as the board's maker set them.
      type: str
    pci_class:
      description: Class, subclass and programming interface.
      type: str
      sample: '0x030000'
    pci_driver:
      description: The driver that holds it, or an empty string.
      type: str
    functions:
      description: Other functions of the same slot, with C(pci_address), C(kind) (V(audio), V(usb), V(ucsi), V(bridge) or V(other)) and C(pci_driver).
      type: list
      elements: dict
    link:
      description: C(speed_gts) and C(max_speed_gts) in GT/s, C(width) and C(max_width) in lanes; null where the kernel does not know.
      type: dict
    bar_bytes:
      description: Sizes of its base address registers, in bytes.
      type: list
      elements: int
    external:
      description: Whether it can be unplugged.
      type: bool
    external_reason:
      description: What tells that.
      type: str
    enclosure_id:
      description: The C(unique_id) of the Thunderbolt or USB4 enclosure that it is in, if that is certain.
      type: str
    state:
      description:
        - V(ready), V(lost) (off the bus, or lost to the driver), V(nouveau), V(no_driver), V(other_driver) (such as vfio-pci), V(driver_hung),
          V(version_mismatch) (of module and libraries) or V(not_answering).
      type: str
    state_reason:
      description: What tells that, and what to do where that is known.
      type: str
    uuid:
      description: The GPU's identity, which stays the same in every port. Empty if the driver does not answer.
      type: str
    product:
      description: The name that the driver gives.
      type: str
    memory_mib:
      description: Memory in MiB; that of the whole host on a Tegra.
      type: int
    compute_capability:
      description: By the driver, else by the SKU.
      type: str
      sample: '8.6'
    persistence:
      description: Whether persistence mode is on; null if it is not known.
      type: bool
    sku:
      description: Which entry of the table of known GPUs it is, or null.
      type: str
    sku_reason:
      description: Why it is that one, or none.
      type: str
driver:
  description: The driver of the host as a whole.
  returned: always
  type: dict
  contains:
    state:
      description:
        - V(ready), V(absent) (none is loaded), V(not_loaded) (nvidia-smi finds none), V(no_nvidia_smi), V(no_devices), V(mismatch), V(hung) or V(failing).
      type: str
    message:
      description: What was said, if it is not V(ready).
      type: str
    version:
      description: Version of the libraries, else that of the module.
      type: str
    kernel_version:
      description: Version of the loaded module.
      type: str
    flavour:
      description: V(open) or V(proprietary), of the loaded module; empty if it does not tell.
      type: str
tegra:
  description: C(model) and C(release) of NVIDIA's module, or null if the host is none.
  returned: always
  type: dict
thunderbolt:
  description: Plugged Thunderbolt and USB4 devices.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The kernel's name of it.
      type: str
      sample: 0-1
    unique_id:
      description: The device's identity.
      type: str
    vendor_name:
      description: Who made it.
      type: str
    device_name:
      description: What it is called.
      type: str
    authorized:
      description: 0 if it may not be used, 1 if it may, 2 if it proved its key.
      type: int
    controller:
      description: PCI address of the controller that it hangs on.
      type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_facts import gpu_facts
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import SKU_SPEC, merged
from ansible_collections.homelab.gpu.plugins.module_utils._nvidia_driver import ask

_ROOT = "/"


def facts(params: t.Mapping[str, t.Any], find: t.Callable[[str], str | None], root: str) -> dict[str, t.Any]:
    timeout = params["timeout_seconds"]
    if not 0.1 <= timeout <= 60:
        raise InputError(f"timeout_seconds is {timeout:g}; it has to be from 0.1 to 60")
    skus = merged(params["skus"])
    return gpu_facts(root, ask(params["nvidia_smi"] or find("nvidia-smi"), timeout), skus)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "timeout_seconds": {"type": "float", "default": 2.5},
            "nvidia_smi": {"type": "path"},
            "skus": {"type": "list", "elements": "dict", "default": [], "options": SKU_SPEC},
        },
        supports_check_mode=True,
    )
    try:
        found = facts(module.params, module.get_bin_path, _ROOT)
    except InputError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
