"""What a worker shows while it runs and leaves when it ends."""

from __future__ import annotations

import urllib.error
import urllib.request

import msgspec
import pytest

from optimodel.api.contract import (
    TERMINATION_LIMIT,
    Artifact,
    Figures,
    GateResult,
    Golden,
    Progress,
    Result,
    StepProgress,
    Tensor,
)
from optimodel.api.search import SearchResult
from optimodel.artifacts import ending
from optimodel.worker.board import SEARCH, Board, serve


def page(server, path="/progress"):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=2) as answer:
        return msgspec.json.decode(answer.read(), type=Progress)


def test_the_page_follows_the_board():
    board = Board(["Fetch", "graph"])
    server = serve(board, 0)
    try:
        assert [s.state for s in page(server).steps] == ["Pending", "Pending"]
        board.start("Fetch")
        board.percent("Fetch", 42, "model.safetensors")
        found = page(server)
        assert (found.phase, found.steps[0].state, found.steps[0].percent) == ("Fetch", "Running", 42)
        board.end("Fetch", "Done", bytes=7)
        board.phase("Optimize")
        board.start("graph")
        board.fail_running("ModelUnloadable")
        found = page(server)
        assert [(s.state, s.percent) for s in found.steps] == [("Done", 100), ("Failed", 0)]
        assert found.phase == "Optimize"
        with pytest.raises(urllib.error.HTTPError):
            page(server, "/other")
    finally:
        server.shutdown()
        server.server_close()


def test_what_a_search_finds_follows_it_on_the_board():
    board = Board(["Fetch", "small", SEARCH, "Evaluate", "Publish"])
    board.end("small", "Done")
    board.follow(["graph", "auto-quantize"])
    names = [s.name for s in board.steps]
    assert names == ["Fetch", "small", "Search", "graph", "auto-quantize", "Evaluate", "Publish"]
    assert [s.state for s in board.steps][1:4] == ["Done", "Pending", "Pending"]


def test_a_result_always_fits_the_termination_message():
    steps = tuple(StepProgress(f"step-{i}" + "n" * 40, "Failed", message="m" * 900) for i in range(8))
    gates = tuple(GateResult("g" * 60, "CosineMean", "Fail", message="ü" * 900) for _ in range(8))
    result = Result("Failed", "GateFailed", "x" * 9000, steps=steps, gates=gates)
    data = ending.shortened(result)
    assert len(data) <= TERMINATION_LIMIT
    again = msgspec.json.decode(data, type=Result)
    assert (again.reason, len(again.gates), len(again.steps)) == ("GateFailed", 8, 8)
    small = Result("Succeeded", "Published", "all of it stays")
    assert msgspec.json.decode(ending.shortened(small), type=Result) == small
    assert Golden("t", "o", ()).tolerance == "0.01"


def test_one_long_text_does_not_lose_a_small_result():
    """The operator refuses a document with a text of more than 1,024 characters."""
    result = Result("Failed", "GateFailed", "short", gates=(GateResult("g", "Accuracy", "Fail", message="m" * 1500),))
    again = msgspec.json.decode(ending.shortened(result), type=Result)
    assert again.gates[0].message == "m" * 1023 + "…"


DIGESTS = ["sha256:" + letter * 64 for letter in "abc"]
NUMBERS = ("12345.12345", "-12345.12345", "12345.12345")
ARTIFACT = Artifact(
    *(DIGESTS[0], 1 << 33, 1 << 33, DIGESTS[1], 1 << 33, DIGESTS[2]),
    inputs=tuple(
        Tensor(name, "BYTES", (1,)) for name in ("TEXT", "MAX_TOKENS", "TEMPERATURE", "TOP_P", "SEED", "STOP")
    ),
    outputs=tuple(Tensor(name, "FP32", (-1, 512)) for name in ("LABEL", "SCORES", "EMBEDDING")),
    max_batch_size=1,
    golden=Golden("a probe of some length " * 6, "EMBEDDING", ("-0.123456",) * 8),
)
FIGURES = Figures(*["12345.12345"] * 7, 2000, *["12345.12345"] * 7)


def most(verdicts):
    """A result of as many steps and gates as the API server takes, with the longest names."""
    names = [f"{number:02}" + "n" * 38 for number in range(32)]
    steps = [
        StepProgress(name, "Cached", 100, "86400.1", "found in the store", 1 << 33) for name in (*names[:17], "Search")
    ]
    gates = [
        GateResult(name, "NextTokenAgreement", verdict, *NUMBERS, "0." + "9" * 22, 2000, "ü" * 600)
        for name, verdict in zip(names, verdicts, strict=True)
    ]
    passed = set(verdicts) == {"Pass"}
    return Result(
        "Succeeded" if passed else "Failed",
        "Published" if passed else "GateFailed",
        "x" * 9000,
        artifact=ARTIFACT,
        steps=(*steps, StepProgress("Evaluate", "Done"), StepProgress("Publish", "Failed")),
        gates=tuple(gates),
        figures=FIGURES,
        search=SearchResult("Throughput", "r" * 1024, "w" * 128, 64, 64),
        report="reports/" + "f" * 40 + ".json",
    )


@pytest.mark.parametrize("verdict", ["Pass", "Fail", "Inconclusive"])
def test_the_largest_result_fits_and_says_how_it_ended(verdict):
    result = most([verdict] * 32)
    data = ending.shortened(result)
    assert len(data) <= TERMINATION_LIMIT
    again = msgspec.json.decode(data, type=Result)
    for name in ("outcome", "reason", "artifact", "figures", "report"):
        assert getattr(again, name) == getattr(result, name), name
    assert again.search.winner == result.search.winner
    assert len(again.gates) > 12 and {gate.verdict for gate in again.gates} == {verdict}


def test_what_is_left_out_first_is_what_passed():
    verdicts = ["Pass"] * 32
    verdicts[7], verdicts[30], verdicts[31] = "Inconclusive", "Inconclusive", "Fail"
    result = most(verdicts)
    again = msgspec.json.decode(ending.shortened(result), type=Result)
    assert [gate.name for gate in again.gates[:3]] == [result.gates[number].name for number in (31, 7, 30)]
    assert again.gates[0].value == result.gates[31].value and len(again.gates[0].message) == 80
    few = msgspec.structs.replace(result, steps=result.steps[10:], gates=result.gates[28:])
    told = msgspec.json.decode(ending.shortened(few), type=Result)
    assert [(step.name, step.state) for step in told.steps] == [(step.name, step.state) for step in few.steps]
    assert [gate.verdict for gate in told.gates] == [gate.verdict for gate in few.gates]
