# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeconfig_for
short_description: Make a K3s server's kubeconfig usable from elsewhere
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Replaces the address of the server, gives cluster and context a name of their own, and notes the cluster's uid in the file.
options:
  _input:
    description: Content of the kubeconfig.
    type: str
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
    description: Uid of the cluster.
    type: str
    required: true
"""

EXAMPLES = r"""
content: "{{ credentials.kubeconfig | homelab.gpu.kubeconfig_for(server='https://192.0.2.11:6443', name='homelab', cluster_uid=credentials.cluster_uid) }}"
"""

RETURN = r"""
_value:
  description: The new content.
  type: str
"""

from collections.abc import Callable
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.plugin_utils._kubeconfig import rewrite


def kubeconfig_for(text: str, server: str, name: str, cluster_uid: str) -> str:
    try:
        return rewrite(str(text), server=str(server), name=str(name), cluster_uid=str(cluster_uid))
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        # The content is secret: say where it is wrong, not what it is.
        raise AnsibleFilterError(f"the kubeconfig of the server cannot be read: {type(error).__name__}") from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"kubeconfig_for": kubeconfig_for}
