"""What the served ensemble answers, against the same artifact in another process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from . import client
from .server import Server

Reference = Callable[[Path, list[str]], list[list[float]]]
WORDS = ["what", "is", "the", "largest", "city", "of", "country", "rivers", "naïve", "東京", "🚀", "unhappiness"]
ODD = ["", " ", "Ünïcödé ß 東京 🚀", "x" * 10_000, "word " * 2_000, "a\x00b", "\n\t"]


def mixed(count: int) -> list[str]:
    """Texts of 1 to some 400 tokens."""
    rng = random.Random(3)
    return [" ".join(rng.choices(WORDS, k=int(2 ** rng.uniform(0, 8)))) for _ in range(count)]


@pytest.fixture(scope="module")
def stub(encoder: Server) -> Iterator[grpcclient.InferenceServerClient]:
    with grpcclient.InferenceServerClient(f"127.0.0.1:{encoder.grpc}") as connection:
        yield connection


def test_concurrent_answers_over_http_and_grpc_are_the_artifacts_own(
    encoder: Server, stub: grpcclient.InferenceServerClient, embedding: Path, reference: Reference
) -> None:
    texts = mixed(100)
    wanted = np.array(reference(embedding, texts))
    with ThreadPoolExecutor(8) as pool:
        over_http = np.vstack(list(pool.map(lambda t: client.http(encoder, [t]), texts)))
        over_grpc = np.vstack(list(pool.map(lambda t: client.grpc(stub, [t.encode()]), texts)))
    assert np.abs(over_http - wanted).max() < 1e-3
    assert np.abs(over_grpc - wanted).max() < 1e-3


def test_a_request_of_several_lengths_answers_each_as_if_alone(
    encoder: Server, embedding: Path, reference: Reference
) -> None:
    texts = [*mixed(6), "short", ""]
    assert np.abs(client.http(encoder, texts) - np.array(reference(embedding, texts))).max() < 1e-3


@pytest.mark.parametrize("text", ODD, ids=lambda t: repr(t)[:20])
def test_odd_texts_are_answered(encoder: Server, embedding: Path, reference: Reference, text: str) -> None:
    answer = client.http(encoder, [text])
    assert np.abs(answer - np.array(reference(embedding, [text]))).max() < 1e-3


def test_classifier_gives_scores_and_the_best_label(
    classifier: Server, classification: Path, reference: Reference
) -> None:
    labels = ["number", "place", "person"]
    texts = mixed(20)
    for text, wanted in zip(texts, reference(classification, texts), strict=True):
        status, body = client.post(classifier, client.text_request([text]))
        assert status == 200, body
        answer = {output["name"]: output for output in body["outputs"]}
        assert answer["SCORES"]["data"] == pytest.approx(wanted, abs=1e-3)
        assert answer["LABEL"]["data"] == [labels[int(np.argmax(wanted))]]


def test_one_bad_text_fails_alone(encoder: Server, stub: grpcclient.InferenceServerClient) -> None:
    def ask(text: bytes) -> object:
        try:
            return client.grpc(stub, [text])
        except InferenceServerException as error:
            return error

    texts = [b"fine", b"\xff\xfe", b"fine", b"x" * (2 << 20), b"fine"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, texts))
    for text, answer in zip(texts, answers, strict=True):
        if text == b"fine":
            assert isinstance(answer, np.ndarray)
        else:
            assert isinstance(answer, InferenceServerException)
            assert "UTF-8" in answer.message() or "split it" in answer.message()
    assert client.http(encoder, ["still alive"]).shape == (1, 384)


@pytest.mark.parametrize(
    ("document", "code", "says"),
    [
        (b"{", 500, "parse"),
        ({"inputs": []}, 400, "expected 1 inputs"),
        ({"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}, 400, "data-type"),
        ({"inputs": [{"name": "TEXT", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "b"]}]}, 400, "shape"),
        (client.text_request(["a"] * 9), 400, "batch-size must be <= 8"),
    ],
    ids=["not-json", "no-input", "wrong-type", "wrong-shape", "batch-too-large"],
)
def test_bad_requests_are_refused_with_a_reason(encoder: Server, document: object, code: int, says: str) -> None:
    status, body = client.post(encoder, document)
    assert status == code
    assert says in body["error"]
    assert client.http(encoder, ["still alive"]).shape == (1, 384)
