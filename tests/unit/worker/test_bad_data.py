"""Every step that reads data, and every way in which data can be wrong: a reason with the way out, before any work, and nothing in
the store."""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import inputs

from optimodel.api.sources import Part, Split
from optimodel.api.spec import Gate
from optimodel.api.steps import Adversarial, Distill, FineTune, Prune, Quantize, Recover, Step
from optimodel.worker.board import Board
from optimodel.worker.board import lines as lines_of
from optimodel.worker.data.dataset import MAX_BYTES
from optimodel.worker.errors import Failure

GRAPH = Step("graph", "Export")


def tuned(**settings):
    return Step("step", "FineTune", fine_tune=FineTune("d/train", **settings)), GRAPH


def pruned(method, **settings):
    return Step("step", "Prune", prune=Prune(method, **settings)), GRAPH


GATES = {"gate": (Gate("held", "Accuracy", data="d/train", max_drop="0.1"),)}
READERS = {
    "full": tuned(),
    "head": tuned(method="Head"),
    "lora": tuned(method="LoRA"),
    "adversarial": tuned(adversarial=Adversarial()),
    "distil": (Step("step", "Distill", distill=Distill("d/train")), GRAPH),
    "heads": pruned("Heads", data="d/train"),
    "neurons": pruned("FFN", data="d/train"),
    "layers": pruned("Layers", data="d/train"),
    "vocabulary": pruned("Vocabulary", data="d/train"),
    "magnitude": pruned("Magnitude", recover=Recover("d/train")),
    "two-four": pruned("TwoFour", recover=Recover("d/train", "LoRA")),
    "static": (GRAPH, Step("step", "Quantize", quantize=Quantize("Static", data="d/train"))),
    "gate": (GRAPH,),
}
"""Who reads `d/train`: each step in each of its ways, and a gate."""


def lines(*documents):
    return "".join(json.dumps(d) + "\n" for d in documents).encode()


GOOD = [{"text": f"question {i}", "label": "ab"[i % 2]} for i in range(20)]
PARQUET = b"PAR1" + random.Random(1).randbytes(2000) + b"PAR1"


@dataclass(frozen=True)
class Case:
    """What lies in the file (None = no file), what that is called, a word of the way out, and how long the file is made."""

    data: bytes | None
    reason: str
    word: str
    name: str = "rows.jsonl"
    size: int = 0

    def put(self, folder: Path) -> None:
        if self.data is not None:
            (folder / self.name).write_bytes(self.data)
        if self.size:
            os.truncate(folder / self.name, self.size)


CASES = {
    "missing": Case(None, "DataNotFound", "rows.jsonl"),
    "empty": Case(b"", "DataInvalid", "no rows"),
    "blank": Case(b"\n \n\n", "DataInvalid", "no rows"),
    "header-alone": Case(b"text,label\n", "DataInvalid", "no rows", "rows.csv"),
    "field": Case(lines(*GOOD, {"txt": "a"}), "DataInvalid", "line 21"),
    "column": Case(b"question,label\na,b\n", "DataInvalid", "textField", "rows.csv"),
    "short-line": Case(b"label,text\na,b\nc\n", "DataInvalid", "line 3", "rows.csv"),
    "list": Case(json.dumps(GOOD).encode(), "DataInvalid", "line 1"),
    "nested": Case(b"[" * 200_000, "DataInvalid", "line 1"),
    "cut-off": Case(lines(*GOOD)[:-9], "DataInvalid", "line 20"),
    "number": Case(lines({"text": 7}), "DataInvalid", "textField"),
    "label": Case(lines({"text": "a", "label": 0.5}), "DataInvalid", "labelField"),
    "latin-1": Case(b'{"text": "caf\xe9"}\n', "DataInvalid", "UTF-8"),
    "latin-1-csv": Case(b"text\ncaf\xe9\n", "DataInvalid", "UTF-8", "rows.csv"),
    "utf-16": Case('{"text": "a"}\n'.encode("utf-16"), "DataInvalid", "UTF-8"),
    "half-a-pair": Case(rb'{"text": "a \ud83d"}', "DataInvalid", "line 1"),
    "half-in-a-label": Case(rb'{"text": "a", "label": "\udc00"}', "DataInvalid", "line 1"),
    "empty-text": Case(lines(*GOOD, {"text": " \t\u00a0"}), "DataInvalid", "Remove it"),
    "empty-cell": Case(b'text,label\n"",b\n', "DataInvalid", "Remove it", "rows.csv"),
    "long-line": Case(lines({"text": "a " * (5 << 20)}), "DataInvalid", "1 MiB"),
    "long-cell": Case(b"text\n" + b"a " * (5 << 20), "DataInvalid", "1 MiB", "rows.csv"),
    "too-large": Case(b"", "DataTooLarge", "64 MiB", size=MAX_BYTES + 1),
    "parquet-as-lines": Case(PARQUET, "DataInvalid", "line 1"),
    "parquet-as-csv": Case(PARQUET, "DataInvalid", "not a CSV", "rows.csv"),
    "gzip-as-lines": Case(gzip.compress(lines(*GOOD)), "DataInvalid", "line 1"),
    "lines-as-csv": Case(lines(*GOOD), "DataInvalid", "textField", "rows.csv"),
    "csv-as-lines": Case(b"text,label\na,b\n", "DataInvalid", "line 1"),
    "one-row": Case(lines(GOOD[0]), "EmptySplit", "more rows"),
    "one-text": Case(lines(*[GOOD[0]] * 9), "EmptySplit", "1 different"),
}


def job(folder, reader, case):
    split = Split((Part("train", 40), Part("test", 60)))
    data = (inputs.dataset(folder, file=case.name, split=split),)
    return inputs.job(folder, *READERS[reader], source="never-read", gates=GATES.get(reader, ()), data=data)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", CASES)
def test_bad_data_are_refused_before_any_work(name, reader, tmp_path):
    case = CASES[name]
    case.put(tmp_path)
    wanted = job(tmp_path, reader, case)
    board = Board(lines_of(wanted))
    with pytest.raises(Failure) as caught:
        inputs.run(wanted, tmp_path / "work", board)
    assert caught.value.reason == case.reason
    assert case.word in caught.value.message and caught.value.message.endswith(".")
    assert len(caught.value.message) < 400
    assert {step.state for step in board.steps} == {"Pending"}
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
