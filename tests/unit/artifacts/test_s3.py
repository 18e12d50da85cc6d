"""The store on a real S3 server: the same promises, and a reason for each way the server can refuse."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import msgspec
import pytest
from tests.seaweed import free_port, seaweed

from optimodel import artifacts
from optimodel.api.sources import S3, Artifacts
from optimodel.artifacts.manifest import scan
from optimodel.artifacts.store import StepEntry


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "artifact"
    made.mkdir()
    (made / "model.onnx").write_bytes(os.urandom(12 << 20))
    (made / "model.json").write_text("{}")
    return made


def opened(server, url="s3://models/team", environ=None):
    return artifacts.open_store(Artifacts(s3=server.s3(url)), "ns", environ or server.environ("store"))


def test_publish_fetch_and_remove(server, folder, tmp_path):
    store = opened(server)
    digest = store.publish(folder).digest
    store.fetch(digest, tmp_path / "out")
    assert scan(tmp_path / "out") == scan(folder)
    assert store.remove([digest]) == [digest]
    with pytest.raises(artifacts.ArtifactMissing):
        store.fetch(digest, tmp_path / "again")


def test_of_many_writers_one_wins(server, folder):
    store = opened(server)
    output = store.publish(folder).digest
    entries = [StepEntry("Export", "sha256:" + "a" * 64, output, n) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda e: store.remember("race", e), entries))) == 1


def test_wrong_credentials_are_named(server, folder):
    environ = {**server.environ("store"), "STORE_AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    for bad in (environ, {"none": ""}):
        with pytest.raises(artifacts.StoreAccessDenied) as caught:
            opened(server, environ=bad).publish(folder)
        assert "Secret" in str(caught.value)
        assert "not-the-secret" not in str(caught.value)
        assert caught.value.world


def test_a_missing_bucket_is_not_a_published_artifact(server, tmp_path):
    with pytest.raises(artifacts.StoreError) as caught:
        opened(server, "s3://no-such-bucket/x").fetch("sha256:" + "0" * 64, tmp_path / "out")
    assert caught.value.reason in ("BucketMissing", "ArtifactMissing")
    assert caught.value.world


def test_a_server_that_is_not_there_is_said_soon(server, tmp_path):
    nowhere = msgspec.structs.replace(S3("s3://models/team"), endpoint=f"http://127.0.0.1:{free_port()}")
    store = artifacts.open_store(Artifacts(s3=nowhere), "ns", server.environ("store"))
    began = time.monotonic()
    with pytest.raises(artifacts.StoreUnreachable):
        store.exists("sha256:" + "0" * 64)
    assert time.monotonic() - began < 60


def test_a_stream_replaces_what_was_there(server):
    """As checkpoints do: of any size, in parts where it is large."""
    store = opened(server)
    for data in (os.urandom(20 << 20), b"short"):
        store.upload("checkpoints/k", (data[i : i + 1_000_003] for i in range(0, len(data), 1_000_003)))
        assert b"".join(store.download("checkpoints/k")) == data
    store.discard_older("checkpoints", timedelta(days=7))
    assert b"".join(store.download("checkpoints/k")) == b"short"
    store.discard("checkpoints/k")
    store.discard("checkpoints/k")
    with pytest.raises(artifacts.ObjectMissing):
        next(store.download("checkpoints/k"))
