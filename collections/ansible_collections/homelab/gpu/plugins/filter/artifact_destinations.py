# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: artifact_destinations
short_description: Where artifacts go on a host
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Makes the O(homelab.gpu.artifact_install#module:files) of M(homelab.gpu.artifact_install) from what M(homelab.gpu.artifact_fetch) returned for one want.
options:
  _input:
    description: The files, entries of the lock file with their C(path) in the cache.
    type: list
    elements: dict
    required: true
  binary:
    description: Path of the binary on the host.
    type: path
  images_dir:
    description: Directory of image archives on the host.
    type: path
  packages_dir:
    description: Directory of packages on the host.
    type: path
"""

EXAMPLES = r"""
files: "{{ chosen.files | homelab.gpu.artifact_destinations(binary='/usr/local/lib/k3s/v1.37.1+k3s1/k3s', images_dir='/var/lib/rancher/k3s/agent/images') }}"
"""

RETURN = r"""
_value:
  description: The files with source, destination, size, sha256 and mode.
  type: list
  elements: dict
"""

import posixpath
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError


def artifact_destinations(
    files: list[dict[str, Any]], binary: str | None = None, images_dir: str | None = None, packages_dir: str | None = None
) -> list[dict[str, Any]]:
    places = {"binary": binary, "images": images_dir, "package": packages_dir}
    result = []
    for entry in files:
        place = places.get(entry["kind"])
        if not place:
            raise AnsibleFilterError(f"artifact_destinations: {entry['name']} has the kind {entry['kind']}, which this host does not receive")
        common = {"src": entry["path"], "size": entry["size"], "sha256": entry["sha256"]}
        if entry["kind"] == "binary":
            # The type that K3s' SELinux policy gives to /usr/local/bin/k3s, which here is a link.
            result.append({**common, "dest": place, "mode": "0755", "setype": "container_runtime_exec_t"})
        else:
            result.append({**common, "dest": posixpath.join(place, entry["filename"]), "mode": "0644"})
    return result


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"artifact_destinations": artifact_destinations}
