#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_ctk_config
short_description: Hold settings of NVIDIA's container runtime
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Has C(nvidia-ctk) write the settings, which knows them all and refuses unknown ones. What is not mentioned stays as it is.
  - The runtime reads its file whenever it makes a container, so nothing has to be restarted.
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
  settings:
    description:
      - Values by the setting's dotted name, such as C(nvidia-container-runtime.mode). Lists are joined with colons, as C(nvidia-ctk) takes them.
    type: dict
    required: true
  path:
    description:
      - The file.
    type: path
    default: /etc/nvidia-container-runtime/config.toml
  nvidia_ctk:
    description:
      - Path of C(nvidia-ctk). By default it is looked for as a shell does.
    type: path
"""

EXAMPLES = r"""
- name: Let containers have GPUs only if the device plugin gave them some
  homelab.gpu.nvidia_ctk_config:
    settings:
      accept-nvidia-visible-devices-envvar-when-unprivileged: false
      accept-nvidia-visible-devices-as-volume-mounts: true
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import read

Run = t.Callable[[list[str]], tuple[int, str, str]]


def words(settings: t.Mapping[str, t.Any]) -> list[str]:
    """As C(nvidia-ctk) takes them."""
    found = []
    for name, value in sorted(settings.items()):
        if value is None or isinstance(value, dict):
            raise InputError(f"settings.{name} is {value!r}; it has to be text, a number, true or false, or a list of text")
        text = str(value).lower() if isinstance(value, bool) else ":".join(map(str, value)) if isinstance(value, list) else str(value)
        found += ["--set", f"{name}={text}"]
    return found


def hold(run: Run, program: str, path: str, settings: t.Mapping[str, t.Any], *, write: bool) -> tuple[str, str]:
    """The file's text before and after."""
    command = [program, "--quiet", "config", f"--config-file={path}", *words(settings)]
    code, after, error = run(command)
    if code:
        raise InputError(f"settings: nvidia-ctk refuses them: {error.strip()}. Its own list of settings: nvidia-ctk config default")
    before = read("/", path)
    if write and before != after:
        code, _output, error = run([*command, "--in-place"])
        if code:
            raise InputError(f"{path} could not be written: {error.strip()}")
    return before, after


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "required": True},
            "path": {"type": "path", "default": "/etc/nvidia-container-runtime/config.toml"},
            "nvidia_ctk": {"type": "path"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    program = module.params["nvidia_ctk"] or module.get_bin_path("nvidia-ctk")
    if not program:
        if not module.check_mode:
            module.fail_json(msg="nvidia-ctk is not on this host; install the package nvidia-container-toolkit-base, or give its path as nvidia_ctk")
        # The package that brings it would have been installed before
        module.exit_json(
            changed=bool(module.params["settings"]), path=path, diff={"before": "", "after": "".join(f"{name}\n" for name in module.params["settings"])}
        )
    try:
        before, after = hold(module.run_command, program, path, module.params["settings"], write=not module.check_mode)
    except InputError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=before != after, path=path, diff={"before_header": path, "after_header": path, "before": before, "after": after})


if __name__ == "__main__":
    main()
