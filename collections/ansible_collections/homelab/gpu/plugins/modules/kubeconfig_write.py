#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeconfig_write
short_description: Write a K3s server's kubeconfig on the controller
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Writes the administrator's kubeconfig for use on the controller, with the address under which the API is reached from there, with one name for cluster and
    context, and with a note of the cluster's uid.
  - A file that this action did not write is never overwritten. The file has mode V(0600) from its first moment on.
attributes:
  check_mode:
    support: full
    description: Says whether the file would be written without writing it.
  diff_mode:
    support: full
    description: Shows address, name and cluster, and whether credentials differ, but not the credentials.
options:
  content:
    description: Content of the server's own kubeconfig.
    type: str
    required: true
  path:
    description: The file on the controller, from C(/) or C(~) on. Missing directories are made.
    type: path
    required: true
  server:
    description: URL of the API as seen from the controller.
    type: str
    required: true
  name:
    description: Name of cluster and context.
    type: str
    required: true
  cluster_uid:
    description: Uid of the namespace kube-system, which is taken for that of the cluster.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write the kubeconfig
  homelab.gpu.kubeconfig_write:
    content: "{{ credentials.kubeconfig }}"
    path: ~/.kube/homelab-gpu.yml
    server: https://192.0.2.11:6443
    name: homelab
    cluster_uid: "{{ credentials.cluster_uid }}"
"""

RETURN = r"""
path:
  description: The absolute path of the file.
  returned: success
  type: str
"""
