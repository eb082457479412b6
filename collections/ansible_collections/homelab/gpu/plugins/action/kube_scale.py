# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.homelab.gpu.plugins.modules import kube_scale
from ansible_collections.homelab.gpu.plugins.plugin_utils._cluster_action import ClusterAction


class ActionModule(ClusterAction):
    module = kube_scale.MODULE
