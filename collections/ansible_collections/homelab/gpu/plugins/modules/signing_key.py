#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: signing_key
short_description: Place the key of a package repository if it is the right one
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Writes an armoured public key if its fingerprint, and that of any other primary key in the text, is the given one. Needs no C(gpg) on the host.
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
  content:
    description:
      - The key, ASCII-armoured.
    type: str
    required: true
  fingerprint:
    description:
      - The whole fingerprint, 40 hexadecimal digits (64 for keys of version 6). Spaces do not matter.
    type: str
    required: true
  path:
    description:
      - Where the key goes. Missing directories are made.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Place NVIDIA's key
  homelab.gpu.signing_key:
    content: "{{ lookup('ansible.builtin.url', 'https://nvidia.github.io/libnvidia-container/gpgkey', split_lines=false) }}"
    fingerprint: C95B 321B 61E8 8C18 09C4 F759 DDCA E044 F796 ECB0
    path: /etc/apt/keyrings/nvidia-container-toolkit.asc
"""

RETURN = r"""
fingerprint:
  description: The key's fingerprint.
  returned: success
  type: str
  sample: C95B321B61E88C1809C4F759DDCAE044F796ECB0
"""

import os
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import read
from ansible_collections.homelab.gpu.plugins.module_utils._openpgp import fingerprints, normalised


def checked(content: str, wanted: str) -> str:
    pinned = normalised(wanted)
    wrong = [found for found in fingerprints(content) if found != pinned]
    if wrong:
        raise InputError(f"the content has the key {wrong[0]}, and fingerprint says {pinned}; nothing was written. Find out why before you change either")
    return pinned


def write(path: str, content: str) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(content)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "content": {"type": "str", "required": True},
            "fingerprint": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    path, content = module.params["path"], module.params["content"].strip() + "\n"
    if not os.path.isabs(path):
        module.fail_json(msg=f"path is {path!r}; it has to be an absolute path")
    try:
        fingerprint = checked(content, module.params["fingerprint"])
    except InputError as error:
        module.fail_json(msg=str(error))
    before = read("/", path)
    readable = os.path.isfile(path) and stat.S_IMODE(os.stat(path).st_mode) == 0o644
    changed = before != content or not readable
    if changed and not module.check_mode:
        try:
            write(path, content)
        except OSError as error:
            module.fail_json(msg=f"{path} could not be written: {error.strerror}")
    module.exit_json(
        changed=changed, fingerprint=fingerprint, diff={"before_header": path, "after_header": path, "before": before, "after": content if changed else before}
    )


if __name__ == "__main__":
    main()
