"""Small pictures whose label is what is brighter than the noise: a row, a column, or a dot."""

from __future__ import annotations

import numpy as np

from optimodel.worker.data.rows import Row
from optimodel.worker.source import images

LABELS = ["column", "dot", "row"]


def files(count: int, seed: int = 0) -> list[tuple[bytes, str]]:
    """PNG files of 20 x 24, and their labels."""
    chance, found = np.random.default_rng(seed), []
    for number in range(count):
        label = LABELS[number % 3]
        values = chance.integers(0, 90, (20, 24, 3))
        y, x = chance.integers(0, 14, 2)
        down, across = slice(None) if label == "column" else slice(y, y + 6), slice(x, x + 6)
        values[down, slice(None) if label == "row" else across] += 150
        found.append((images.png(values.astype(np.uint8)), label))
    return found


def fields(count: int, seed: int = 0) -> list[dict[str, str]]:
    """As a line of JSON holds them."""
    return [{"image": images.text(data), "label": label} for data, label in files(count, seed)]


def rows(count: int, seed: int = 0) -> list[Row]:
    """As steps read them."""
    return [Row(images.text(data), label) for data, label in files(count, seed)]
