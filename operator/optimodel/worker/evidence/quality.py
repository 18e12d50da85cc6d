"""Quality on held-out rows: how near the candidate's answers are to the baseline's, and how often both are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from optimodel.api.spec import Metric
from optimodel.recipes.gates import Measurement, Observed, quantile
from optimodel.recipes.paired import Pairs, f1

from ..data.rows import Row, places
from ..errors import Failure
from ..inference.answers import cosines
from ..inference.fronts import Array

Found = tuple[Mapping[Metric, Observed], dict[str, Any]]
"""For the gates, and for the report."""
NO_ANSWER = "(no answer)"
"""Stands for the label of a word that was cut off: a wrong one."""


def measured(
    before: Sequence[Array], after: Sequence[Array], rows: Sequence[Row], labels: Sequence[str], name: str
) -> Found:
    """Quality on the rows of the data `name`; `before` and `after` hold an answer for each. Raises `Failure`."""
    measurements, quality = _nearness(before, after)
    if labels and all(row.labels for row in rows):
        pairs, right = _rightness(before, after, rows, labels, name)
        measurements, quality = {**measurements, "Accuracy": pairs, "MacroF1": pairs}, quality | right
    return measurements, quality


def _nearness(before: Sequence[Array], after: Sequence[Array]) -> Found:
    """Cosines of the answers, each taken as one vector."""
    found = sorted(cosines(before, after).tolist())
    quality = {
        "samples": len(found),
        "cosineMean": fmean(found),
        "cosineP5": quantile(found, 0.05),
        "cosineMin": found[0],
    }
    measurements: Mapping[Metric, Observed] = {
        "CosineMean": Measurement("Mean", tuple(found)),
        "CosineP5": Measurement("Quantile", tuple(found), 0.05),
        "CosineMin": Measurement("Exact", (found[0],)),
    }
    return measurements, quality


def _rightness(
    before: Sequence[Array], after: Sequence[Array], rows: Sequence[Row], labels: Sequence[str], name: str
) -> tuple[Pairs, dict[str, Any]]:
    """Right answers of both, where every row has labels: one, or one for each word."""
    truth = _truth(rows, labels, name)
    was, now = ([place for answer in answers for place in _chosen(answer)] for answers in (before, after))
    words = any(isinstance(row.label, tuple) for row in rows)
    pairs = Pairs.of(truth, was, now, [len(row.labels) for row in rows] if words else ())
    quality: dict[str, Any] = {
        "accuracy": fmean(a == t for a, t in zip(now, truth, strict=True)),
        "baselineAccuracy": fmean(b == t for b, t in zip(was, truth, strict=True)),
        "macroF1": f1(pairs.cells, 2),
        "baselineMacroF1": f1(pairs.cells, 1),
        "confusion": {
            "labels": [*labels, NO_ANSWER] if words else list(labels),
            "cells": [[*cell, n] for cell, n in sorted(pairs.cells.items())],
        },
    }
    return pairs, quality | ({"words": len(truth)} if words else {})


def _chosen(scores: Array) -> list[int]:
    """The best label's place, of the text or of each word; one past the last where there is no answer."""
    table = np.atleast_2d(scores)
    found: list[int] = np.where(table.any(axis=1), table.argmax(axis=1), table.shape[1]).tolist()
    return found


def check(rows: Sequence[Row], labels: Sequence[str], name: str, *, counted: bool) -> None:
    """Whether rows on which right answers are `counted` all have labels, and labels, if all rows have one, are of these. Raises
    `Failure`."""
    if all(row.labels for row in rows):
        _truth(rows, labels, name)
    elif counted:
        message = f"{name!r} has rows without a label, and a gate counts right answers. Set the dataset's labelField."
        raise Failure("LabelMissing", message)


def _truth(rows: Sequence[Row], labels: Sequence[str], name: str) -> list[int]:
    """The places of all labels of the rows, one after another."""
    found = places(rows, labels)
    truth = [place for row in rows for label in row.labels if (place := found[label]) is not None]
    if unknown := [label for label, place in found.items() if place is None]:
        known = ", ".join(labels[:10])
        message = f"Dataset {name!r} has label {unknown[0]!r}; the model knows {known}. Rename the labels."
        raise Failure("LabelsUnknown", message)
    return truth
