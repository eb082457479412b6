# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the model server's container image: Debian's Python, llama.cpp (xllamacpp), a tiny model.

Run from the repository's root: `python3 -m lab.models.build`. The result is cached by the content of everything it is made of, outside the checkout;
the last line printed names it. `--print` only tells where it is or will be.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lab import container_image
from lab.distribution.build import toolchain
from lab.models import python_base, tiny_model

REPOSITORY: Final = "localhost/homelab-lab/model-server"
HERE: Final = Path(__file__).resolve().parent
INPUTS: Final = (
    *(HERE / name for name in ("gguf_file.py", "tiny_model.py", "server.py", "build.py")),
    *python_base.INPUTS,
)


def model_entry(path: str = f"models/{tiny_model.NAME}.gguf") -> container_image.Entry:
    """The tiny model as a file of an image."""
    content = io.BytesIO()
    tiny_model.model().write(content)
    return container_image.Entry(path, 0o644, data=content.getvalue())


def image_names(key: str) -> list[str]:
    """A steady name, and one that is true of this content only."""
    return [f"{REPOSITORY}:1", f"{REPOSITORY}:{key}"]


def build(done: Path, names: Sequence[str], say: Callable[[str], None]) -> None:
    layers = python_base.layers(say)
    with tempfile.TemporaryDirectory(prefix="model-server-", dir=done.parent) as work:
        say("making the model")
        model = model_entry()
        layers.append(container_image.write_layer(Path(work, "app.tar"), [model, container_image.file("app/server.py", HERE / "server.py", 0o644)]))
        say("asking the model a question")
        question = ["/usr/bin/python3", "/app/server.py", "--host", "127.0.0.1", "--question", "ping"]
        answer = python_base.run_inside(layers, question, "asking the model")
        if answer.strip() != "pong":
            raise python_base.BuildError(f"the model answered {answer!r} instead of 'pong'")
        images = [
            container_image.Image(name, layers, entrypoint=["/usr/bin/python3", "/app/server.py"], user="65534:65534", env=python_base.ENVIRONMENT)
            for name in names
        ]
        archive = done / "model-server.tar"
        container_image.write_archive(archive, images)
        with archive.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        (done / "archive.json").write_text(json.dumps({"size": archive.stat().st_size, "sha256": sha256}) + "\n")
        (done / f"{tiny_model.NAME}.gguf").write_bytes(model.data or b"")


def progress(started: float) -> Callable[[str], None]:
    numbers: Iterator[int] = iter(range(1, 100))

    def say(what: str) -> None:
        print(f"model server [{next(numbers)}/4] {time.monotonic() - started:5.1f} s  {what}", flush=True)

    return say


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--print", action="store_true", help="tell image, archive, size and sha256 as JSON (the last two null before a build)")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        suite, _vendor = python_base.suite_of_this_host()
        key = python_base.content_key(container_image.machine_architecture(), suite, INPUTS)
        names = image_names(key)
        output = toolchain.cache_directory() / "images" / f"model-server-{key}"
        archive = output / "model-server.tar"
        if chosen.print:
            known = json.loads((output / "archive.json").read_text()) if archive.is_file() else {"size": None, "sha256": None}
            print(json.dumps({"image": names[-1], "archive": str(archive), **known}))
            return 0
        with python_base.made_once(output) as done:
            if done:
                build(done, names, progress(started))
    except (python_base.BuildError, container_image.ImageError) as error:
        print(f"model server: {error}", file=sys.stderr)
        return 1
    print(f"model server: {names[-1]} in {archive} ({archive.stat().st_size / 1e6:.0f} MB, {time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
