"""A file's bytes become the fields of its rows: JSON Lines, or by its suffix CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from optimodel.api.sources import Dataset

from ..errors import Failure
from .rows import IMAGE, STANDARD

Placed: TypeAlias = Iterator[tuple[str, Any]]
"""Where a row is, such as `line 3`, and its fields; None for a line that cannot be read."""

MAX_UNPACKED_BYTES = 256 << 20
"""Of the wanted columns of a Parquet file, which may hold far more than its size says."""


def rows(data: bytes, place: str, dataset: Dataset) -> Placed:
    """The rows of the file that lay at `place`, whose suffix says what it is. Raises `Failure`."""
    suffix = PurePosixPath(place).suffix.lower()
    if suffix in (".arrow", ".feather", ".xlsx", ".zip", ".gz"):
        message = (
            f"Dataset {dataset.name!r} is a {suffix} file, which is not read. Save it as .jsonl, .csv or .parquet."
        )
        raise Failure("DataInvalid", message)
    return FORMATS.get(suffix, _json_lines)(data, dataset)


def _json_lines(data: bytes, dataset: Dataset) -> Placed:
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError):
                yield f"line {number}", None


def _csv(data: bytes, dataset: Dataset) -> Placed:
    """Rows under a header, as RFC 4180 writes them, in UTF-8."""
    csv.field_size_limit(len(data) + 1)
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for row in reader:
            yield f"line {reader.line_num}", row
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"Dataset {dataset.name!r} is not a CSV in UTF-8: {error}. Save it again with a header."
        raise Failure("DataInvalid", message) from error


def _parquet(data: bytes, dataset: Dataset) -> Placed:
    """Rows of the columns that a row may be read from, a batch at a time."""
    from arro3.io import read_parquet

    wanted = {*STANDARD.values(), IMAGE, dataset.text_field, dataset.label_field}
    number, unpacked = 0, 0
    try:
        for batch in read_parquet(io.BytesIO(data)):
            columns = {name: batch.column(name) for name in batch.column_names if name in wanted}
            unpacked += sum(column.nbytes for column in columns.values())
            if unpacked > MAX_UNPACKED_BYTES:
                limit = f"{MAX_UNPACKED_BYTES >> 20} MiB unpacked"
                raise Failure("DataTooLarge", f"Dataset {dataset.name!r} has more than {limit}. Name a sample of it.")
            nothing: list[tuple[Any, ...]] = [()] * batch.num_rows
            for values in zip(*columns.values(), strict=True) if columns else nothing:
                number += 1
                yield f"row {number}", {name: value.as_py() for name, value in zip(columns, values, strict=True)}
    except (Failure, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # the library is written in Rust: it panics on a damaged file, which is no Exception
        message = f"Dataset {dataset.name!r} is not Parquet that can be read: {' '.join(str(error).split())[:200]}."
        raise Failure("DataInvalid", f"{message} Write the file again.") from error


FORMATS: Mapping[str, Callable[[bytes, Dataset], Placed]] = {".csv": _csv, ".parquet": _parquet}
"""By suffix; everything else is JSON Lines."""
