"""Rows are read as the spec says, and parts share nothing, whoever draws them."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from optimodel.api.sources import PVC, Dataset, Part, Split
from optimodel.worker.data import dataset
from optimodel.worker.data.dataset import Row, part
from optimodel.worker.data.rows import TEXT
from optimodel.worker.data.shelf import Shelf
from optimodel.worker.errors import Failure

THIRDS = Split((Part("train", 60), Part("validation", 20), Part("test", 20)))


def write(tmp_path, name, text):
    (tmp_path / "d").mkdir(exist_ok=True)
    (tmp_path / "d" / name).write_bytes(text.encode())
    return Dataset("d", pvc=PVC("claim", name))


def refused(reason, action, *arguments):
    with pytest.raises(Failure) as caught:
        action(*arguments)
    assert caught.value.reason == reason
    return caught.value.message


def test_csv_with_quotes_newlines_and_own_columns(tmp_path):
    text = '\ufeffquestion,kind,note\r\n"How far, and\nwhy?",NUM,x\r\nWho?,,y\r\n'
    given_fields = {"text_field": "question", "label_field": "kind"}
    found = Dataset("d", pvc=write(tmp_path, "a.CSV", text).pvc, **given_fields)
    assert dataset.load(found, {}, tmp_path) == [Row("How far, and\nwhy?", "NUM"), Row("Who?", None)]
    wrong = Dataset("d", pvc=found.pvc)
    assert "textField" in refused("DataInvalid", dataset.load, wrong, {}, tmp_path)


def test_files_that_are_not_read_say_what_is(tmp_path):
    assert ".parquet" in refused("DataInvalid", dataset.load, write(tmp_path, "a.xlsx", "PK"), {}, tmp_path)
    refused("DataInvalid", dataset.load, write(tmp_path, "a.csv", 'text\n"open'), {}, tmp_path)
    refused("DataInvalid", dataset.load, write(tmp_path, "a.jsonl", '{"text": "a", "label": true}'), {}, tmp_path)


def test_a_split_never_changes():
    rows = [Row(f"question {i}", "AB"[i % 2]) for i in range(10)]
    assert [r.text[-1] for r in part(rows, THIRDS, "test", "d")] == list("25")
    other = Split(THIRDS.parts, seed=1)
    assert [r.text[-1] for r in part(rows, other, "test", "d")] != list("25")


def row(drawn):
    number, label = drawn
    return Row(f"{'Text ' if number % 2 else 'text  '}{number % 40}", label)


drawn = st.tuples(st.integers(0, 79), st.sampled_from([None, "a", "b", 3]))
labelled = st.lists(drawn.map(row), min_size=20, max_size=60)


@given(labelled, st.integers(0, 5))
def test_parts_are_disjoint_stratified_and_whole(rows, seed):
    split = Split(THIRDS.parts, seed)
    try:
        parts = [part(rows, split, p.name, "d") for p in split.parts]
    except Failure:
        reject()
    plain = [[" ".join(r.text.split()).casefold() for r in found] for found in parts]
    together = [text for found in plain for text in found]
    assert len(together) == len(set(together)) == len({" ".join(r.text.split()).casefold() for r in rows})
    counts = Counter(str(r.label) for found in parts for r in found)
    for found, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        for label, number in Counter(str(r.label) for r in found).items():
            assert abs(number - share * counts[label]) <= 1


def test_a_part_without_rows_is_refused():
    assert "more percent" in refused("EmptySplit", part, [Row("a"), Row("a ")], THIRDS, "test", "questions")


def test_the_shelf_knows_parts_and_what_they_say(tmp_path):
    lines = "".join(json.dumps({"text": f"t{i}", "label": i % 2}) + "\n" for i in range(20))
    file = write(tmp_path, "a.jsonl", lines)
    data = (Dataset("d", pvc=file.pvc, split=THIRDS),)
    shelf = Shelf(data, {}, TEXT, tmp_path)
    assert len(shelf.rows("d")) == 20
    assert shelf.rows("d/test") == part(shelf.rows("d"), THIRDS, "test", "d")
    assert "d, d/train" in refused("StepDataUnknown", shelf.rows, "d/other")
    assert shelf.digest([]) == ""
    assert shelf.digest(["d/train"]) != shelf.digest(["d/test"])
    in_test = shelf.rows("d/test")[0]
    write(tmp_path, "a.jsonl", lines.replace(f'{{"text": "{in_test.text}"', f'{{"text": "{in_test.text}", "note": 1'))
    assert Shelf(data, {}, TEXT, tmp_path).digest(["d/test"]) == shelf.digest(["d/test"]), (
        "what is not read does not matter"
    )
    write(tmp_path, "a.jsonl", lines.replace(f'"{in_test.text}"', '"other words"'))
    assert Shelf(data, {}, TEXT, tmp_path).digest(["d"]) != shelf.digest(["d"])
