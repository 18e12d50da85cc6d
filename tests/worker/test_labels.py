"""A label means one thing: what a training learns by it is what the evidence counts as right."""

from __future__ import annotations

import numpy as np
import pytest

from optimodel.worker.data.rows import Row
from optimodel.worker.errors import Failure
from optimodel.worker.evidence import quality
from optimodel.worker.training import labels

STARS = ["1", "2", "3", "4", "5"]
OF_A_CSV = sorted(map(str, range(12)))
SIDES = ["NEG", "POS"]


def rows(*found):
    return [Row(f"text {number}", label) for number, label in enumerate(found)]


@pytest.mark.parametrize(
    ("names", "found", "wanted"),
    [
        (STARS, [1, 2, 3, 4, 5], [0, 1, 2, 3, 4]),
        (OF_A_CSV, [10, "10", 2, "2"], [2, 2, 4, 4]),
        (SIDES, [1, "1", "POS", 0, "NEG"], [1, 1, 1, 0, 0]),
        (["LABEL_0", "LABEL_1"], ["1", "LABEL_0", 0], [1, 0, 0]),
        (["-1", "0", "1"], [-1, 0, 1], [0, 1, 2]),
    ],
)
def test_training_and_evidence_read_a_label_alike(names, found, wanted):
    assert [place for (place,) in labels.numbered(rows(*found), names, "d")] == wanted
    answers = list(np.eye(len(names), dtype=np.float32)[wanted])
    _, told = quality.measured(answers, answers, rows(*found), names, "d")
    assert told["accuracy"] == 1.0


@pytest.mark.parametrize(
    "wanted",
    [
        [str(number) for number in range(12)],
        ["-10", "-2", "0", "0.5", "+3", "10"],
        ["1", "01", "1.0", "2"],
        ["1 star", "2 stars", "10 stars", "none"],
        ["B-LOC", "I-LOC", "O"],
        ["A", "B", "a"],
        ["grade 9", "grade 10", "grade 10b", "grade 010c"],
        ["1e3", "2", "x"],
        ["label " + "9" * 5000, "label 1" + "0" * 5000],
    ],
    ids=lambda wanted: wanted[0][:8],
)
def test_a_new_head_has_its_names_in_the_order_that_people_count_in(wanted):
    for shift in range(len(wanted)):
        assert labels.of(rows(*wanted[shift:], *wanted[:shift], *reversed(wanted)), "d") == wanted


def test_whole_numbers_are_told_in_their_order():
    assert labels.of(rows(*reversed(range(12))), "d") == [str(number) for number in range(12)]


@pytest.mark.parametrize(("names", "label"), [(STARS, 0), (STARS, "0"), (OF_A_CSV, 12), (SIDES, 2), (SIDES, "neg")])
def test_a_label_that_is_no_name_and_counts_none_is_refused_by_both(names, label):
    known = labels.numbered(rows(names[0]), names, "d")
    assert known == [[0]]
    with pytest.raises(Failure, match=f"has label {label!r}") as learning:
        labels.numbered(rows(names[0], label), names, "d")
    with pytest.raises(Failure, match=f"has label {label!r}") as judging:
        quality.check(rows(names[0], label), names, "d", counted=False)
    assert (learning.value.reason, judging.value.reason) == ("LabelsMismatch", "LabelsUnknown")


def test_the_labels_of_words_too():
    words = [Row("how far", (10, "2"))]
    assert labels.numbered(words, OF_A_CSV, "d") == [[2, 4]]


def test_a_row_without_a_label_matters_where_right_answers_are_counted():
    quality.check(rows("NEG", None), SIDES, "d", counted=False)
    with pytest.raises(Failure, match="labelField") as caught:
        quality.check(rows("NEG", None), SIDES, "d", counted=True)
    assert caught.value.reason == "LabelMissing"
