"""What a row of data says: a text or an image and its label, or words and a label for each; and a sample of rows."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from optimodel.api.sources import Dataset
from optimodel.backends.arithmetic import MAX_TEXT_BYTES

T = TypeVar("T")
Label: TypeAlias = str | int
STANDARD = {"text": "tokens", "label": "tags"}
"""What data of words call what the API calls so: taken where a row has no field of the default name."""
IMAGE = "image"
"""What data of images call what the API calls `text`."""


@dataclass(frozen=True)
class Row:
    """One text, and its label or a label for each of its words (what white space separates), if it has any. The text of an image
    is its file in base64, as a request in JSON carries it."""

    text: str
    label: Label | tuple[Label, ...] | None = None

    @property
    def labels(self) -> tuple[Label, ...]:
        """All its labels; none where it has none."""
        if self.label is None:
            return ()
        return self.label if isinstance(self.label, tuple) else (self.label,)


def places(rows: Sequence[Row], names: Sequence[str]) -> dict[Label, int | None]:
    """What each label of the rows means to a head of these names: its place among them, None where it has none. A label is a name, or
    a whole number, as JSON writes it or as text, that counts the names from 0; if names are numbers themselves, a number is a name."""
    by_name = {name: place for place, name in enumerate(names)}
    counting = not any(name.isdecimal() for name in names)

    def place(label: Label) -> int | None:
        text = str(label)
        counted = int(text) if counting and text.isdecimal() else len(names)
        return by_name.get(text, counted if counted < len(names) else None)

    return {label: place(label) for row in rows for label in row.labels}


def sample(rows: Sequence[T], most: int) -> list[T]:
    """At most `most` rows, at even distances."""
    return list(rows) if len(rows) <= most else [rows[i * len(rows) // most] for i in range(most)]


class Reader(NamedTuple):
    """How a task reads the fields of a row; `wanted` says what a row has to hold that `read` gives no `Row` for, `trouble` why a
    row cannot be learnt from or answered, if that is so."""

    read: Callable[[Mapping[str, Any], Dataset], Row | None]
    wanted: str
    trouble: Callable[[Row], str]


def _is_label(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _text(fields: Mapping[str, Any], dataset: Dataset) -> Row | None:
    text, label = fields.get(dataset.text_field), fields.get(dataset.label_field)
    label = None if label == "" else label
    return Row(text, label) if isinstance(text, str) and (label is None or _is_label(label)) else None


def _words(fields: Mapping[str, Any], dataset: Dataset) -> Row | None:
    words, tags = (_list(fields, name) for name in (dataset.text_field, dataset.label_field))
    if not words or not all(isinstance(word, str) and word.split() == [word] for word in words):
        return None
    if tags is None:
        return Row(" ".join(words))
    return Row(" ".join(words), tuple(tags)) if len(tags) == len(words) and all(map(_is_label, tags)) else None


def _list(fields: Mapping[str, Any], name: str) -> list[Any] | None:
    """A list, or the words of a text; None where there is nothing, and an empty list for what is neither."""
    value = fields.get(name, fields.get(STANDARD.get(name, name)))
    if isinstance(value, str):
        return value.split() or None
    return value if isinstance(value, list) or value is None else []


def _text_trouble(row: Row) -> str:
    try:
        if len(f"{row.label} {row.text}".encode()) > MAX_TEXT_BYTES:
            return f"the text has more than {MAX_TEXT_BYTES >> 20} MiB. Cut it."
    except UnicodeEncodeError:
        return "a \\ud800 to \\udfff without its other half is no character. Write the text in UTF-8."
    return "" if row.text.strip() else "the text is empty. Remove it."


def _image(fields: Mapping[str, Any], dataset: Dataset) -> Row | None:
    """An image as hubs write it in Parquet, `{bytes, path}`, or as base64."""
    name = IMAGE if dataset.text_field == "text" else dataset.text_field
    found, label = fields.get(name), fields.get(dataset.label_field)
    if isinstance(found, dict):
        found = found.get("bytes")
    if isinstance(found, bytes):
        found = base64.b64encode(found).decode()
    label = None if label == "" else label
    return Row(found, label) if found and isinstance(found, str) and (label is None or _is_label(label)) else None


def _image_trouble(row: Row) -> str:
    """Every image is decoded once before there is work that waits for it."""
    from optimodel.backends import pixels

    try:
        pixels.opened(pixels.decode(row.text))
    except pixels.BadImage as error:
        return f"the image is refused: {error}."
    return ""


TEXT = Reader(_text, "a text and a label or nothing", _text_trouble)
WORDS = Reader(_words, "a list of words without white space and a list of as many labels or nothing", _text_trouble)
IMAGES = Reader(
    _image, "an image (base64, or in Parquet a struct with its bytes) and a label or nothing", _image_trouble
)
