"""Held-out text: JSON Lines with `text`, and `label` where a metric needs one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import obstore

from optimodel.api.contract import DATA_MOUNT
from optimodel.api.spec import Dataset
from optimodel.artifacts import UnsafePath, open_prefix
from optimodel.artifacts.errors import translated
from optimodel.artifacts.manifest import safe

from .errors import Failure, naming

MAX_BYTES = 64 << 20
MAX_ROWS = 1000
"""Rows used, taken at even distances."""


@dataclass(frozen=True)
class Row:
    """One text and its label, if it has one."""

    text: str
    label: str | int | None = None


def load(dataset: Dataset, environ: Mapping[str, str], mount: Path = Path(DATA_MOUNT)) -> list[Row]:
    """At most `MAX_ROWS` rows of a dataset. Raises `Failure`."""
    data = _read(dataset, environ, mount)
    rows = [_row(line, number, dataset.name) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    if not rows:
        raise Failure("DataInvalid", f"Dataset {dataset.name!r} has no rows. Write one JSON object with `text` a line.")
    if len(rows) <= MAX_ROWS:
        return rows
    return [rows[i * len(rows) // MAX_ROWS] for i in range(MAX_ROWS)]


def _read(dataset: Dataset, environ: Mapping[str, str], mount: Path) -> bytes:
    if dataset.s3 is not None:
        folder, _, name = dataset.s3.url.rpartition("/")
        with naming("Data"), translated(dataset.s3.url):
            store = open_prefix(msgspec.structs.replace(dataset.s3, url=folder), f"data-{dataset.name}", environ)
            answer = obstore.get(store, name)
            _bound(answer.meta["size"], dataset.name)
            return bytes(answer.bytes())
    path = dataset.pvc.path.strip("/") if dataset.pvc else ""
    try:
        file = mount / dataset.name / safe(path)
        _bound(file.stat().st_size, dataset.name)
        return file.read_bytes()
    except UnsafePath as error:
        raise Failure("UnsafePath", str(error)) from error
    except OSError as error:
        message = (
            f"Dataset {dataset.name!r}: {path!r} on the claim: {error.strerror}. Put the file there; this is retried."
        )
        raise Failure("DataNotFound", message, world=True) from error


def _bound(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise Failure(
            "DataTooLarge", f"Dataset {name!r} has more than {MAX_BYTES >> 20} MiB. Give the gate a sample of it."
        )


def _row(line: bytes, number: int, name: str) -> Row:
    try:
        document = json.loads(line)
        text, label = document["text"], document.get("label")
    except (ValueError, KeyError, TypeError, AttributeError):
        text = label = None
    if not isinstance(text, str) or not (label is None or isinstance(label, (str, int))):
        raise Failure("DataInvalid", f'Dataset {name!r}, line {number}: not like {{"text": "...", "label": "..."}}.')
    return Row(text, label)
