"""Artifacts come back as they went in, or with a reason; never half and never altered."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from optimodel import artifacts
from optimodel.api import contract
from optimodel.api.contract import CleanupInput, ExitCode, PullInput, Result
from optimodel.api.sources import PVC, S3, Artifacts
from optimodel.api.spec import Batching
from optimodel.artifacts.manifest import safe, scan
from optimodel.artifacts.store import StepEntry

MODEL = {
    "version": 1,
    "task": "TextEmbedding",
    "inputs": ["input_ids", "attention_mask"],
    "output": "last_hidden_state",
    "maxLength": 128,
    "hiddenSize": 4,
}


@pytest.fixture
def place(tmp_path):
    return Artifacts(s3=S3(f"file://{tmp_path}/store"))


@pytest.fixture
def store(place):
    return artifacts.open_store(place, "team-a", {})


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "artifact"
    (made / "sub").mkdir(parents=True)
    (made / "model.onnx").write_bytes(os.urandom(3 << 20))
    (made / "tokenizer.json").write_text("{}")
    (made / "sub" / "extra.txt").write_text("x")
    (made / "model.json").write_text(json.dumps(MODEL))
    return made


def stored(tmp_path, digest, name):
    return tmp_path / "store" / "team-a" / "artifacts" / digest[7:] / name


def test_an_artifact_comes_back_whole(store, folder, tmp_path):
    manifest = store.publish(folder)
    store.publish(folder)
    store.fetch(manifest.digest, tmp_path / "out")
    assert scan(tmp_path / "out") == scan(folder)
    assert manifest.digest == "sha256:" + hashlib.sha256((tmp_path / "out" / "manifest.json").read_bytes()).hexdigest()
    assert artifacts.manifest.verify(tmp_path / "out", manifest.digest).bytes == manifest.bytes


@pytest.mark.parametrize("damage", ["truncated", "tampered", "longer"])
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_altered_bytes_are_refused_and_leave_nothing(store, folder, tmp_path, damage, name):
    digest = store.publish(folder).digest
    victim = stored(tmp_path, digest, name)
    data = victim.read_bytes()
    flipped = data[:10] + bytes([data[10] ^ 1]) + data[11:]
    victim.write_bytes({"truncated": data[:-100], "tampered": flipped, "longer": data + b"x"}[damage])
    with pytest.raises(artifacts.DigestMismatch):
        store.fetch(digest, tmp_path / "fetched" / "out")
    assert list((tmp_path / "fetched").glob("*")) == [] if (tmp_path / "fetched").exists() else True


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_missing_parts_are_a_missing_artifact(store, folder, tmp_path, name):
    digest = store.publish(folder).digest
    stored(tmp_path, digest, name).unlink()
    with pytest.raises(artifacts.ArtifactMissing):
        store.fetch(digest, tmp_path / "out")


@pytest.mark.parametrize("name", ["model.onnx", "sub/extra.txt", "manifest.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"cut")])
def test_a_damaged_artifact_is_made_again(store, folder, tmp_path, damage, name):
    digest = store.publish(folder).digest
    store.remember("k", StepEntry("Export", "sha256:" + "a" * 64, digest))
    damage(stored(tmp_path, digest, name))
    assert not store.exists(digest) and store.step("k") is None, "a step that made it is worked again"
    assert store.publish(folder).digest == digest and store.exists(digest)
    store.fetch(digest, tmp_path / "out")
    assert scan(tmp_path / "out") == scan(folder)


def test_bytes_of_another_kind_are_made_again_once_they_are_removed(store, folder, tmp_path):
    digest = store.publish(folder).digest
    victim = stored(tmp_path, digest, "model.onnx")
    victim.write_bytes(bytes(victim.stat().st_size))
    with pytest.raises(artifacts.DigestMismatch, match="Remove it, and make it again by the action retry"):
        store.fetch(digest, tmp_path / "out")
    victim.unlink()
    store.publish(folder)
    store.fetch(digest, tmp_path / "out")
    assert scan(tmp_path / "out") == scan(folder)


@pytest.mark.parametrize(
    "path", ["../up", "/etc/passwd", "a/../../b", "a\\b", "", ".", "a//b", "C:/x", "a/./b", "nul\0"]
)
def test_paths_stay_in_their_folder(store, tmp_path, path):
    with pytest.raises(artifacts.UnsafePath):
        safe(path)
    document = {"version": 1, "files": {path: {"sha256": "0" * 64, "bytes": 0}}}
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    victim = stored(tmp_path, digest, "manifest.json")
    victim.parent.mkdir(parents=True)
    victim.write_bytes(data)
    with pytest.raises(artifacts.UnsafePath):
        store.fetch(digest, tmp_path / "out")


def test_links_are_not_published(store, folder):
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(artifacts.UnsafePath):
        store.publish(folder)


def test_namespaces_share_nothing(store, folder, place):
    digest = store.publish(folder).digest
    assert store.exists(digest)
    assert not artifacts.open_store(place, "team-b", {}).exists(digest)
    with pytest.raises(artifacts.UnsafePath):
        artifacts.open_store(place, "../team-a", {})


def test_a_claim_is_a_store_and_its_path_stays_inside(tmp_path, folder):
    claim = Artifacts(pvc=PVC("models", "team"))
    digest = artifacts.open_store(claim, "ns", {}, mount=tmp_path).publish(folder).digest
    assert (tmp_path / "team" / "ns" / "artifacts" / digest[7:] / "manifest.json").exists()
    with pytest.raises(artifacts.UnsafePath):
        artifacts.open_store(Artifacts(pvc=PVC("models", "../x")), "ns", {}, mount=tmp_path)


def test_the_first_record_of_a_step_stands(store, folder, tmp_path):
    first = StepEntry("Export", "sha256:" + "a" * 64, store.publish(folder).digest, 3)
    (folder / "more").write_text("y")
    second = StepEntry("Export", first.input, store.publish(folder).digest, 4)
    with ThreadPoolExecutor(8) as pool:
        standing = list(pool.map(lambda e: store.remember("k", e), [first, second] * 4))
    assert len(set(standing)) == 1
    assert store.step("k") == standing[0]
    assert store.step("unknown") is None
    shutil.rmtree(stored(tmp_path, standing[0].output, ""))
    assert store.step("k") is None


def chain(store, folder, tmp_path, tails):
    """An export with several quantised results; returns their digests."""
    export = store.publish(folder).digest
    store.remember("export", StepEntry("Export", "sha256:" + "a" * 64, export))
    found = [export]
    for tail in tails:
        copy = tmp_path / f"copy-{tail}"
        shutil.copytree(folder, copy)
        (copy / "model.onnx").write_text(tail)
        digest = store.publish(copy).digest
        store.remember(f"step-{tail}", StepEntry("Quantize", export, digest))
        store.mark_published(digest)
        found.append(digest)
    return found


def test_removal_takes_intermediates_that_nobody_needs(store, folder, tmp_path):
    export, one, two = chain(store, folder, tmp_path, ["one", "two"])
    assert store.remove([one]) == [one]
    assert store.exists(export)
    assert store.exists(two)
    assert set(store.remove([two])) == {two, export}
    assert store.remove([two, one]) == [one, two]
    left = [p for p in (tmp_path / "store" / "team-a").rglob("*") if p.is_file()]
    assert left == []


def trained(store, folder, tmp_path, source, name):
    """A model that was fine-tuned and distilled; the fine-tuned one's export is what the result was compared with."""

    def made(step, before):
        copy = tmp_path / f"{step}-{name}"
        shutil.copytree(folder, copy)
        (copy / "model.onnx").write_text(f"{step}-{name}")
        digest = store.publish(copy).digest
        store.remember(f"{step}-{name}", StepEntry(step, before, digest))
        return digest

    adapted = made("FineTune", source)
    baseline, student = made("Export", adapted), made("Distill", adapted)
    store.remember(f"again-{name}", StepEntry("Export", adapted, baseline))
    graph = made("Quantize", student)
    store.mark_published(graph)
    return adapted, baseline, student, graph


def test_removal_takes_what_a_result_was_compared_with(store, folder, tmp_path):
    source = "sha256:" + "a" * 64
    found = trained(store, folder, tmp_path, source, "one")
    (folder / "model.onnx").write_text("the source's own export")
    plain = store.publish(folder).digest
    store.remember("plain", StepEntry("Export", source, plain))
    (folder / "model.onnx").write_text("exported with other settings")
    other = store.publish(folder).digest
    store.remember("other", StepEntry("Export", found[0], other))
    gone = store.remove([found[-1]])
    assert sorted(gone) == sorted({*found, plain, other})
    assert [p for p in (tmp_path / "store" / "team-a").rglob("*") if p.is_file()] == []


def test_removal_keeps_what_others_are_compared_with(store, folder, tmp_path):
    one = trained(store, folder, tmp_path, "sha256:" + "a" * 64, "one")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "model.onnx").write_text("another student")
    sibling = store.publish(other).digest
    store.remember("sibling", StepEntry("Distill", one[0], sibling))
    store.mark_published(sibling)
    assert set(store.remove([one[-1]])) == {one[-1], one[2]}
    assert store.exists(one[0]) and store.exists(one[1]), "the sibling's baseline"
    assert set(store.remove([sibling])) == {sibling, one[0], one[1]}
    begun = trained(store, folder, tmp_path, "sha256:" + "c" * 64, "three")
    (other / "model.onnx").write_text("a student on its way")
    student = store.publish(other).digest
    store.remember("begun", StepEntry("Distill", begun[0], student))
    assert set(store.remove([begun[-1]])) == {begun[-1], begun[2]}
    assert all(map(store.exists, (begun[0], begun[1], student))), "another model's Job goes on from it"
    served = trained(store, folder, tmp_path, "sha256:" + "b" * 64, "two")
    store.mark_published(served[1])
    assert set(store.remove([served[-1]])) == {served[-1], served[2]}
    assert store.exists(served[0]) and store.exists(served[1]), "it is served itself"


def test_removal_keeps_an_intermediate_that_is_served_itself(store, folder, tmp_path):
    export, one = chain(store, folder, tmp_path, ["one"])
    store.mark_published(export)
    store.remove([one])
    assert store.exists(export)
    assert store.remove([export]) == [export]


def program(module, environ, tmp_path):
    """Run a program of the light image and return its exit code and result document, if it left one."""
    log = tmp_path / "termination-log"
    log.unlink(missing_ok=True)
    full = {**os.environ, "OPTIMODEL_TERMINATION_LOG": str(log), "PYTHONPATH": "operator", **environ}
    done = subprocess.run([sys.executable, "-m", module], env=full, capture_output=True, text=True)
    assert done.returncode < 2 or log.exists(), done.stderr
    return done.returncode, msgspec.json.decode(log.read_bytes(), type=Result) if log.exists() else None


def pulling(place, digest, models):
    wanted = PullInput("minilm", "team-a", digest, place, Batching(max_batch_size=1))
    return {contract.PULL_ENV: contract.encode(wanted), "OPTIMODEL_MODELS": str(models)}


def test_pull_renders_what_triton_serves(store, folder, place, tmp_path):
    models = tmp_path / "models"
    (models / "left-from-before").mkdir(parents=True)
    digest = store.publish(folder).digest
    assert program("optimodel.artifacts.pull", pulling(place, digest, models), tmp_path) == (ExitCode.OK, None)
    assert (models / "minilm-core" / "1" / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert (models / "minilm" / "config.pbtxt").exists()
    assert not (models / "left-from-before").exists()
    assert not (models / ".artifact").exists()


def test_pull_says_why_it_cannot(store, folder, place, tmp_path):
    digest = store.publish(folder).digest
    code, result = program("optimodel.artifacts.pull", pulling(place, "sha256:" + "0" * 64, tmp_path / "m"), tmp_path)
    assert (code, result.component, result.reason) == (ExitCode.WORLD, "pull", "ArtifactMissing")
    victim = stored(tmp_path, digest, "model.onnx")
    victim.write_bytes(victim.read_bytes()[:-1])
    code, result = program("optimodel.artifacts.pull", pulling(place, digest, tmp_path / "m"), tmp_path)
    assert (code, result.reason) == (ExitCode.WORLD, "DigestMismatch")
    code, result = program("optimodel.artifacts.pull", {contract.PULL_ENV: "{"}, tmp_path)
    assert (code, result.reason) == (ExitCode.SPEC, "BadInput")
    (folder / "model.json").write_text("{}")
    unusable = store.publish(folder).digest
    code, result = program("optimodel.artifacts.pull", pulling(place, unusable, tmp_path / "m"), tmp_path)
    assert (code, result.reason) == (ExitCode.SPEC, "ArtifactUnusable")


def test_cleaning_twice_is_cleaning_once(store, folder, place, tmp_path):
    digest = store.publish(folder).digest
    environ = {contract.JOB_ENV: contract.encode(CleanupInput("team-a", place, (digest,)))}
    for _ in range(2):
        assert program("optimodel.artifacts.clean", environ, tmp_path) == (ExitCode.OK, None)
        assert not store.exists(digest)


def test_the_light_programs_meet_no_heavy_library():
    names = "{'torch', 'transformers', 'numpy', 'onnxruntime', 'kopf'}"
    code = f"import sys, optimodel.artifacts.pull, optimodel.artifacts.clean; print(sorted({names} & set(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": str(Path("operator").resolve())}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def chunks(data, size):
    return (data[i : i + size] for i in range(0, len(data), size))


def test_a_stream_of_any_size_replaces_what_was_there_and_goes(store):
    for data in (os.urandom(20 << 20), b"short", b"", os.urandom(3 << 20)):
        store.upload("checkpoints/k", chunks(data, 700_001))
        assert b"".join(store.download("checkpoints/k")) == data
    store.discard("checkpoints/k")
    store.discard("checkpoints/k")
    with pytest.raises(artifacts.ObjectMissing):
        next(store.download("checkpoints/k"))


def test_what_nobody_came_back_for_goes(store, tmp_path):
    for name in ("old", "new"):
        store.upload(f"checkpoints/{name}", [b"x"])
    store.write("steps/old.json", {})
    past = time.time() - 8 * 86400
    for key in ("checkpoints/old", "steps/old.json"):
        os.utime(tmp_path / "store" / "team-a" / key, (past, past))
    store.discard_older("checkpoints", timedelta(days=7))
    assert b"".join(store.download("checkpoints/new")) == b"x"
    with pytest.raises(artifacts.ObjectMissing):
        next(store.download("checkpoints/old"))
    assert (tmp_path / "store" / "team-a" / "steps" / "old.json").exists()
