# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a lab host mock GPUs, and let things happen to them.

python3 -m lab.gpu install rtx-3060-12gb        the library, nvidia-smi and one GPU, on k3s-gpu-worker
python3 -m lab.gpu lose                         it no longer answers, without a word
python3 -m lab.gpu xid 79 --gpu 1               the driver reports an error of the second GPU
python3 -m lab.gpu unplug                       the cable of its enclosure is pulled
python3 -m lab.gpu return                       all is well again
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lab.distribution.build.toolchain import ToolError
from lab.gpu import build
from lab.gpu.state import INIT_ERRORS, PATH, PATH_IN_CONTAINERS, PRODUCTS, SAVED, SIZE, Gpu, State, StateError, of_products, parsed, rendered, xid_line

CHECKOUT: Final = Path(__file__).resolve().parents[2]
HOST_FILES: Final = Path(__file__).resolve().parent / "host"
HOST: Final = "k3s-gpu-worker"
INJECT: Final = "/run/mock-gpu/tree/inject"
"""What is written here is in the host's kernel log."""
ON_HOST: Final = "/usr/local/lib/mock-gpu"
SCRIPTS: Final = ("mock-gpu", "mock-gpu-overlay")
UNITS: Final = ("mock-gpu.service", "mock-gpu-sysfs.service")


def on_host(host: str, command: str, given: bytes = b"") -> bytes:
    podman = CHECKOUT / ".lab/podman"
    if not podman.exists():
        raise StateError("there is no lab of this checkout. Make one: make lab-up")
    done = subprocess.run([str(podman), "exec", "--interactive", host, "sh", "-c", command], input=given, capture_output=True, check=False)
    if done.returncode:
        raise StateError(f"{host}: {done.stderr.decode(errors='replace').strip() or f'ended with {done.returncode}'}")
    return done.stdout


def put(host: str, path: str, content: bytes, mode: str) -> None:
    """In one step: whoever reads never sees half of it."""
    folder = path.rpartition("/")[0]
    on_host(host, f"mkdir -p {folder} && cat >{path}.new && chmod {mode} {path}.new && mv {path}.new {path}", content)


def put_state(host: str, state: State) -> None:
    """Into the file itself, and in one write: containers hold this very file, and nobody may see half of it."""
    folders = f"{PATH.rpartition('/')[0]} {PATH_IN_CONTAINERS.rpartition('/')[0]}"
    write = f"dd of={PATH} bs={SIZE} iflag=fullblock conv=notrunc status=none"
    on_host(host, f"mkdir -p {folders} && {write} && ln -f {PATH} {PATH_IN_CONTAINERS}", rendered(state).encode())


def install(host: str, driver: str) -> None:
    made = build.build()
    libraries = on_host(host, "dirname $(ldconfig -p | awk '$1 == \"libc.so.6\" {print $NF; exit}')").decode().strip()
    for library in (build.LIBRARY, build.CUDA):
        put(host, f"{libraries}/{library.removesuffix('.1')}.{driver}", (made / library).read_bytes(), "0755")
    for program in (build.PROGRAM, *build.MPS_PROGRAMS):
        put(host, f"/usr/bin/{program}", (made / program).read_bytes(), "0755")
    on_host(host, f"ldconfig && ln -sf libcuda.so.1 {libraries}/libcuda.so")
    files = {f"/usr/local/sbin/{name}": HOST_FILES / name for name in SCRIPTS}
    for path, source in files.items():
        put(host, path, source.read_bytes(), "0755")
    files = {f"{ON_HOST}/{path.relative_to(CHECKOUT)}": path for path in [*sorted(HOST_FILES.glob("*.py")), HOST_FILES.parent / "state.py"]}
    files |= {f"{ON_HOST}/mfusepy.py": build.fuse_binding()}
    files |= {f"/etc/systemd/system/{name}": HOST_FILES / name for name in UNITS}
    for path, source in files.items():
        put(host, path, source.read_bytes(), "0644")
    on_host(host, f"systemctl daemon-reload && systemctl --quiet enable {' '.join(UNITS)}")


def start_serving(host: str) -> None:
    """Anew, since its files may have changed."""
    on_host(host, f"systemctl restart {UNITS[1]}")


def uninstall(host: str) -> None:
    """All of it; also where it was installed in part only."""
    on_host(
        host,
        f"systemctl --quiet disable --now {' '.join(reversed(UNITS))} || true; "
        "if [ -x /usr/local/sbin/mock-gpu-overlay ]; then mock-gpu-overlay undo; fi; "
        "if [ -x /usr/local/sbin/mock-gpu ]; then mock-gpu stop; fi; "
        f"rm -rf {ON_HOST} {SAVED.rpartition('/')[0]} "
        f"{' '.join(f'/usr/bin/{name}' for name in (build.PROGRAM, *build.MPS_PROGRAMS))} {' '.join(f'/usr/local/sbin/{name}' for name in SCRIPTS)} "
        f"{' '.join(f'/etc/systemd/system/{name}' for name in UNITS)}; "
        "folder=$(dirname $(ldconfig -p | awk '$1 == \"libc.so.6\" {print $NF; exit}')); "
        'rm -f "$folder"/libnvidia-ml.so* "$folder"/libcuda.so*; ldconfig; systemctl daemon-reload',
    )


def removed(state: State, options: argparse.Namespace) -> State:
    return state.changed_by(options.gpu, Gpu.gone)


def returned(state: State, _options: argparse.Namespace) -> State:
    well: dict[str, Any] = {"present": True, "lost": False, "plugged": True, "authorized": True, "absent": frozenset(), "unbound": frozenset()}
    return replace(state, init_error=0, hang=False, gpus=tuple(replace(gpu, **well) for gpu in state.gpus))


def unplugged(state: State, options: argparse.Namespace) -> State:
    return state.in_enclosure(options.gpu).changed_by(options.gpu, Gpu.unplugged).with_xid(options.gpu, 79)


def plugged(state: State, options: argparse.Namespace) -> State:
    at = state.in_enclosure(options.gpu)
    if options.address:
        at = at.changed(options.gpu, next_address=options.address)
    return at.changed_by(options.gpu, lambda gpu: gpu.with_cable(authorized=not options.unauthorized))


CHANGES: Final[dict[str, Callable[[State, argparse.Namespace], State]]] = {
    "lose": lambda state, options: state.changed(options.gpu, lost=True),
    "remove": removed,
    "return": returned,
    "unplug": unplugged,
    "plug": plugged,
    "move": lambda state, options: state.changed(options.gpu, next_address=options.address),
    "deauthorization": lambda state, options: replace(state, deauthorization=options.possible == "on"),
    "xid": lambda state, options: state.with_xid(options.gpu, options.number),
    "hang": lambda state, _options: replace(state, hang=True),
    "fail": lambda state, options: replace(state, init_error=INIT_ERRORS[options.error]),
}


def pci_address(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.0", text) or int(text.split(":")[1], 16) < 3:
        raise argparse.ArgumentTypeError(f"{text}: not like 0000:3f:00.0, with a bus from 03 on")
    return text


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m lab.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default=HOST, help=f"which host of the lab; {HOST} by default")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {"install": "library, nvidia-smi and GPUs", "swap": "other GPUs in the place of those that are there"}.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("products", nargs="+", choices=sorted(PRODUCTS), metavar="PRODUCT", help=", ".join(PRODUCTS))
        command.add_argument("--external", action="store_true", help="all of them in Thunderbolt enclosures")
        command.add_argument("--external-gpu", type=int, action="append", default=[], metavar="N", help="only this one of them; may be repeated")
    for name, text in {
        "lose": "a GPU no longer answers",
        "remove": "a GPU is no longer there",
        "unplug": "the cable of a GPU's enclosure is pulled",
    }.items():
        commands.add_parser(name, help=text).add_argument("--gpu", type=int, default=0)
    command = commands.add_parser("plug", help="the cable is put in again")
    command.add_argument("--gpu", type=int, default=0)
    command.add_argument("--unauthorized", action="store_true", help="the enclosure waits for somebody to authorize it")
    command.add_argument("--address", type=pci_address, help="where the GPU will be")
    command = commands.add_parser("move", help="where the kernel puts a removed GPU at the next rescan")
    command.add_argument("address", type=pci_address)
    command.add_argument("--gpu", type=int, default=0)
    command = commands.add_parser("deauthorization", help="whether the Thunderbolt domain can take an authorization back")
    command.add_argument("possible", choices=("on", "off"))
    commands.add_parser("uninstall", help="all that install brought goes")
    commands.add_parser("return", help="all GPUs are there and answer")
    commands.add_parser("hang", help="whoever asks the driver hangs, until return")
    command = commands.add_parser("xid", help="the driver reports an error of a GPU")
    command.add_argument("number", type=int)
    command.add_argument("--gpu", type=int, default=0)
    commands.add_parser("fail", help="the library cannot be started").add_argument("error", choices=sorted(INIT_ERRORS))
    commands.add_parser("show", help="what the state file says")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    options = arguments(words)
    try:
        if options.command == "show":
            sys.stdout.write(on_host(options.host, f"cat {PATH}").decode())
            return 0
        if options.command == "uninstall":
            uninstall(options.host)
            return 0
        if options.command in ("install", "swap"):
            state = of_products(options.products, range(len(options.products)) if options.external else options.external_gpu)
            if options.command == "install":
                install(options.host, state.driver)
        else:
            before = parsed(on_host(options.host, f"cat {PATH}").decode())
            state = CHANGES[options.command](before, options)
        put_state(options.host, state)
        if options.command in ("install", "swap"):
            on_host(options.host, f"mkdir -p {SAVED.rpartition('/')[0]} && cp {PATH} {SAVED}")
        on_host(options.host, "mock-gpu show")
        if options.command in ("xid", "unplug"):
            gpu = before.gpus[options.gpu]
            on_host(options.host, f"cat >{INJECT}", xid_line(gpu.pci_address, state.gpus[options.gpu].xid).encode())
        if options.command == "install":
            start_serving(options.host)
    except (StateError, build.BuildError, ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
