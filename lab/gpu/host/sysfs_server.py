# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve the PCI and Thunderbolt trees of the mock GPUs by FUSE; `mock-gpu-overlay` lays them over the host's /sys.

python3 -m lab.gpu.host.sysfs_server MOUNTPOINT
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import logging
import os
import re
import select
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lab.gpu.host.kernel_log import KernelLog
from lab.gpu.host.kernel_writes import effect_of
from lab.gpu.host.pci_tree import BUS, REAL, ROOT_BUS, Real, Tree, made
from lab.gpu.state import PATH, SIZE, State, parsed, rendered, xid_line

_NODE: Final = re.compile(r"/dev/nvidia(\d+)(?: \(deleted\))?")
_LOOK_AGAIN_SECONDS: Final = 0.05
_INTERRUPTED_SECONDS: Final = 0.1
_ENDED_BY_SIGNAL: Final = 8
"""What libfuse's main loop ends with."""
_log: Final = logging.getLogger("mock-gpu")


def real(root: Path) -> Real:
    """What the kernel shows below another place where its sysfs is mounted."""
    root_bus: dict[str, str] = {}
    folder = Path(f"{root}{ROOT_BUS}")
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        root_bus[entry.name] = os.readlink(entry) if entry.is_symlink() else "folder" if entry.is_dir() else "file"
    bus = {f"{BUS}{below}": [entry.name for entry in sorted(Path(f"{root}{BUS}{below}").glob("*"))] for below in ("", "/drivers")}
    bus[BUS] = [name for name in bus[BUS] if name not in ("devices", "drivers", "rescan")]
    return Real(root_bus, bus)


def holders(minor: int, proc: Path = Path("/proc")) -> list[int]:
    """Processes that hold the GPU's node. A node in a container has the same name; one that was removed is called so."""
    found = []
    for folder in proc.glob("[0-9]*/fd"):
        try:
            targets = [os.readlink(entry) for entry in folder.iterdir()]
        except OSError:
            continue
        if any(match and int(match[1]) == minor for match in map(_NODE.fullmatch, targets)):
            found.append(int(folder.parent.name))
    return found


class Sysfs:
    """Files as the state has them, and what happens to it when they are written."""

    def __init__(
        self, state_path: Path, real: Real, show: Callable[[], object], say: Callable[[str], object], held_by: Callable[[int], list[int]] = holders
    ) -> None:
        self._path = state_path
        self._real = real
        self._show = show
        self._say = say
        self._held_by = held_by
        self._lock = threading.RLock()
        self._content = b""
        self._file: int | None = None
        self._open: Counter[str] = Counter()
        self._tree = Tree()

    @property
    def tree(self) -> Tree:
        content = self._read_state()
        with self._lock:
            if content != self._content:
                self._tree = made(parsed(content.decode()), self._real)
                self._content = content
            return self._tree

    def _read_state(self) -> bytes:
        """At each call, for a time stamp may be the same after two changes; the file stays open, for there are many calls."""
        with self._lock:
            if self._file is None or os.fstat(self._file).st_nlink == 0:
                if self._file is not None:
                    os.close(self._file)
                self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            return os.pread(self._file, SIZE, 0)

    def attributes(self, path: str) -> dict[str, int]:
        tree = self.tree
        if path in tree.folders:
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path in tree.links:
            return {"st_mode": stat.S_IFLNK | 0o777, "st_nlink": 1, "st_size": len(tree.links[path])}
        if path in tree.attributes:
            attribute = tree.attributes[path]
            size = len(attribute.content) if path.endswith("/config") else 4096
            return {"st_mode": stat.S_IFREG | attribute.mode, "st_nlink": 1, "st_size": size}
        if self._open[path]:
            # The kernel asks by path, even for a file that is open
            return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": 4096}
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def opened(self, path: str) -> None:
        with self._lock:
            if path not in self.tree.attributes:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            self._open[path] += 1

    def closed(self, path: str) -> None:
        with self._lock:
            self._open[path] -= 1

    def names(self, path: str) -> list[str]:
        names = self.tree.folders.get(path)
        if names is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return [".", "..", *sorted(names)]

    def target(self, path: str) -> str:
        target = self.tree.links.get(path)
        if target is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return target

    def read(self, path: str, size: int, offset: int) -> bytes:
        attribute = self.tree.attributes.get(path)
        if attribute is None:
            # It was open when its device went
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        content = attribute.content
        if path == "/module/nvidia/refcnt":
            state = parsed(self._content.decode())
            content = f"{sum(len(self._held_by(gpu.minor)) for gpu in state.gpus)}\n".encode()
        return content[offset : offset + size]

    def write(self, path: str, data: bytes) -> int:
        state = self._state()
        text = data.decode(errors="replace")
        effect = effect_of(state, self._real.slots, path, text, lambda minor: bool(self._held_by(minor)))
        if self._held(effect.waits_for):
            _log.warning("%s: waits for %s, as the driver does", path, self._held(effect.waits_for))
            for gpu in state.gpus:
                if gpu.minor in effect.waits_for:
                    self._say(f"NVRM: Attempting to remove device {gpu.pci_address} with non-zero usage count!")
            while self._held(effect.waits_for):
                time.sleep(_LOOK_AGAIN_SECONDS)
        with self._lock:
            before = self._state()
            after = effect.change(before)
            if after != before:
                self._put(after)
                self._show()
                for old, new in zip(before.gpus, after.gpus, strict=True):
                    if new.xid_number > old.xid_number:
                        self._say(xid_line(old.pci_address, new.xid))
        _log.info("%s: %s written", path, text.strip())
        return len(data)

    def _held(self, minors: frozenset[int]) -> list[int]:
        return [process for minor in minors for process in self._held_by(minor)]

    def _state(self) -> State:
        return parsed(self._read_state().decode())

    def _put(self, state: State) -> None:
        """In one write, into the file that the library in each container has open."""
        assert self._file is not None
        os.pwrite(self._file, rendered(state).encode(), 0)


def serve(sysfs: Sysfs, log: KernelLog, mountpoint: str) -> None:
    """C(sysfs), and beside it the files C(kmsg), as /dev/kmsg, and C(inject), into which the kernel's own lines are written."""
    # Lies beside this package on the host only
    import mfusepy

    library = mfusepy._libfuse
    positions: dict[int, int] = {}
    polling: list[int] = []
    handles = itertools.count(1)

    def tell_pollers() -> None:
        told = 0
        while True:
            with log.grown:
                while not polling or log.size == told:
                    log.grown.wait()
                told = log.size
                waiting, polling[:] = polling[:], []
            for handle in waiting:
                library.fuse_notify_poll(ctypes.c_void_p(handle))
                library.fuse_pollhandle_destroy(ctypes.c_void_p(handle))

    threading.Thread(target=tell_pollers, daemon=True).start()

    class Operations(mfusepy.Operations):
        use_ns = True

        def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
            if path in ("/kmsg", "/inject"):
                return {"st_mode": stat.S_IFREG | (0o644 if path == "/kmsg" else 0o200), "st_nlink": 1, "st_size": log.size}
            return sysfs.attributes(path)

        def readdir(self, path: str, fh: Any) -> list[str]:
            return sysfs.names(path) + (["kmsg", "inject"] if path == "/" else [])

        def readlink(self, path: str) -> str:
            return sysfs.target(path)

        def open(self, path: str, info: Any) -> int:
            # No page of it may be kept
            info.direct_io = 1
            info.fh = next(handles)
            if path in ("/kmsg", "/inject"):
                positions[info.fh] = 0
            else:
                sysfs.opened(path)
            return 0

        def release(self, path: str, info: Any) -> int:
            if path in ("/kmsg", "/inject"):
                positions.pop(info.fh, None)
            else:
                sysfs.closed(path)
            return 0

        def read(self, path: str, size: int, offset: int, info: Any) -> bytes:
            if path != "/kmsg":
                return sysfs.read(path, size, offset)
            with log.grown:
                while not (record := log.record_at(offset)):
                    if info.flags & os.O_NONBLOCK:
                        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                    log.grown.wait(_INTERRUPTED_SECONDS)
                    if library.fuse_interrupted():
                        raise OSError(errno.EINTR, os.strerror(errno.EINTR))
                positions[info.fh] = offset + len(record)
            return record

        def truncate(self, path: str, length: int, fh: Any = None) -> int:
            return 0

        def write(self, path: str, data: bytes, offset: int, info: Any) -> int:
            if path == "/kmsg":
                log.written(data.decode(errors="replace"))
            elif path == "/inject":
                log.kernel_says(data.decode(errors="replace"))
            else:
                return sysfs.write(path, data)
            return len(data)

        def poll(self, path: str, info: Any, handle: Any, events: Any) -> int:
            if path != "/kmsg":
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            with log.grown:
                ready = select.EPOLLOUT
                if log.record_at(positions[info.fh]):
                    ready |= select.EPOLLIN
                if address := ctypes.cast(handle, ctypes.c_void_p).value:
                    polling.append(address)
            ctypes.cast(events, ctypes.POINTER(ctypes.c_uint))[0] = ready
            return 0

    try:
        start(mfusepy, Operations(), mountpoint)
    except RuntimeError as error:
        if error.args != (_ENDED_BY_SIGNAL,):
            raise


def start(mfusepy: Any, operations: Any, mountpoint: str) -> None:
    mfusepy.FUSE(
        operations,
        mountpoint,
        foreground=True,
        raw_fi=True,
        allow_other=True,
        default_permissions=True,
        attr_timeout=0,
        entry_timeout=0,
        negative_timeout=0,
        # Each write that waits for a holder takes one
        max_threads=64,
        fsname="mock-gpu",
    )


def main(words: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    (mountpoint,) = words
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    log = KernelLog()
    sysfs = Sysfs(Path(PATH), real(Path(REAL)), lambda: subprocess.run(["/usr/local/sbin/mock-gpu", "nodes"], check=False), log.kernel_says)
    serve(sysfs, log, mountpoint)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
