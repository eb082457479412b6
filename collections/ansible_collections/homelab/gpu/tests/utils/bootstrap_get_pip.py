# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the get-pip script which ansible-test would download: pip comes from the interpreter's own ensurepip.

It belongs at ~/.ansible/test/cache/get_pip_<version>.py; the version is the one ansible-test asks for.
"""

from __future__ import annotations

import runpy
import subprocess
import sys

# In a process of its own: ensurepip points pip's configuration at the null device, and that would outlive it here.
subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
sys.argv = ["pip", "install", *(argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel"))]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
