# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts that run in Ollama's pods, with a program `ollama` that keeps its models in files and notes what it was asked."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FILES = Path(__file__).parents[3] / "roles" / "ollama" / "files"
OLLAMA = """#!{python}
import json, os, pathlib, signal, sys
home = pathlib.Path(os.environ["FAKE"])
known, loaded = home / "known.json", home / "loaded.json"
read = lambda path: json.loads(path.read_text()) if path.exists() else {{}}
words = [word for word in sys.argv[1:] if not word.startswith("--")]
if words[0] not in ("list", "ps", "show", "serve"):
    (home / "asked").open("a").write(" ".join(words) + "\\n")
tag = lambda name: name if ":" in name else name + ":latest"
if words[0] == "serve":
    if (home / "broken").exists():
        sys.exit("it cannot start")
    (home / "up").touch(); signal.pause()
if not (home / "up").exists():
    sys.exit("no server")
models = read(known)
for path in pathlib.Path(os.environ["OLLAMA_MODELS"], "manifests").rglob("*"):
    if path.is_file():
        models.setdefault(path.parent.name + ":" + path.name, "0" * 12)
if words[0] in ("list", "ps"):
    print("NAME ID SIZE")
    for name, digest in (models if words[0] == "list" else read(loaded)).items():
        print(name, digest, "1 MB")
elif words[0] == "show":
    sys.exit(0 if tag(words[1]) in models else "not found")
elif words[0] in ("pull", "create", "cp"):
    if words[-1] == "missing:latest" or words[1] == "missing:latest":
        sys.exit("Error: no such model")
    name = tag(words[2]) if words[0] == "cp" else tag(words[1])
    models[name] = models[tag(words[1])] if words[0] == "cp" else name.encode().hex()[:12].ljust(12, "0")
    known.write_text(json.dumps(models))
elif words[0] == "run":
    if words[1].startswith("embed") and words[2] == "":
        sys.exit("embedding models require input text")
    if tag(words[1]) not in models:
        sys.exit("Error: no such model")
    loaded.write_text(json.dumps({{**read(loaded), tag(words[1]): models[tag(words[1])]}}))
"""


class Pod:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.imports = folder / "import"
        for made in (self.models, self.imports, folder / "bin"):
            made.mkdir()
        program = folder / "bin/ollama"
        program.write_text(OLLAMA.format(python=sys.executable))
        program.chmod(0o755)

    def run(self, script: str, *lines: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "list.txt").write_text("".join(f"{line}\n" for line in lines))
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "OLLAMA_MODELS": str(self.models),
            "IMPORTS": str(self.imports),
            "TMPDIR": str(self.folder),
        }
        command = ["sh", str(FILES / script), str(self.folder / "list.txt")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def asked(self) -> list[str]:
        file = self.folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def store(self, name: str, content: bytes = b"GGUF") -> str:
        blob = hashlib.sha256(content).hexdigest()
        (self.imports / "store/blobs").mkdir(parents=True, exist_ok=True)
        (self.imports / f"store/blobs/sha256-{blob}").write_bytes(content)
        manifest = self.imports / f"store/manifests/registry.ollama.ai/library/{name}/latest"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"layers": [{"digest": f"sha256:{blob}"}]}, separators=(",", ":")))
        return blob


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_what_is_missing_is_brought_and_what_is_there_stays(pod: Pod) -> None:
    (pod.imports / "tiny.gguf").write_bytes(b"GGUF")
    lines = (
        "pull llama:1b registry.ollama.ai/library/llama/1b ",
        "gguf tiny:latest registry.ollama.ai/library/tiny/latest tiny.gguf",
        "copy_of org/Model:latest registry.ollama.ai/org/Model/latest tiny",
    )
    first = pod.run("models.sh", *lines)
    assert (first.returncode, first.stderr) == (0, "")
    assert [line.split(" -f ")[0] for line in pod.asked()] == ["pull llama:1b", "create tiny:latest", "cp tiny org/Model:latest"]
    assert pod.run("models.sh", *lines).returncode == 0
    assert pod.asked() == ["cp tiny org/Model:latest"]
    # Another file under the same name
    (pod.imports / "tiny.gguf").write_bytes(b"GGUF, but longer")
    assert pod.run("models.sh", *lines).returncode == 0
    assert [line.split(" -f ")[0] for line in pod.asked()] == ["create tiny:latest", "cp tiny org/Model:latest"]


def test_store_is_copied_without_what_nobody_wants(pod: Pod) -> None:
    wanted, other = pod.store("wanted"), pod.store("other", b"other")
    line = "store wanted:latest registry.ollama.ai/library/wanted/latest store"
    assert pod.run("models.sh", line).returncode == 0
    blobs = pod.models / "blobs"
    assert [path.name for path in blobs.iterdir()] == [f"sha256-{wanted}"]
    assert other not in str([*pod.models.rglob("*")])
    # A copy that was broken off leaves another name behind, and is made again
    (blobs / f"sha256-{wanted}").rename(blobs / f"sha256-{wanted}.part")
    assert pod.run("models.sh", line).returncode == 0
    assert (blobs / f"sha256-{wanted}").read_bytes() == b"GGUF"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("pull missing:latest r/l/missing/latest ", "ollama pull missing:latest: Error: no such model"),
        ("gguf a:latest r/l/a/latest none.gguf", "none.gguf: ollama_import and the model's 'gguf' name a file"),
        ("store a:latest r/l/a/latest none", "manifests/r/l/a/latest: ollama_import and the model's 'store' name a folder"),
        ("guess a:latest r/l/a/latest ", "guess is no origin"),
    ],
)
def test_what_cannot_be_brought_ends_it(pod: Pod, line: str, says: str) -> None:
    done = pod.run("models.sh", line)
    assert done.returncode == 1
    assert says in done.stderr


def test_a_server_that_does_not_start_is_told(pod: Pod) -> None:
    (pod.folder / "broken").touch()
    done = pod.run("models.sh", "pull a:latest r/l/a/latest ")
    assert done.returncode == 1
    assert "the server ended: it cannot start" in done.stderr


def up(pod: Pod, **models: str) -> None:
    (pod.folder / "up").touch()
    (pod.folder / "known.json").write_text(json.dumps({f"{name}:latest": digest * 12 for name, digest in models.items()}))


def test_warm_loads_models_of_each_kind(pod: Pod) -> None:
    up(pod, one="1", embedder="2")
    assert pod.run("warm.sh", "one:latest", "embedder:latest").returncode == 0
    assert pod.asked() == ["run one:latest ", "run embedder:latest ", "run embedder:latest warm"]
    assert set(json.loads((pod.folder / "loaded.json").read_text())) == {"one:latest", "embedder:latest"}
    done = pod.run("warm.sh", "unknown:latest")
    assert done.returncode == 1
    assert "unknown:latest cannot be loaded: Error: no such model" in done.stderr


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ready_while_all_are_loaded_by_whichever_name(pod: Pod) -> None:
    up(pod, one="1", alias="1", two="2")
    loaded = pod.folder / "loaded.json"
    loaded.write_text(json.dumps({"one:latest": "1" * 12}))
    assert pod.run("ready.sh", "alias:latest").returncode == 0
    assert pod.run("ready.sh").returncode == 0
    done = pod.run("ready.sh", "one:latest", "two:latest")
    assert done.returncode == 1
    assert "not loaded: two:latest" in done.stderr
    # It is being loaded again meanwhile
    until(lambda: "two:latest" in loaded.read_text())
    until(lambda: pod.run("ready.sh", "one:latest", "two:latest").returncode == 0)


def test_not_ready_without_a_server_or_the_model(pod: Pod) -> None:
    done = pod.run("ready.sh", "one:latest")
    assert (done.returncode, "no server" in done.stderr) == (1, True)
    up(pod, one="1")
    assert pod.run("ready.sh", "removed:latest").returncode == 1
