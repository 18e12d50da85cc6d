"""The labels of training rows: names of a new head, or numbers of a head that is there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..data.rows import Row, places
from ..errors import Failure

DIGITS = re.compile("([0-9]+)")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def of(rows: Sequence[Row], data: str) -> list[str]:
    """Names for a new head, in order. Whole numbers count from 0 and stand for themselves. Raises `Failure`."""
    found = {label for row in rows for label in row.labels}
    if not all(row.labels for row in rows):
        raise Failure("LabelMissing", f"A row of {data!r} has no label. Name its field in the dataset's `labelField`.")
    several(rows, data)
    numbers = sorted(label for label in found if isinstance(label, int))
    if not numbers:
        return _ordered({str(label) for label in found})
    if numbers != list(range(len(found))):
        raise Failure(
            "LabelsMismatch",
            f"Labels of {data!r} are numbers, but not 0 to {len(found) - 1}. Count from 0, or use names.",
        )
    return [str(number) for number in numbers]


def _ordered(names: set[str]) -> list[str]:
    """Numbers by their size; other names by the alphabet, but for the numbers in them: `10 stars` comes after `2 stars`."""
    if all(NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), len(name), name))
    return sorted(names, key=lambda name: ([*map(_size, DIGITS.split(name))], name))


def _size(piece: str) -> tuple[int, str]:
    """Of digits as many as count, for they may be more than Python reads as a number; other pieces are compared as they are."""
    digits = piece.lstrip("0")
    return (len(digits), digits) if DIGITS.fullmatch(piece) else (0, piece)


def several(rows: Sequence[Row], data: str) -> None:
    """Whether labels tell rows apart. Raises `Failure`."""
    if len({label for row in rows for label in row.labels}) < 2:
        message = f"Every labelled row of {data!r} has the label {rows[0].labels[0]!r}: there is nothing to learn. Add others."
        raise Failure("OneClass", message)


def numbered(rows: Sequence[Row], names: Sequence[str], data: str) -> list[list[int]]:
    """Each row's labels as places in `names`. Raises `Failure` for a label that is not there."""
    found = places(rows, names)
    known = {label: place for label, place in found.items() if place is not None}
    if len(known) < len(found):
        label = next(label for label in found if label not in known)
        raise Failure(
            "LabelsMismatch",
            f"Data {data!r} has label {label!r}; the model's head knows {', '.join(names[:10])}. "
            "Rename the labels, or let FineTune's method Head make a new head.",
        )
    return [[known[label] for label in row.labels] for row in rows]
