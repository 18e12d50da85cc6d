"""The real MiniLM from an S3 bucket to a served folder, and everything a Job may meet on the way."""

from __future__ import annotations

import os
import signal
import time

import msgspec
import pytest
from tests import assets
from tests.seaweed import seaweed
from tests.worker import jobs, tiny

from optimodel.api.contract import ExitCode, JobInput, PullInput
from optimodel.api.sources import Artifacts, Dataset, Source
from optimodel.api.spec import Batching, Gate, Shape
from optimodel.api.steps import Step
from optimodel.artifacts.pull import pull

STEPS = (Step("graph", "Export"), Step("int8", "Quantize"))
SHAPES = (Shape(1, 32), Shape(2, 48))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seaweed")
    jobs.write_rows(folder / "eval.jsonl", [(label, text) for label, text in assets.trec()[::25]])
    jobs.write_rows(folder / "labelled.jsonl", [("place", "what is the capital of peru"), ("fish", "name a fish")] * 40)
    with seaweed(folder, ("models", "data", "store")) as running:
        running.upload("models", "minilm", assets.minilm())
        running.upload("models", "tiny", tiny.save("bert", folder / "tiny"))
        running.upload("models", "classifier", tiny.save("bert", folder / "classifier", ["place", "fish"]))
        (folder / "sets").mkdir()
        for name in ("eval", "labelled"):
            (folder / f"{name}.jsonl").rename(folder / "sets" / f"{name}.jsonl")
        running.upload("data", "sets", folder / "sets")
        yield running


def environ(server):
    return {k: v for role in ("source", "store", "data-eval") for k, v in server.environ(role).items()}


def job(server, model="minilm", *, data="eval", **changes):
    wanted = JobInput(
        model="questions",
        namespace="team-a",
        revision=model[:8],
        evaluation="11111111",
        task="TextEmbedding",
        source=Source(s3=server.s3(f"s3://models/{model}")),
        artifacts=Artifacts(s3=server.s3("s3://store/prefix")),
        steps=STEPS,
        gates=(Gate("cosine", "CosineMean", min="0.985"), Gate("size", "SizeRatio", max="0.27")),
        data=(Dataset("eval", s3=server.s3(f"s3://data/sets/{data}.jsonl")),),
        shapes=SHAPES,
    )
    return msgspec.structs.replace(wanted, **changes)


def watch(running, seen):
    """Poll the page until the worker ends; remember every state of every step."""
    deadline = time.monotonic() + 300
    while running.process.poll() is None and time.monotonic() < deadline:
        page = running.progress()
        for step in page.steps if page else ():
            seen.setdefault(step.name, set()).add((step.state, step.percent))
        time.sleep(0.2)


@pytest.mark.timeout(600)
def test_minilm_from_bucket_to_served_folder(server, workers, tmp_path):
    seen = {}
    running = jobs.start(job(server), tmp_path / "one", environ(server))
    watch(running, seen)
    code, result, log = running.finish()
    assert (code, result.outcome, result.reason) == (ExitCode.OK, "Succeeded", "Published"), log
    artifact, figures = result.artifact, result.figures
    print(
        f"weights {artifact.weights_bytes / artifact.source_weights_bytes:.4f} of fp32, artifact {artifact.bytes} bytes"
    )
    print(figures)
    assert artifact.weights_bytes <= 0.27 * artifact.source_weights_bytes
    assert float(figures.cosine_mean) >= 0.985
    assert figures.samples >= 200
    assert float(figures.speedup_low) > 0
    assert artifact.max_batch_size == 1
    assert float(figures.batch_invariance) < 0.9999
    assert {g.verdict for g in result.gates} == {"Pass"}
    assert any(0 < percent < 100 for state, percent in seen["Evaluate"] if state == "Running")
    assert "tester-secret" not in log

    again = jobs.fork(workers, job(server), tmp_path / "two", environ(server))
    assert [s.state for s in again[1].steps] == ["Done", *["Cached"] * (len(again[1].steps) - 1)], "it reads the source"
    assert again[1].artifact == artifact
    rejudged = job(server, data="labelled", evaluation="22222222", pinned_source=artifact.source_digest)
    rejudged = msgspec.structs.replace(rejudged, gates=(Gate("cosine", "CosineMean", min="0.9999"),), shapes=SHAPES[:1])
    code, result, _ = jobs.fork(workers, rejudged, tmp_path / "three", environ(server))
    assert (code, result.reason, result.artifact.digest) == (ExitCode.GATE, "GateFailed", artifact.digest)
    states = ["Cached"] * 3 + ["Done", "Failed"]
    assert [s.state for s in result.steps] == states
    code, result, _ = jobs.fork(workers, rejudged, tmp_path / "four", environ(server))
    assert (code, [s.state for s in result.steps]) == (ExitCode.GATE, states), "missed gates are measured again"

    wanted = PullInput("questions", "team-a", artifact.digest, job(server).artifacts, Batching(max_batch_size=1))
    assert pull(wanted, tmp_path / "models", environ(server)) == artifact.bytes
    assert (tmp_path / "models" / "questions-core" / "1" / "model.onnx").stat().st_size == artifact.weights_bytes


@pytest.mark.timeout(300)
def test_classification_by_labels(server, workers, tmp_path):
    gates = (Gate("accuracy", "Accuracy", min="0"), Gate("agreement", "CosineMean", min="0.9"))
    wanted = job(server, "classifier", data="labelled", task="TextClassification", gates=gates, shapes=SHAPES[:1])
    code, result, log = jobs.fork(workers, wanted, tmp_path / "work", environ(server))
    assert code == ExitCode.OK, log
    assert (result.figures.samples, result.artifact.golden.output) == (80, "SCORES")
    assert 0 <= float(result.figures.accuracy) <= 1
    unknown = job(server, "classifier", task="TextClassification", gates=gates, evaluation="33333333")
    code, result, _ = jobs.fork(workers, unknown, tmp_path / "work", environ(server))
    assert (code, result.reason) == (ExitCode.SPEC, "LabelsUnknown")


@pytest.mark.timeout(300)
def test_the_remembered_answer_is_padded_as_it_will_be_served(server, workers, tmp_path):
    heads = []
    for length in (16, 64):
        batching = Batching(length_buckets=(length,))
        wanted = job(server, "tiny", revision=f"padded{length}", gates=(), shapes=SHAPES[:1], batching=batching)
        code, result, log = jobs.fork(workers, wanted, tmp_path / "work", environ(server))
        assert code == ExitCode.OK, log
        heads.append(result.artifact.golden.head)
    assert heads[0] != heads[1]


def reached(running, step):
    page = running.progress()
    return any(s.name == step and s.state != "Pending" for s in (page.steps if page else ()))


@pytest.mark.timeout(300)
def test_a_killed_job_ends_at_once_and_the_next_goes_on(server, workers, tmp_path):
    wanted = job(server, "tiny", revision="killed00", gates=(), shapes=SHAPES[:1])
    running = jobs.start(wanted, tmp_path / "work", environ(server))
    deadline = time.monotonic() + 120
    while not reached(running, "int8"):
        assert time.monotonic() < deadline
        assert running.process.poll() is None
        time.sleep(0.05)
    os.kill(running.process.pid, signal.SIGTERM)
    began = time.monotonic()
    code, result, _ = running.finish(10)
    assert time.monotonic() - began < 5
    assert (code, result.reason) == (ExitCode.WORLD, "Interrupted")
    code, result, log = jobs.fork(workers, wanted, tmp_path / "work", environ(server))
    assert code == ExitCode.OK, log
    assert next(s for s in result.steps if s.name == "graph").state == "Cached"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"source": "s3://models/none"}, ExitCode.WORLD, "SourceNotFound"),
        ({"source": "s3://no-such-bucket/x"}, ExitCode.WORLD, "SourceNotFound"),
        ({"pinned_source": "sha256:" + "0" * 64}, ExitCode.SPEC, "SourceChanged"),
        ({"steps": STEPS[::-1]}, ExitCode.SPEC, "WrongOrder"),
        ({"task": "TextClassification"}, ExitCode.SPEC, "UnsupportedArchitecture"),
    ],
)
def test_what_stops_a_job_is_said(server, workers, tmp_path, changes, code, reason):
    if "source" in changes:
        changes = {"source": Source(s3=server.s3(changes["source"]))}
    wanted = job(server, "tiny", revision="stopped0", **changes)
    found, result, log = jobs.fork(workers, wanted, tmp_path / "work", environ(server))
    assert (found, result.outcome, result.reason) == (code, "Failed", reason), log


def test_denied_by_source_and_by_store(server, workers, tmp_path):
    for role, reason in (("SOURCE", "SourceAccessDenied"), ("STORE", "StoreAccessDenied")):
        wrong = environ(server) | {f"{role}_AWS_SECRET_ACCESS_KEY": "wrong-secret"}
        code, result, log = jobs.fork(workers, job(server, "tiny", revision="denied00"), tmp_path / "work", wrong)
        assert (code, result.reason) == (ExitCode.WORLD, reason), log
        assert "wrong-secret" not in log
