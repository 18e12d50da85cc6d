"""Texts and labels of a dataset: read, split into parts that share nothing, and sampled."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import obstore

from optimodel.api.contract import DATA_MOUNT
from optimodel.api.sources import Dataset, Split
from optimodel.artifacts import UnsafePath, open_prefix
from optimodel.artifacts.errors import translated
from optimodel.artifacts.manifest import safe

from .errors import Failure, naming

MAX_BYTES = 64 << 20
MAX_TEXT_BYTES = 1 << 20
"""Of a text: no longer one is ever served."""
MAX_ROWS, MAX_LABELLED_ROWS = 1000, 2000
"""Rows that a result is measured on, taken at even distances: for cosines, and where a gate counts right answers."""


@dataclass(frozen=True)
class Row:
    """One text and its label, if it has one."""

    text: str
    label: str | int | None = None


def load(dataset: Dataset, environ: Mapping[str, str], mount: Path = Path(DATA_MOUNT)) -> list[Row]:
    """All rows of a dataset, in the file's order. Raises `Failure`."""
    rows = list(_rows(_read(dataset, environ, mount), dataset))
    if not rows:
        raise Failure("DataInvalid", f"Dataset {dataset.name!r} has no rows. Write one JSON object a line, or a CSV.")
    return rows


def load_part(dataset: Dataset, name: str, environ: Mapping[str, str], mount: Path = Path(DATA_MOUNT)) -> list[Row]:
    """The rows of a part of the dataset's split; of the whole dataset for an empty name. Raises `Failure`."""
    rows = load(dataset, environ, mount)
    return part(rows, dataset.split, name, dataset.name) if name and dataset.split else rows


def part(rows: Sequence[Row], split: Split, name: str, dataset: str) -> list[Row]:
    """The rows of one part, in the file's order. Raises `Failure`.

    Of texts that are equal but for case and white space the first stays. Within each label rows are ordered by the sha256
    of `SEED`, a line feed and the text; part k takes those from round(n · c[k-1]) to round(n · c[k]), halves up, where c is
    the cumulative share. So no version of a library draws other parts, and a rare label reaches the first part first.
    """
    ends = [0]
    for item in split.parts:
        ends.append(ends[-1] + item.percent)
    number = [item.name for item in split.parts].index(name)
    by_label: dict[str, list[tuple[str, int]]] = {}
    seen: set[str] = set()
    for position, row in enumerate(rows):
        plain = " ".join(row.text.split()).casefold()
        if plain not in seen:
            seen.add(plain)
            drawn = hashlib.sha256(f"{split.seed}\n{row.text}".encode()).hexdigest()
            by_label.setdefault(str(row.label), []).append((drawn, position))
    chosen: list[int] = []
    for found in by_label.values():
        low, high = ((len(found) * end + 50) // 100 for end in ends[number : number + 2])
        chosen += [position for _, position in sorted(found)[low:high]]
    if not chosen:
        raise Failure(
            "EmptySplit",
            f"Part {name!r} of dataset {dataset!r} gets none of its {len(seen)} different texts. Give it more percent, "
            "or the dataset more rows.",
        )
    return [rows[position] for position in sorted(chosen)]


def sample(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows, at even distances."""
    return list(rows) if len(rows) <= most else [rows[i * len(rows) // most] for i in range(most)]


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
            "DataTooLarge", f"Dataset {name!r} has more than {MAX_BYTES >> 20} MiB. Name a file with a sample of it."
        )


def _rows(data: bytes, dataset: Dataset) -> Iterator[Row]:
    place = dataset.s3.url if dataset.s3 is not None else dataset.pvc.path if dataset.pvc else ""
    suffix = Path(place).suffix.lower()
    if suffix in (".parquet", ".arrow", ".feather", ".xlsx", ".zip", ".gz"):
        message = f"Dataset {dataset.name!r} is a {suffix} file, which is not read. Save it as .jsonl or .csv."
        raise Failure("DataInvalid", message)
    lines = _csv(data, dataset) if suffix == ".csv" else _json_lines(data)
    for number, found in lines:
        yield _row(found, number, dataset, suffix == ".csv")


def _json_lines(data: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _csv(data: bytes, dataset: Dataset) -> Iterator[tuple[int, Any]]:
    """Rows under a header, as RFC 4180 writes them, in UTF-8."""
    csv.field_size_limit(MAX_BYTES)
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for row in reader:
            yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"Dataset {dataset.name!r} is not a CSV in UTF-8: {error}. Save it again with a header."
        raise Failure("DataInvalid", message) from error


def _row(document: Any, number: int, dataset: Dataset, is_csv: bool) -> Row:
    text, label = (
        (document.get(f) for f in (dataset.text_field, dataset.label_field))
        if isinstance(document, dict)
        else (None, None)
    )
    label = None if label == "" else label
    if not isinstance(text, str) or isinstance(label, bool) or not (label is None or isinstance(label, (str, int))):
        field, other = dataset.text_field, dataset.label_field
        like = f"a column {field!r}" if is_csv else f'{{"{field}": "...", "{other}": "..."}}'
        raise Failure(
            "DataInvalid",
            f"Dataset {dataset.name!r}, line {number}: not like {like}, in UTF-8. Mend it, or set textField and labelField.",
        )
    _check_words(text, label, number, dataset.name)
    return Row(text, label)


def _check_words(text: str, label: str | int | None, number: int, name: str) -> None:
    """Whether a text can be learnt from and answered. Raises `Failure`."""
    why = "" if text.strip() else "the text is empty. Remove the line."
    try:
        if len(f"{label} {text}".encode()) > MAX_TEXT_BYTES:
            why = f"the text has more than {MAX_TEXT_BYTES >> 20} MiB. Cut it."
    except UnicodeEncodeError:
        why = "a \\ud800 to \\udfff without its other half is no character. Write the text in UTF-8."
    if why:
        raise Failure("DataInvalid", f"Dataset {name!r}, line {number}: {why}")
