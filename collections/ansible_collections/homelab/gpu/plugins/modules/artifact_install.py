#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_install
short_description: Bring verified files from the controller's cache to a host
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Asks the host in one call which files are missing or differ in size or sha256, sends only those, and has the
    host verify each one before it is renamed into its place.
  - A second run is that one call. Files that did not change since they were verified are not read again.
  - The host fetches nothing itself. The controller's architecture does not matter.
attributes:
  check_mode:
    support: full
    description: Says which files would be sent; they need not be in the controller's cache yet.
  diff_mode:
    support: full
    description: Shows versions of files by size and sha256.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      src:
        description: Path on the controller.
        type: path
        required: true
      dest:
        description: Absolute path on the host. Missing directories are made.
        type: path
        required: true
      size:
        description: Size in bytes.
        type: int
        required: true
      sha256:
        description: The sha256 in hexadecimal digits.
        type: str
        required: true
      mode:
        description: Octal mode as text.
        type: str
        default: '0644'
      setype:
        description: SELinux type on hosts where SELinux is enabled.
        type: str
  empty_files:
    description: Files to exist, empty when made and left alone afterwards.
    type: list
    elements: path
    default: []
  state_file:
    description:
      - Where the host remembers what it verified and what was placed.
      - A file that an earlier call placed in one of O(prune), and that is no longer named, is removed.
    type: path
    required: true
  prune:
    description: Directories in which files that were placed by an earlier call, and are not named now, are removed.
    type: list
    elements: path
    default: []
  staged:
    description: Where sent files lie. Set by the action plugin only.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Place the binary
  homelab.gpu.artifact_install:
    state_file: /usr/local/lib/k3s/placed.json
    files:
      - src: /root/.cache/homelab-gpu/artifacts/0123/k3s
        dest: /usr/local/lib/k3s/v1.37.1+k3s1/k3s
        size: 70000000
        sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        mode: '0755'
"""

RETURN = r"""
missing:
  description: Destinations that were missing or different before the call.
  returned: always
  type: list
  elements: str
sent_bytes:
  description: How much was sent to the host.
  returned: always
  type: int
removed:
  description: Files of earlier calls that were removed.
  returned: always
  type: list
  elements: str
"""

import os
import shutil
import stat
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import file_state, recall, remember, sha256_of

_RESERVE_BYTES = 64 * 1024 * 1024


def existing_parent(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


class Installer:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.files: list[dict[str, Any]] = module.params["files"]
        self.staged: dict[str, str] = module.params["staged"]
        self.known = recall(module.params["state_file"])
        self.changed = False
        self.removed: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def check(self) -> None:
        for path in [
            *(entry["dest"] for entry in self.files),
            *self.module.params["empty_files"],
            *self.module.params["prune"],
            self.module.params["state_file"],
        ]:
            if not os.path.isabs(path):
                self.module.fail_json(msg=f"{path!r} is not an absolute path: write it from the root directory on.")

    def missing(self) -> list[str]:
        found = []
        for entry in self.files:
            state = file_state(entry["dest"], size=entry["size"], sha256=entry["sha256"], known=self.known)
            if state != "ok":
                found.append(entry["dest"])
                before = "" if state == "missing" else f"differs in {state}\n"
                self.diffs.append(
                    {
                        "before_header": entry["dest"],
                        "after_header": entry["dest"],
                        "before": before,
                        "after": f"{entry['size']} bytes, sha256 {entry['sha256']}\n",
                    }
                )
        return found

    def check_space(self, missing: list[str]) -> None:
        wanted: dict[int, tuple[str, int]] = {}
        for entry in self.files:
            if entry["dest"] in missing:
                place = existing_parent(os.path.dirname(entry["dest"]))
                device = os.stat(place).st_dev
                wanted[device] = (place, wanted.get(device, (place, 0))[1] + entry["size"])
        for place, size in wanted.values():
            status = os.statvfs(place)
            free = status.f_bavail * status.f_frsize
            if free < size + _RESERVE_BYTES:
                self.module.fail_json(
                    msg=f"{place} has {free // 2**20} MiB free and {(size + _RESERVE_BYTES) // 2**20} MiB are needed "
                    f"for {', '.join(missing)}: make room, then run again."
                )

    def place(self, entry: dict[str, Any]) -> None:
        dest, source = entry["dest"], self.staged[entry["dest"]]
        os.makedirs(os.path.dirname(dest), mode=0o755, exist_ok=True)
        partial = f"{dest}.partial"
        shutil.move(source, partial)
        actual = sha256_of(partial)
        if actual != entry["sha256"]:
            os.unlink(partial)
            self.module.fail_json(
                msg=f"{dest} arrived with sha256 {actual} instead of {entry['sha256']}: run again; if it repeats, look for faulty memory or disks."
            )
        os.chmod(partial, int(entry["mode"], 8))
        os.chown(partial, os.geteuid(), os.getegid())
        os.replace(partial, dest)

    def settle(self) -> None:
        """Modes, SELinux types, empty files and what is left of earlier versions."""
        check_mode = self.module.check_mode
        for entry in self.files:
            dest = entry["dest"]
            if not os.path.exists(dest):
                continue
            wanted = int(entry["mode"], 8)
            if stat.S_IMODE(os.stat(dest).st_mode) != wanted:
                self.changed = True
                self.diffs.append({"before_header": dest, "after_header": dest, "before": "", "after": f"mode {wanted:04o}\n"})
                if not check_mode:
                    os.chmod(dest, wanted)
            if entry["setype"] and self.module.selinux_enabled():
                self.changed = self.module.set_context_if_different(dest, [None, None, entry["setype"], None], self.changed)
        for path in self.module.params["empty_files"]:
            if not os.path.exists(path):
                self.changed = True
                if not check_mode:
                    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                    with open(path, "xb"):
                        pass
                    os.chmod(path, 0o600)
        wanted_paths = {entry["dest"] for entry in self.files}
        for path in sorted(self.known):
            if path not in wanted_paths and os.path.dirname(path) in self.module.params["prune"] and os.path.isfile(path):
                self.changed = True
                self.removed.append(path)
                self.diffs.append({"before_header": path, "after_header": path, "before": "present\n", "after": ""})
                if not check_mode:
                    os.unlink(path)

    def keep_memo(self) -> None:
        hashes = {path: memory["sha256"] for path, memory in self.known.items() if os.path.isfile(path) and isinstance(memory, dict) and "sha256" in memory}
        hashes.update({entry["dest"]: entry["sha256"] for entry in self.files})
        os.makedirs(os.path.dirname(self.module.params["state_file"]), mode=0o755, exist_ok=True)
        remember(self.module.params["state_file"], hashes)

    def run(self) -> dict[str, Any]:
        self.check()
        missing = self.missing()
        result: dict[str, Any] = {"missing": missing, "sent_bytes": 0}
        if missing and not self.staged:
            self.check_space(missing)
            if not self.module.check_mode:
                # The action plugin sends these and calls again; nothing is changed until they are here.
                return {**result, "changed": False, "removed": [], "diff": []}
        for entry in self.files:
            if entry["dest"] in missing:
                self.changed = True
                if not self.module.check_mode:
                    if entry["dest"] not in self.staged:
                        self.module.fail_json(msg=f"{entry['dest']} changed while files were sent: let nothing else write there, then run again.")
                    self.place(entry)
        self.settle()
        if not self.module.check_mode:
            self.keep_memo()
        return {**result, "changed": self.changed, "removed": self.removed, "diff": self.diffs}


def argument_spec() -> dict[str, Any]:
    return {
        "files": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "src": {"type": "path", "required": True},
                "dest": {"type": "path", "required": True},
                "size": {"type": "int", "required": True},
                "sha256": {"type": "str", "required": True},
                "mode": {"type": "str", "default": "0644"},
                "setype": {"type": "str"},
            },
        },
        "empty_files": {"type": "list", "elements": "path", "default": []},
        "state_file": {"type": "path", "required": True},
        "prune": {"type": "list", "elements": "path", "default": []},
        "staged": {"type": "dict", "default": {}},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = Installer(module).run()
    except OSError as error:
        module.fail_json(msg=f"{error.strerror}: {error.filename}. What is missing is sent again at the next run.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
