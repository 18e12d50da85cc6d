"""Rows of a dataset: read, split into parts that share nothing, and sampled."""

from __future__ import annotations

import errno
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import obstore

from optimodel.api.contract import DATA_MOUNT
from optimodel.api.sources import Dataset, Split
from optimodel.artifacts import UnsafePath, open_prefix
from optimodel.artifacts.errors import translated
from optimodel.artifacts.manifest import safe

from ..claims import inside
from ..errors import Failure, naming
from . import formats
from .rows import TEXT, Reader, Row

MAX_BYTES = 64 << 20
MAX_ROWS, MAX_LABELLED_ROWS = 1000, 2000
"""Rows that a result is measured on, taken at even distances: for cosines, and where a gate counts right answers."""


def load(
    dataset: Dataset, environ: Mapping[str, str], mount: Path = Path(DATA_MOUNT), reader: Reader = TEXT
) -> list[Row]:
    """All rows of a dataset, in the file's order. Raises `Failure`."""
    rows = list(_rows(_read(dataset, environ, mount), dataset, reader))
    if not rows:
        raise Failure(
            "DataInvalid", f"Dataset {dataset.name!r} has no rows. Write one JSON object a line, a CSV or Parquet."
        )
    return rows


def part(rows: Sequence[Row], split: Split, name: str, dataset: str) -> list[Row]:
    """The rows of one part, in the file's order. Raises `Failure`.

    Of texts that are equal but for case and white space the first stays. Within each stratum (`_strata`) rows are ordered by
    the sha256 of `SEED`, a line feed and the text; part k takes those from round(n · c[k-1]) to round(n · c[k]), halves up,
    where c is the cumulative share. So no version of a library draws other parts, and a rare label reaches the first part
    first.
    """
    ends = [0]
    for item in split.parts:
        ends.append(ends[-1] + item.percent)
    number = [item.name for item in split.parts].index(name)
    by_label: dict[str, list[tuple[str, int]]] = {}
    seen: set[str] = set()
    for position, (row, stratum) in enumerate(zip(rows, _strata(rows), strict=True)):
        plain = " ".join(row.text.split()).casefold()
        if plain not in seen:
            seen.add(plain)
            drawn = hashlib.sha256(f"{split.seed}\n{row.text}".encode()).hexdigest()
            by_label.setdefault(stratum, []).append((drawn, position))
    chosen: list[int] = []
    for found in by_label.values():
        low, high = ((len(found) * end + 50) // 100 for end in ends[number : number + 2])
        chosen += [position for _, position in sorted(found)[low:high]]
    if not chosen:
        raise Failure(
            "EmptySplit",
            f"Part {name!r} of dataset {dataset!r} gets none of its {len(seen)} different texts"
            + (f", which are split label by label, and of {len(by_label)} labels" if len(by_label) > 1 else "")
            + ". Give it more percent, or the dataset more rows"
            + (" of each." if len(by_label) > 1 else "."),
        )
    return [rows[position] for position in sorted(chosen)]


def _strata(rows: Sequence[Row]) -> Iterator[str]:
    """By what each row is drawn: its label, and of the labels of words the one that the fewest rows have (as the first to be
    shared out by Sechidis et al. 2011)."""
    found = Counter(label for row in rows for label in set(row.labels))
    for row in rows:
        words = isinstance(row.label, tuple)
        yield str(min(row.labels, key=lambda label: (found[label], str(label))) if words else row.label)


def digest(rows: Sequence[Row]) -> str:
    """What the rows say, in their order: `sha256:<hex>`."""
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps([row.text, row.label]).encode() + b"\n")
    return f"sha256:{found.hexdigest()}"


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
        home = mount / dataset.name
        file = inside(home / safe(path), home)
        if file.exists() and not file.is_file():
            raise OSError(errno.EINVAL, "not a file")
        with file.open("rb") as stream:
            found = stream.read(MAX_BYTES + 1)
    except UnsafePath as error:
        raise Failure("UnsafePath", str(error)) from error
    except OSError as error:
        message = (
            f"Dataset {dataset.name!r}: {path!r} on the claim: {error.strerror}. Put the file there; this is retried."
        )
        raise Failure("DataNotFound", message, world=True) from error
    _bound(len(found), dataset.name)
    return found


def _bound(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise Failure(
            "DataTooLarge", f"Dataset {name!r} has more than {MAX_BYTES >> 20} MiB. Name a file with a sample of it."
        )


def _rows(data: bytes, dataset: Dataset, reader: Reader) -> Iterator[Row]:
    place = dataset.s3.url if dataset.s3 is not None else dataset.pvc.path if dataset.pvc else ""
    for where, found in formats.rows(data, place, dataset):
        row = reader.read(found, dataset) if isinstance(found, dict) else None
        if row is None:
            fields = f"{dataset.text_field!r} and {dataset.label_field!r}"
            message = f"Dataset {dataset.name!r}, {where}: {fields} are not {reader.wanted}, in UTF-8."
            raise Failure("DataInvalid", f"{message} Mend it, or set textField and labelField.")
        if why := reader.trouble(row):
            raise Failure("DataInvalid", f"Dataset {dataset.name!r}, {where}: {why}")
        yield row
