#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Put many small files, directories and links on a host in one call
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Brings directories, files, links and absences to the wanted state, in this order, in one module process.
  - Files are written beside their place with the final owner and mode and then renamed over it, so that nobody reads half a file,
    and a secret is never readable to others, not even for a moment.
  - All options are checked before the first change.
attributes:
  check_mode:
    support: full
    description: Says what would be changed without changing it.
  diff_mode:
    support: full
    description: Shows content, modes and links; of the files in O(secret_files) which lines differ, without their values.
options:
  directories:
    description: Directories to exist. Missing parents are made with mode V(0755).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      mode:
        description: Octal mode as text. Without it a directory is made with V(0755), and one that exists keeps its mode and owner.
        type: str
  files:
    description: Files whose content may be shown.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path; its directory must exist or be named in O(directories).
        type: path
        required: true
      content:
        description: The whole content.
        type: str
        required: true
      mode:
        description: Octal mode as text.
        type: str
        default: '0644'
  secret_files:
    description: Files whose content is never shown.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path; its directory must exist or be named in O(directories).
        type: path
        required: true
      content:
        description: The whole content.
        type: str
        required: true
      mode:
        description: Octal mode as text.
        type: str
        default: '0600'
      remove_if_empty:
        description: Remove the file if O(secret_files[].content) is empty.
        type: bool
        default: false
      shown_keys:
        description: Keys at the beginning of a line whose values may be shown in a diff, with the lines that follow.
        type: list
        elements: str
        default: []
  links:
    description: Symbolic links.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the link.
        type: path
        required: true
      target:
        description: What it points to.
        type: str
        required: true
      replace_file:
        description: Replace a regular file in this place; otherwise that is an error.
        type: bool
        default: false
      unless_command:
        description: Make the link only if no other program of the link's name is found in the usual directories.
        type: bool
        default: false
  absent:
    description: Files or links to remove.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Configure the service
  homelab.gpu.host_files:
    directories:
      - path: /etc/rancher/k3s
        mode: '0700'
    secret_files:
      - path: /etc/rancher/k3s/config.yaml
        content: "{{ config | to_nice_yaml }}"
    links:
      - path: /usr/local/bin/k3s
        target: /usr/local/lib/k3s/v1.37.1+k3s1/k3s
"""

RETURN = r"""
changes:
  description: What was, or in check mode would be, changed.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The changed path.
      type: str
    what:
      description: V(created), V(content), V(mode), V(owner), V(target) or V(removed).
      type: str
"""

import difflib
import os
import re
import shutil
import stat
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

_TOP_KEY = re.compile(r"([A-Za-z][\w.-]*)[:=]")
_MODE = re.compile(r"0?[0-7]{3,4}")
_COMMAND_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin")


def masked(text: str, other: str, shown_keys: list[str]) -> str:
    """A secret file's lines without their values, but for those of the shown keys; where the other side differs, that is said.

    Comments are left out: a text that is the whole content would be taken for the secret and be censored.
    """
    matcher = difflib.SequenceMatcher(a=text.splitlines(), b=other.splitlines(), autojunk=False)
    same = {block.a + offset for block in matcher.get_matching_blocks() for offset in range(block.size)}
    lines = []
    key = ""
    for number, line in enumerate(text.splitlines()):
        top = _TOP_KEY.match(line)
        key = top.group(1) if top else key
        if line.startswith("#"):
            continue
        if key in shown_keys:
            lines.append(line)
            continue
        hidden = f"{top.group(0)} (not shown)" if top else "(not shown)"
        lines.append(hidden if number in same else f"{hidden} differs")
    return "".join(f"{line}\n" for line in lines)


class HostFiles:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.changes: list[dict[str, str]] = []
        self.diffs: list[dict[str, str]] = []

    def note(self, path: str, what: str, before: str = "", after: str = "") -> None:
        self.changes.append({"path": path, "what": what})
        self.diffs.append({"before_header": f"{path} ({what})", "after_header": f"{path} ({what})", "before": before, "after": after})

    def check(self) -> None:
        params = self.module.params
        entries = [*params["directories"], *params["files"], *params["secret_files"], *params["links"]]
        for path in [*(entry["path"] for entry in entries), *params["absent"]]:
            if not os.path.isabs(path):
                self.module.fail_json(msg=f"{path!r} is not an absolute path: write it from the root directory on.")
        for entry in entries:
            if entry.get("mode") is not None and not _MODE.fullmatch(entry["mode"]):
                self.module.fail_json(msg=f"mode of {entry['path']} is {entry['mode']!r}: write it as a quoted octal number, for example '0644'.")
        paths = [entry["path"] for entry in entries]
        for path in sorted({path for path in paths if paths.count(path) > 1} | (set(paths) & set(params["absent"]))):
            self.module.fail_json(msg=f"{path} is named more than once: name each path once.")
        for entry in params["directories"]:
            if os.path.lexists(entry["path"]) and not os.path.isdir(entry["path"]):
                self.module.fail_json(msg=f"{entry['path']} exists and is not a directory: move it away.")
        for path in [*(entry["path"] for entry in [*params["files"], *params["secret_files"]]), *params["absent"]]:
            if os.path.isdir(path) and not os.path.islink(path):
                self.module.fail_json(msg=f"{path} is a directory where a file was expected: move it away.")
        for entry in params["links"]:
            path = entry["path"]
            if os.path.lexists(path) and not os.path.islink(path) and not entry["unless_command"] and (os.path.isdir(path) or not entry["replace_file"]):
                self.module.fail_json(msg=f"{path} exists and is no link: move it away, then run again.")

    def directory(self, path: str, mode: str | None) -> None:
        wanted = int(mode or "0755", 8)
        if not os.path.isdir(path):
            self.note(path, "created", after=f"directory with mode {wanted:04o}\n")
            if not self.module.check_mode:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                os.mkdir(path, 0o700)
                os.chmod(path, wanted)
                self.module.set_default_selinux_context(path, False)
        elif mode is not None:
            self.attributes(path, wanted)

    def attributes(self, path: str, wanted: int) -> None:
        status = os.stat(path)
        current = stat.S_IMODE(status.st_mode)
        if current != wanted:
            self.note(path, "mode", f"{current:04o}\n", f"{wanted:04o}\n")
            if not self.module.check_mode:
                os.chmod(path, wanted)
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            self.note(path, "owner", f"{status.st_uid}:{status.st_gid}\n", f"{os.geteuid()}:{os.getegid()}\n")
            if not self.module.check_mode:
                os.chown(path, os.geteuid(), os.getegid())

    def file(self, path: str, content: str, mode: str, *, shown_keys: list[str] | None = None) -> None:
        wanted = int(mode, 8)
        data = content.encode("utf-8")
        current: bytes | None = None
        if os.path.lexists(path) and not os.path.islink(path):
            with open(path, "rb") as stream:
                current = stream.read()
        if current == data:
            self.attributes(path, wanted)
            return
        before = (current or b"").decode("utf-8", "replace")
        what = "created" if current is None else "content"
        if shown_keys is None:
            self.note(path, what, before, content)
        else:
            self.note(path, what, masked(before, content, shown_keys), masked(content, before, shown_keys))
        if self.module.check_mode:
            return
        descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(stream.fileno(), wanted)
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        self.module.set_default_selinux_context(path, False)

    def link(self, path: str, target: str, *, unless_command: bool) -> None:
        if os.path.islink(path):
            current = os.readlink(path)
            if current == target:
                return
        elif os.path.lexists(path):
            if unless_command:
                return
            current = "(a regular file)"
        else:
            others = os.pathsep.join(directory for directory in _COMMAND_DIRECTORIES if directory != os.path.dirname(path))
            if unless_command and shutil.which(os.path.basename(path), path=others):
                return
            current = ""
        self.note(path, "target" if current else "created", f"{current}\n" if current else "", f"{target}\n")
        if self.module.check_mode:
            return
        temporary = f"{path}.{os.getpid()}"
        os.symlink(target, temporary)
        os.replace(temporary, path)

    def absence(self, path: str) -> None:
        if os.path.lexists(path):
            self.note(path, "removed", "present\n", "")
            if not self.module.check_mode:
                os.unlink(path)

    def run(self) -> None:
        params = self.module.params
        self.check()
        for entry in params["directories"]:
            self.directory(entry["path"], entry["mode"])
        for entry in params["files"]:
            self.file(entry["path"], entry["content"], entry["mode"])
        for entry in params["secret_files"]:
            if entry["remove_if_empty"] and not entry["content"]:
                self.absence(entry["path"])
            else:
                self.file(entry["path"], entry["content"], entry["mode"], shown_keys=entry["shown_keys"])
        for entry in params["links"]:
            self.link(entry["path"], entry["target"], unless_command=entry["unless_command"])
        for path in params["absent"]:
            self.absence(path)


def argument_spec() -> dict[str, Any]:
    path = {"type": "path", "required": True}
    return {
        "directories": {"type": "list", "elements": "dict", "default": [], "options": {"path": path, "mode": {"type": "str"}}},
        "files": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"path": path, "content": {"type": "str", "required": True}, "mode": {"type": "str", "default": "0644"}},
        },
        "secret_files": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "no_log": False,
            "options": {
                "path": path,
                "content": {"type": "str", "required": True, "no_log": True},
                "mode": {"type": "str", "default": "0600"},
                "remove_if_empty": {"type": "bool", "default": False},
                "shown_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            },
        },
        "links": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "path": path,
                "target": {"type": "str", "required": True},
                "replace_file": {"type": "bool", "default": False},
                "unless_command": {"type": "bool", "default": False},
            },
        },
        "absent": {"type": "list", "elements": "path", "default": []},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    files = HostFiles(module)
    try:
        files.run()
    except OSError as error:
        done = ", ".join(change["path"] for change in files.changes[:-1]) or "nothing"
        module.fail_json(msg=f"{error.strerror}: {error.filename}. Changed before: {done}.", changes=files.changes)
    module.exit_json(changed=bool(files.changes), changes=files.changes, diff=files.diffs)


if __name__ == "__main__":
    main()
