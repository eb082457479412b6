#!/bin/sh
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a host says when a scenario has failed: units, journal, kernel, sockets, space.
systemctl --no-pager --full --lines=0 status k3s.service k3s-agent.service
systemctl --no-pager list-units --failed
journalctl --no-pager --output=short-precise --lines=80 --unit=k3s.service --unit=k3s-agent.service
journalctl --no-pager --output=short-precise --lines=20 --priority=warning --dmesg
ss -ltn
df -h /var/lib
uptime
