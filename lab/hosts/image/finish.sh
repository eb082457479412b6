#!/bin/sh
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs inside the new root file system, after its packages.
set -eu

systemctl enable homelab-lab-host.service
# These would act on the machine, which a privileged container shares: its kernel settings and modules, its devices,
# its power button, its file systems.
systemctl mask \
  systemd-sysctl.service systemd-modules-load.service systemd-udev-trigger.service systemd-binfmt.service \
  proc-sys-fs-binfmt_misc.automount systemd-logind.service systemd-remount-fs.service \
  modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service \
  modprobe@fuse.service modprobe@loop.service \
  sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
  fstrim.timer e2scrub_all.timer e2scrub_reap.service
# No console, and nothing that starts by itself in the middle of a test
systemctl mask getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer

mkdir -p /var/log/journal /etc/homelab-gpu-lab
# Every host makes its own
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: >/etc/machine-id
rm -rf /usr/lib/udev/hwdb.d /usr/lib/udev/hwdb.bin
