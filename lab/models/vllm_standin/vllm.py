#!/usr/bin/python3
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program `vllm` of the stand-in's image."""

from __future__ import annotations

import os
import sys

from vllm_standin import api

if __name__ == "__main__":
    code = api.main(sys.argv[1:], os.environ, [sys.executable, "-m", "vllm_standin.engine"])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of requests that hang would keep it
    os._exit(code)
