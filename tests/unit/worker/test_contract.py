"""What a worker shows while it runs and leaves when it ends."""

from __future__ import annotations

import urllib.error
import urllib.request

import msgspec
import pytest

from optimodel.api.contract import TERMINATION_LIMIT, GateResult, Golden, Progress, Result, StepProgress
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
