# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a write into a sysfs attribute does to the state: as the kernel would, with its errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from lab.gpu.host.pci_tree import DRIVERS, Function, Slots, functions_of, functions_on_the_bus, router
from lab.gpu.state import Gpu, State

_BELOW: Final = {"upstream": ("upstream", "downstream", "gpu", "audio"), "downstream": ("downstream", "gpu", "audio")}


@dataclass(frozen=True)
class Effect:
    """C(change) may be applied once nobody holds the GPUs in C(waits_for), by minor numbers."""

    change: Callable[[State], State]
    waits_for: frozenset[int] = frozenset()


def effect_of(state: State, slots: Slots, path: str, written: str, holders: Callable[[int], bool]) -> Effect:
    """C(path) is below /sys. Raises OSError as the write would."""
    text = written.strip()
    name = path.rpartition("/")[2]
    if name in ("bind", "unbind"):
        return _driver(state, slots, path.split("/")[-2], name, text)
    if name == "authorized":
        return _authorized(state, slots, path, text, holders)
    if name == "control":
        return _power(state, slots, path, text)
    if name == "rescan":
        return Effect((lambda now: replace(now, gpus=tuple(gpu.found() for gpu in now.gpus))) if _yes(text) else _nothing)
    if name == "remove":
        return _remove(state, slots, path) if _yes(text) else Effect(_nothing)
    # Of no consequence here
    return Effect(_nothing)


def _nothing(state: State) -> State:
    return state


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _yes(text: str) -> bool:
    try:
        return int(text, 0) != 0
    except ValueError:
        raise _error(errno.EINVAL) from None


def _changed(function: Function, change: Callable[[Gpu], Gpu]) -> Callable[[State], State]:
    return lambda now: replace(now, gpus=tuple(change(gpu) if gpu.minor == function.gpu else gpu for gpu in now.gpus))


def _function(state: State, slots: Slots, path: str) -> tuple[Gpu, Function]:
    for gpu in state.gpus:
        for function in functions_on_the_bus(gpu, slots):
            if function.path == path:
                return gpu, function
    raise _error(errno.ENODEV)


def _driver(state: State, slots: Slots, driver: str, action: str, address: str) -> Effect:
    for gpu in state.gpus:
        for function in functions_on_the_bus(gpu, slots):
            if function.address != address or DRIVERS[function.role] != driver or function.role not in ("gpu", "audio"):
                continue
            if (function.role in gpu.unbound) == (action == "unbind"):
                raise _error(errno.ENODEV if action == "unbind" else errno.EBUSY)
            if action == "bind":
                return _bound(gpu, function)
            return _unbound(gpu, function)
    raise _error(errno.ENODEV)


def _bound(gpu: Gpu, function: Function) -> Effect:
    if gpu.lost:
        raise _error(errno.EIO)
    return Effect(_changed(function, lambda now: replace(now, unbound=now.unbound - {function.role}).settled()))


def _unbound(gpu: Gpu, function: Function) -> Effect:
    waits_for = frozenset({gpu.minor}) if function.role == "gpu" else frozenset()
    return Effect(_changed(function, lambda now: replace(now, unbound=now.unbound | {function.role}).settled()), waits_for)


def _remove(state: State, slots: Slots, path: str) -> Effect:
    gpu, function = _function(state, slots, path.rpartition("/")[0])
    there = {one.role for one in functions_of(gpu, slots)}
    # Of a root port only what is below goes: nothing would bring the port itself back
    roles = there - {"port"} if function.role == "port" else there & {*_BELOW.get(function.role, (function.role,))}
    waits_for = frozenset({gpu.minor}) if "gpu" in roles and "gpu" not in gpu.absent | gpu.unbound else frozenset()
    return Effect(_changed(function, lambda now: replace(now, absent=now.absent | roles).settled()), waits_for)


def _power(state: State, slots: Slots, path: str, text: str) -> Effect:
    if text not in ("on", "auto"):
        raise _error(errno.EINVAL)
    if not path.rpartition("/")[0].rpartition("/")[0].startswith("/devices/pci"):
        return Effect(_nothing)
    try:
        _gpu, function = _function(state, slots, path.rpartition("/")[0].rpartition("/")[0])
    except OSError:
        # The controller's
        return Effect(_nothing)
    return Effect(_changed(function, lambda now: replace(now, power=tuple(sorted({**dict(now.power), function.role: text}.items())))))


def _authorized(state: State, slots: Slots, path: str, text: str, holders: Callable[[int], bool]) -> Effect:
    gpu = next((gpu for gpu in state.gpus if gpu.external and gpu.plugged and router(gpu) == path.split("/")[-2]), None)
    if gpu is None:
        raise _error(errno.ENODEV)
    if text not in ("0", "1") or (text == "1") == gpu.authorized:
        raise _error(errno.EINVAL)
    port = functions_of(gpu, slots)[0]
    if text == "1":
        return Effect(_changed(port, lambda now: now.with_cable(authorized=True)))
    if not state.deauthorization:
        raise _error(errno.EPERM)
    held = holders(gpu.minor)
    # To the driver the tunnel's end is a cable that was pulled
    after = _changed(port, lambda now: now.without_tunnel(held=held))
    return Effect(lambda now: after(now).with_xid(state.gpus.index(gpu), 79) if held else after(now))
