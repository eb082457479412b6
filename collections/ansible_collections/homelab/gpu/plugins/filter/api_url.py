# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: api_url
short_description: URL of an API server
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Puts IPv6 addresses into brackets and adds scheme and port.
options:
  _input:
    description: Name or address; of addresses separated by commas the first counts.
    type: str
    required: true
  port:
    description: The port.
    type: int
    default: 6443
"""

EXAMPLES = r"""
server: "{{ 'fd00::11' | homelab.gpu.api_url }}"
"""

RETURN = r"""
_value:
  description: The URL, for example V(https://[fd00::11]:6443).
  type: str
"""

import ipaddress
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError


def api_url(address: str, port: int = 6443) -> str:
    if not isinstance(address, str) or not address.strip():
        raise AnsibleFilterError("api_url needs a name or an address; set k3s_api_address")
    first = address.split(",")[0].strip()
    try:
        if ipaddress.ip_address(first).version == 6:
            first = f"[{first}]"
    except ValueError:
        pass
    return f"https://{first}:{int(port)}"


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"api_url": api_url}
