"""A model of images, as it is served: files in, a label and scores out, whatever shares the request or the batch."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from optimodel.api.spec import Batching

from . import client
from .conftest import serve
from .server import Server
from .test_life import probe

Reference = Callable[[Path, list[str]], list[list[float]]]

LABELS = ["number", "place", "person"]


def png(width: int, height: int, seed: int) -> bytes:
    """Noise, as the format's own document says to write it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    chance = random.Random(seed)
    lines = b"".join(b"\0" + chance.randbytes(3 * width) for _ in range(height))
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


FILES = [png(10 + 7 * n, 40 - 5 * n, n) for n in range(6)]


@pytest.fixture(scope="module")
def labeller(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(images, tmp_path_factory.mktemp("labeller"), Batching(8)) as server:
        yield server


def ask(server: Server, files: list[bytes]) -> tuple[list[list[float]], list[str]]:
    """Scores and labels of images in one request."""
    status, body = client.post(server, client.text_request([text(data) for data in files], "IMAGE"))
    assert status == 200, body
    found = {o["name"]: np.array(o["data"]).reshape(o["shape"]).tolist() for o in body["outputs"]}
    return found["SCORES"], [label for (label,) in found["LABEL"]]


def test_images_are_answered_alike_alone_together_and_at_once(
    labeller: Server, images: Path, reference: Reference
) -> None:
    wanted = np.array(reference(images, [text(data) for data in FILES]))
    scores, labels = ask(labeller, FILES)
    assert np.abs(np.array(scores) - wanted).max() < 1e-4
    assert labels == [LABELS[n] for n in wanted.argmax(1)] and len(set(labels)) > 1
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda data: ask(labeller, [data])[0][0], FILES * 4))
    assert np.abs(np.array(alone) - np.tile(wanted, (4, 1))).max() < 1e-4


def test_files_travel_as_they_are_over_grpc(labeller: Server) -> None:
    tensor = grpcclient.InferInput("IMAGE", [len(FILES), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(FILES, dtype=object).reshape(-1, 1))
    with grpcclient.InferenceServerClient(f"127.0.0.1:{labeller.grpc}") as connection:
        found = connection.infer("questions", [tensor], client_timeout=60).as_numpy("SCORES")
    assert found.tolist() == pytest.approx(np.array(ask(labeller, FILES)[0]), abs=1e-6)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"How far is Aspen?", "neither PNG nor JPEG"),
        (FILES[0][:200], "cannot be read"),
        (FILES[0][:16] + struct.pack(">II", 9000, 9000) + FILES[0][24:], "cannot be read|9000 x 9000"),
    ],
    ids=["words", "cut-off", "bomb"],
)
def test_a_bad_image_fails_alone_and_says_why(labeller: Server, data: bytes, says: str) -> None:
    def send(file: bytes) -> tuple[int, str]:
        status, body = client.post(labeller, client.text_request([text(file)], "IMAGE"))
        return status, body.get("error", "")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, [FILES[0], data, FILES[1]] * 4))
    for number, (status, error) in enumerate(answers):
        if number % 3 == 1:
            assert status == 400 and any(word in error for word in says.split("|")), error
        else:
            assert status == 200


async def test_the_probe_shows_an_image_and_the_operator_knows_its_answer(labeller: Server) -> None:
    assert probe(labeller).returncode == 0
    ((scores,), _) = ask(labeller, FILES[:1])
    assert (await client.judged(labeller, text(FILES[0]), "SCORES", scores, input="IMAGE")).ok
    wrong = await client.judged(labeller, text(FILES[0]), "SCORES", [scores[0] + 0.1], input="IMAGE")
    assert "value 0 of SCORES" in wrong.message


async def test_the_operator_too_reads_the_scores_of_a_thousand_labels(classes: Path, tmp_path: Path) -> None:
    with serve(classes, tmp_path, Batching(8)) as server:
        assert probe(server).returncode == 0
        ((scores,), _) = ask(server, FILES[:1])
        same, other = [
            await client.judged(server, text(file), "SCORES", scores[:8], tolerance="0.00001", input="IMAGE")
            for file in FILES[:2]
        ]
    assert same.ok
    assert "value 0 of SCORES" in other.message
