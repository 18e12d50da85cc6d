"""A step's newest checkpoint outlives the pod's disk: whole, or not at all, and gone when the step is done."""

from __future__ import annotations

import os
import time

import pytest

from optimodel import artifacts
from optimodel.api.sources import S3, Artifacts
from optimodel.worker import checkpoints
from optimodel.worker.checkpoints import Checkpoint

KEY = "a" * 64


@pytest.fixture
def store(tmp_path):
    return artifacts.open_store(Artifacts(s3=S3(f"file://{tmp_path}/store")), "team-a", {})


def stored(tmp_path):
    return tmp_path / "store" / "team-a" / "checkpoints" / KEY


def written(folder, data, name="training-1.pt"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def kept(store, tmp_path, data):
    """A pod that kept a checkpoint, and is gone."""
    checkpoint = Checkpoint(store, KEY, tmp_path / "pod-0")
    checkpoint.keep(written(checkpoint.folder, data))
    return checkpoint


@pytest.mark.parametrize("size", [0, 10, 3 << 20, 20 << 20])
def test_the_next_pod_has_what_the_last_one_kept(store, tmp_path, size):
    data = os.urandom(size)
    kept(store, tmp_path, data)
    after = Checkpoint(store, KEY, tmp_path / "pod-1")
    assert after.bring()
    assert [p.name for p in after.folder.iterdir()] == ["training-1.pt"]
    assert (after.folder / "training-1.pt").read_bytes() == data
    after.drop()
    assert not stored(tmp_path).exists()
    assert not Checkpoint(store, KEY, tmp_path / "pod-2").bring()


def test_only_the_newest_is_there(store, tmp_path):
    kept(store, tmp_path, b"old" * 1000)
    kept(store, tmp_path, b"new")
    assert len(list(stored(tmp_path).parent.iterdir())) == 1
    after = Checkpoint(store, KEY, tmp_path / "pod-1")
    assert after.bring() and (after.folder / "training-1.pt").read_bytes() == b"new"


def test_a_step_that_is_done_clears_what_a_killed_worker_left(store, tmp_path):
    kept(store, tmp_path, b"left")
    for _ in range(2):
        Checkpoint(store, KEY, tmp_path / "pod-1").clear()
        assert not stored(tmp_path).exists()


def damages():
    return {
        "cut": lambda data: data[:-1],
        "longer": lambda data: data + b"x",
        "altered": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        "no header": lambda data: data.partition(b"\n")[2],
        "empty": lambda data: b"",
        "leaves its folder": lambda data: data.replace(b"training-1.pt", b"../../evil.pt"),
        "is a folder": lambda data: data.replace(b"training-1.pt", b"folder/one.pt"),
    }


@pytest.mark.parametrize("how", damages())
def test_a_damaged_one_is_none(store, tmp_path, how, capsys):
    kept(store, tmp_path, b"y" * 5000)
    stored(tmp_path).write_bytes(damages()[how](stored(tmp_path).read_bytes()))
    after = Checkpoint(store, KEY, tmp_path / "one" / "two" / "pod-1")
    assert not after.bring()
    assert "starts anew" in capsys.readouterr().out
    assert [p for p in (tmp_path / "one").rglob("*") if p.is_file()] == []


def test_a_store_that_refuses_costs_no_result(store, tmp_path, capsys):
    checkpoint = kept(store, tmp_path, b"x")
    checkpoint._not_before = 0
    stored(tmp_path).unlink()
    stored(tmp_path).parent.rmdir()
    stored(tmp_path).parent.write_text("a file where a folder should be")
    checkpoint.keep(written(checkpoint.folder, b"z"))
    assert "was not kept" in capsys.readouterr().out
    checkpoint.drop()
    assert not Checkpoint(store, KEY, tmp_path / "pod-1").bring()


def test_keeping_takes_a_bounded_share_of_the_time(store, tmp_path, monkeypatch):
    """A slow store is asked less often; a fast one at every checkpoint."""
    now, uploads = [100.0], []

    def upload(key, chunks):
        uploads.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(store, "upload", upload)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint(store, KEY, tmp_path / "pod")
    path = written(checkpoint.folder, b"x")
    for _ in range(1000):
        checkpoint.keep(path)
        now[0] += 0.5
    assert 2.0 * len(uploads) <= (now[0] - 100) / checkpoints.SHARE + 2.0
    assert len(uploads) >= (now[0] - 100) / (2.0 * (checkpoints.SHARE + 2))


def test_what_is_too_large_stays_in_the_pod(store, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 10)
    kept(store, tmp_path, b"x" * 11)
    assert not stored(tmp_path).exists()
