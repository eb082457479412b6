#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_fetch
short_description: Fill the controller's cache of artifacts from a lock file and verify every byte
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Chooses from the lock file what hosts need, verifies what the cache has, and fetches what is missing, several files at once.
  - A file gets its name in the cache only after its size and sha256 were found right. Files that did not change since they were verified are not read again.
  - Runs on the controller, whatever host the task is for; use it with C(run_once).
attributes:
  check_mode:
    support: full
    description: Says what would be fetched without fetching it. Local sources are verified all the same.
  diff_mode:
    support: full
    description: Names the files that come into the cache.
options:
  lock_file:
    description: The lock file.
    type: path
    required: true
  cache_dir:
    description:
      - Directory of the cache. By default C(artifacts) in E(HOMELAB_GPU_CACHE), or in C(homelab-gpu) in the user's cache directory.
    type: path
  wants:
    description: What hosts need.
    type: list
    elements: dict
    required: true
    suboptions:
      version:
        description: Version of the binary, of the packages, and of the archives of K3s.
        type: str
        required: true
      architecture:
        description: Architecture of the hosts.
        type: str
        choices: [amd64, arm64]
        required: true
      binary:
        description: Name of the binary; empty for none.
        type: str
        default: k3s
      images:
        description: Names of image archives.
        type: list
        elements: str
        default: []
      packages:
        description: Names of packages. With them goes O(wants[].package_format).
        type: list
        elements: str
        default: []
      package_format:
        description: What the host's package manager takes.
        type: str
        choices: [deb, rpm]
  parallel:
    description: How many files to fetch at once.
    type: int
    default: 4
  stall_seconds:
    description: A transfer that brings no byte for this long is ended.
    type: int
    default: 30
  timeout_seconds:
    description: How long one file may take.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: Fill the cache
  homelab.gpu.artifact_fetch:
    lock_file: artifacts.lock.yml
    cache_dir: /root/.cache/homelab-gpu/artifacts
    wants:
      - version: v1.37.1+k3s1
        architecture: amd64
        images: [k3s-airgap-images]
  run_once: true
"""

RETURN = r"""
artifacts:
  description: For each C(want) its C(files), the chosen entries of the lock file, each with its C(path) in the cache.
  returned: success
  type: list
  elements: dict
fetched:
  description: Files that came, or in check mode would come, into the cache.
  returned: success
  type: list
  elements: str
fetched_bytes:
  description: Sum of their sizes.
  returned: success
  type: int
"""
