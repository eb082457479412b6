#!/bin/sh
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Everything on a host that a run may change, one line each: two equal lists mean that nothing was changed.
# Left out is what an idle host and Ansible's own connection write.
set -eu
LC_ALL=C
export LC_ALL
find /etc /opt /root /usr/local /var/lib /var/spool -xdev \
  \( -path /root/.ansible -o -path /var/lib/systemd -o -path /var/lib/private -o -path /etc/resolv.conf -o -path /etc/hosts \) -prune -o \
  \( -type d -printf 'directory %p %m %U:%G\n' -o -type l -printf 'link %p %l\n' -o -printf 'file %p %m %U:%G %s %T@\n' \) | sort
systemctl list-unit-files --no-legend --no-pager --type=service,socket,mount,timer --state=enabled,disabled,masked | sed 's/^/unit /' | sort
systemctl list-units --no-legend --no-pager --plain --type=service --state=running | sed -n 's/^\([^ ]*\).*/running \1/p' | grep -vE 'session-|user@' | sort
