"""The labels of training rows: names of a new head, or numbers of a head that is there."""

from __future__ import annotations

from collections.abc import Sequence

from ..dataset import Row
from ..errors import Failure


def of(rows: Sequence[Row], data: str) -> list[str]:
    """Names for a new head, in order. Whole numbers count from 0 and stand for themselves. Raises `Failure`."""
    found = {row.label for row in rows}
    if None in found:
        raise Failure("LabelMissing", f"A row of {data!r} has no label. Name its field in the dataset's `labelField`.")
    several(rows, data)
    numbers = sorted(label for label in found if isinstance(label, int))
    if not numbers:
        return sorted(str(label) for label in found)
    if numbers != list(range(len(found))):
        raise Failure(
            "LabelsMismatch",
            f"Labels of {data!r} are numbers, but not 0 to {len(found) - 1}. Count from 0, or use names.",
        )
    return [str(number) for number in numbers]


def several(rows: Sequence[Row], data: str) -> None:
    """Whether labels tell rows apart. Raises `Failure`."""
    if len({row.label for row in rows}) < 2:
        message = f"Every row of {data!r} has the label {rows[0].label!r}: there is nothing to learn. Add others."
        raise Failure("OneClass", message)


def numbered(rows: Sequence[Row], names: Sequence[str], data: str) -> list[int]:
    """Each row's label as a place in `names`. Raises `Failure` for a label that is not there."""
    places = {name: place for place, name in enumerate(names)}
    found = [row.label if isinstance(row.label, int) else places.get(str(row.label), -1) for row in rows]
    for row, place in zip(rows, found, strict=True):
        if not 0 <= place < len(names):
            raise Failure(
                "LabelsMismatch",
                f"Data {data!r} has label {row.label!r}; the model's head knows {', '.join(names[:10])}. "
                "Rename the labels, or let FineTune's method Head make a new head.",
            )
    return found
