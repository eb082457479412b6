#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_release_info
short_description: Read checksums and sizes of a K3s release
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Reads the lists of checksums that a K3s release publishes, and asks for the size of each file. The files themselves are not fetched.
  - The result has the form of the entries of an artifacts lock file.
  - Runs where the release can be reached, usually with C(delegate_to=localhost).
extends_documentation_fragment:
  - homelab.gpu._attributes
  - homelab.gpu._attributes.info
options:
  version:
    description:
      - The release, for example V(v1.36.4+k3s1).
    type: str
    required: true
  architectures:
    description:
      - The architectures to read.
    type: list
    elements: str
    choices: [amd64, arm64]
    default: [amd64, arm64]
  base_url:
    description:
      - Where the releases are. A mirror with the same layout may be used.
    type: str
    default: https://github.com/k3s-io/k3s/releases/download
  timeout_seconds:
    description:
      - How long each request may take.
    type: int
    default: 30
notes:
  - Checksums are as trustworthy as the connection to O(base_url). Look at them before a lock file is put into use.
"""

EXAMPLES = r"""
- name: Read what the release holds
  homelab.gpu.k3s_release_info:
    version: v1.36.4+k3s1
  delegate_to: localhost
  register: release
"""

RETURN = r"""
artifacts:
  description: The binary and the image archive of each architecture.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: What it is.
      type: str
      sample: k3s-airgap-images
    version:
      description: The release.
      type: str
      sample: v1.36.4+k3s1
    arch:
      description: The architecture.
      type: str
      sample: amd64
    kind:
      description: How it is used.
      type: str
      sample: images
    filename:
      description: Its name on a host.
      type: str
      sample: k3s-airgap-images-amd64.tar.zst
    url:
      description: Where it is.
      type: str
    size:
      description: Its size in bytes.
      type: int
    sha256:
      description: Its checksum.
      type: str
"""

import http.client
import typing as t
import urllib.error

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import SSLValidationError, open_url

from ansible_collections.homelab.gpu.plugins.module_utils._release import ReleaseError, asset_url, checksum, checksum_list_name, published
from ansible_collections.homelab.gpu.plugins.module_utils._version import VersionError, parse


def request(module: AnsibleModule, method: str, url: str) -> t.Any:
    try:
        # With follow_redirects=all a HEAD stays one after a redirect; otherwise the whole file would be asked for.
        return open_url(url, method=method, timeout=module.params["timeout_seconds"], follow_redirects="all", headers={"Accept-Encoding": "identity"})
    except urllib.error.HTTPError as error:
        raise ReleaseError(f"{method} {url}: the server answers {error.code} {error.reason}; check version and base_url") from error
    except (OSError, http.client.HTTPException, SSLValidationError) as error:
        reason = getattr(error, "reason", None) or error
        raise ReleaseError(f"{method} {url}: {reason}; check that this machine reaches base_url") from error


def size_of(module: AnsibleModule, url: str) -> int:
    size = str(request(module, "HEAD", url).headers.get("Content-Length", ""))
    if not size.isdigit() or int(size) == 0:
        raise ReleaseError(f"HEAD {url}: the server does not tell the size; use a base_url whose server does")
    return int(size)


def read(module: AnsibleModule) -> list[dict[str, t.Any]]:
    version, base_url = module.params["version"], module.params["base_url"]
    artifacts = []
    for arch in dict.fromkeys(module.params["architectures"]):
        url = asset_url(base_url, version, checksum_list_name(arch))
        checksums = to_text(request(module, "GET", url).read())
        for entry in published(arch):
            location = asset_url(base_url, version, entry.asset)
            artifacts.append(
                {
                    "name": entry.name,
                    "version": version,
                    "arch": arch,
                    "kind": entry.kind,
                    "filename": entry.filename,
                    "url": location,
                    "size": size_of(module, location),
                    "sha256": checksum(checksums, entry.asset, url),
                }
            )
    return artifacts


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "architectures": {"type": "list", "elements": "str", "choices": ["amd64", "arm64"], "default": ["amd64", "arm64"]},
            "base_url": {"type": "str", "default": "https://github.com/k3s-io/k3s/releases/download"},
            "timeout_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        parse(module.params["version"])
        artifacts = read(module)
    except VersionError as error:
        module.fail_json(msg=f"version: {error}")
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, artifacts=artifacts)


if __name__ == "__main__":
    main()
