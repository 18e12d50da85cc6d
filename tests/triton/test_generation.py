"""A decoder as it is served: text in, the text that follows out, whatever else is being written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from optimodel.api.spec import Batching

from . import client
from .conftest import serve
from .server import Server
from .test_life import probe

Reference = Callable[[Path, list[str]], list[tuple[list[int], str]]]
TYPES = {
    "MAX_TOKENS": "INT32",
    "TEMPERATURE": "FP32",
    "TOP_P": "FP32",
    "SEED": "INT64",
    "STOP": "BYTES",
    "CHAT": "BOOL",
}
TEXTS = ["The capital of Peru", "Who wrote", "x", "naïve 東京 🚀", "The capital of France is"]
END = 2


@pytest.fixture(scope="module")
def writer(generation: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(generation, tmp_path_factory.mktemp("writer"), Batching(8)) as server:
        yield server


def ask(server: Server, texts: list[str], **wanted: Any) -> tuple[int, dict[str, Any]]:
    """Status and the outputs by name, or what else was said."""
    document = client.text_request(texts)
    for name, value in wanted.items():
        values = value if isinstance(value, list) else [value]
        shape, data = [len(texts), len(values)], values * len(texts)
        document["inputs"].append({"name": name, "shape": shape, "datatype": TYPES[name], "data": data})
    status, body = client.post(server, document)
    return status, {o["name"]: o["data"] for o in body["outputs"]} if status == 200 else body


def written(server: Server, text: str, **wanted: Any) -> str:
    status, found = ask(server, [text], **wanted)
    assert status == 200, found
    return str(found["GENERATED"][0])


def test_what_is_written_is_what_the_graph_says_without_its_cache(
    writer: Server, generation: Path, reference: Reference
) -> None:
    wanted, said = zip(*reference(generation, TEXTS), strict=True)
    with ThreadPoolExecutor(5) as pool:
        alone = list(pool.map(lambda text: ask(writer, [text], MAX_TOKENS=12)[1], TEXTS))
    assert [found["TOKENS"] for found in alone] == list(wanted)
    assert [found["GENERATED"][0] for found in alone] == list(said)
    assert len(set(said)) > 3, "or the test would tell little"
    ended = [found["TOKENS"][-1] == END for found in alone]
    assert [found["FINISH_REASON"] for found in alone] == [["stop"] if end else ["length"] for end in ended]
    assert set(ended) == {True, False}
    together = ask(writer, TEXTS, MAX_TOKENS=12)[1]
    assert together["GENERATED"] == [found["GENERATED"][0] for found in alone]
    assert together["TOKENS"] == [n for ids in wanted for n in [*ids, *[-1] * (12 - len(ids))]]


def test_a_stop_text_ends_it_and_is_left_out(writer: Server) -> None:
    whole = written(writer, "Who wrote", MAX_TOKENS=12)
    stop = whole.split()[2]
    assert written(writer, "Who wrote", MAX_TOKENS=12, STOP=["東京", stop]) == whole.partition(stop)[0] != whole


def test_a_seed_draws_the_same_text_again_and_others_do_not(writer: Server) -> None:
    hot = {"MAX_TOKENS": 12, "TEMPERATURE": 50.0}
    drawn = [written(writer, "The capital", SEED=seed, **hot) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert written(writer, "The capital", **hot) != written(writer, "The capital", **hot), "no seed, no repetition"
    sure = written(writer, "The capital", MAX_TOKENS=12)
    assert written(writer, "The capital", SEED=1, TOP_P=1e-6, **hot) == sure, "only the likeliest is left to draw from"


def test_chat_puts_the_template_around_what_is_said(writer: Server) -> None:
    by_hand = "<|im_start|>user\nThe capital of Peru<|im_end|>\n<|im_start|>assistant\n"
    assert written(writer, "The capital of Peru", CHAT=True) == written(writer, by_hand)


@pytest.mark.parametrize(
    ("text", "wanted", "says"),
    [
        ("a b c", {"MAX_TOKENS": 160}, "more than the 160 that the model reads"),
        ("word " * 300, {}, "shorten the text"),
        ("", {}, "TEXT has no token"),
        ("a", {"MAX_TOKENS": 0}, "ask for 1 or more"),
        ("a", {"TEMPERATURE": -1.0}, "from 0 to 100"),
        ("a", {"TOP_P": 0.0}, "above 0 and at most 1"),
        ("a", {"SEED": -1}, "give 0 or more"),
        ("a", {"STOP": ["x"] * 17}, "at most 16"),
    ],
)
def test_what_cannot_be_granted_is_refused_with_a_way_out(
    writer: Server, text: str, wanted: dict[str, Any], says: str
) -> None:
    status, found = ask(writer, [text], **wanted)
    assert status == 400
    assert says in found["error"]
    assert written(writer, "x", MAX_TOKENS=1) is not None


def test_a_short_text_does_not_wait_for_long_ones(writer: Server) -> None:
    def timed(tokens: int) -> float:
        written(writer, "x", MAX_TOKENS=tokens, TEMPERATURE=50.0)
        return time.monotonic()

    with ThreadPoolExecutor(6) as pool:
        long = [pool.submit(timed, 150) for _ in range(5)]
        short = pool.submit(timed, 1)
        assert short.result() < max(one.result() for one in long)


async def test_the_probe_asks_for_few_tokens_and_the_operator_knows_them(writer: Server) -> None:
    assert probe(writer).returncode == 0
    tokens = ask(writer, [TEXTS[0]], MAX_TOKENS=4)[1]["TOKENS"]
    assert (await client.judged(writer, TEXTS[0], "TOKENS", tokens, max_tokens=4)).ok
    wrong = await client.judged(writer, TEXTS[0], "TOKENS", [tokens[0] + 1], max_tokens=4)
    assert "value 0 of TOKENS" in wrong.message
    assert json.loads((writer.repository / "probe.json").read_text())["inputs"][0]["data"] == [4]
