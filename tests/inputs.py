"""A Job on the files of a folder: its input, and a run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from optimodel.api.contract import JobInput, Result
from optimodel.api.sources import S3, Artifacts, Dataset, Part, Source, Split
from optimodel.api.spec import Shape
from optimodel.api.steps import Step
from optimodel.artifacts import Store, open_store
from optimodel.worker.board import Board, lines
from optimodel.worker.pipeline import Pipeline
from optimodel.worker.workshop import Workshop

PARTS = Split((Part("train", 60), Part("test", 40)))


def dataset(folder: Path, name: str = "d", file: str = "rows.jsonl", split: Split | None = None) -> Dataset:
    """A file of the folder."""
    return Dataset(name, s3=S3(f"file://{folder}/{file}"), split=split)


def job(folder: Path, *steps: Step, source: str = "tiny", **changes: Any) -> JobInput:
    """The model in `source` is a classifier; rows and store lie beside it; one small shape is measured."""
    wanted = JobInput(
        model="m",
        namespace="team-a",
        revision="-".join(step.name for step in steps),
        evaluation="e1",
        task="TextClassification",
        source=Source(s3=S3(f"file://{folder}/{source}")),
        artifacts=Artifacts(s3=S3(f"file://{folder}/store")),
        steps=steps,
        data=(dataset(folder),),
        shapes=(Shape(1, 16),),
    )
    return msgspec.structs.replace(wanted, **changes)


def run(wanted: JobInput, work: Path, board: Board | None = None) -> tuple[Result, Store]:
    """The result of the Job, told on the board, and its store. Raises `Failure`."""
    work.mkdir(exist_ok=True)
    store = open_store(wanted.artifacts, wanted.namespace, {})
    return Pipeline(Workshop(wanted, store, board or Board(lines(wanted)), work, {}, 1)).run(), store


def other_image(monkeypatch: Any, folder: Path, package: str) -> None:
    """From here on the machine has another version of the package, as far as anybody asks for it."""
    told = folder / f"{package}-99.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(folder)
