"""Several processes train one model: the same as one process would, and the death of one costs an attempt, not the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import msgspec
import pytest
from tests import inputs
from tests.seaweed import free_port
from tests.worker import jobs, test_pipeline, tiny, trainee

from optimodel.api import contract
from optimodel.api.contract import ExitCode
from optimodel.api.search import Auto
from optimodel.api.spec import Gate
from optimodel.api.steps import Distill, FineTune, Prune, Recover, Step, Training
from optimodel.artifacts import open_store
from optimodel.worker import peers
from optimodel.worker.follower import follow
from optimodel.worker.peers import Call, Peers
from optimodel.worker.steps import Context
from optimodel.worker.training import loop
from optimodel.worker.training.memory import Memory

ROUNDING = 1e-5
"""Largest difference of a weight: the sums of a batch come in another order."""


def trainees(folder, size, parallelism="DDP", die=0, labels=3):
    """What the `size` processes say at their ends; the last of them dies at the step `die`, and knows so many labels."""
    port, environ = str(free_port()), {**os.environ, "PYTHONPATH": f"operator:.:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.worker.trainee", parallelism]
    running = [
        subprocess.Popen(
            [
                *command,
                str(rank),
                str(size),
                port,
                str(folder),
                *map(str, (die, labels) if rank == size - 1 else (0, 3)),
            ],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=240)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0] * (size - 1) + [137 if die else 0]
    return [lines[-1] for lines in said if lines]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return json.loads(trainees(tmp_path_factory.mktemp("alone"), 1)[0])


@pytest.mark.parametrize(("parallelism", "size", "share"), [("DDP", 2, 1), ("FSDP", 3, 0.45)])
def test_processes_learn_what_one_does_and_survive_a_loss(parallelism, size, share, alone, tmp_path):
    """One of them dies seven steps behind a checkpoint; the next attempt goes on from it, and ends with the weights of a single
    process that trained undisturbed on the same batches. With FSDP each holds its part of them (odd sizes do not divide evenly)."""
    assert trainees(tmp_path, size, parallelism, die=27)[0] == "PeerLost"
    (kept,) = (tmp_path / "checkpoint-0").iterdir()
    assert f"-of-{size}" in kept.name and not (tmp_path / "checkpoint-1").exists(), "the first keeps it for all"
    together = json.loads(trainees(tmp_path, size, parallelism)[0])
    assert (tmp_path / "checkpoint-1").exists(), "the others were given it"
    assert together["weights"] == pytest.approx(alone["weights"], abs=ROUNDING)
    assert together["weights"] != alone["weights"]
    assert together["held"] <= share * alone["held"]


def test_a_checkpoint_that_would_not_be_kept_is_not_made(tmp_path):
    asked = []
    context = Context(
        "TextClassification", 1, tmp_path, lambda *_: None, list, tmp_path / "checkpoint", due=lambda n: asked.append(n)
    )
    model = trainee.Model(3)
    loss = partial(trainee.loss, model)
    loop.train(model, trainee.TEXTS, loss, trainee.TRAINING, context, checkpoint_steps=10)
    learnt = sum(value.nbytes for value in model.parameters() if value.requires_grad)
    assert set(asked) == {3 * learnt} and not (tmp_path / "checkpoint").exists()


def test_what_travels_comes_in_pieces_and_whole(monkeypatch):
    sent = []
    monkeypatch.setattr(peers, "_send", lambda data: sent.append(bytes(data)))
    said = os.urandom(3 * peers.CHUNK + 5)
    with Peers(1, 2).outlet() as stream:
        stream.write(said)
    assert b"".join(sent) == said and max(map(len, sent)) <= peers.CHUNK and sent[-1] == b"", "and its end is told"


def test_processes_that_read_different_labels_say_so(tmp_path):
    """The one that differs says why, and the others that they lost it."""
    assert trainees(tmp_path, 2, labels=4) == ["PeerLost", "DataChanged"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("parallelism", ["DDP", "FSDP"])
def test_a_job_of_two_processes_publishes_once(parallelism, tmp_path):
    """Both run the contract's own program; the first publishes, the other trains beside it and leaves no result."""
    tiny.save("bert", tmp_path / "tiny")
    test_pipeline.write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "store").mkdir()
    training = Training(epochs=12, batch_size=16, learning_rate="0.002", max_length=16)
    adapt = Step("adapt", "FineTune", fine_tune=FineTune("d/train", training=training, freeze_embeddings=False))
    small = Step("small", "Distill", distill=Distill("d/train", training=training))
    job = test_pipeline.job(tmp_path, adapt, small, Step("graph", "Export"), processes=2, parallelism=parallelism)
    place = {contract.RENDEZVOUS_ENV: f"127.0.0.1:{free_port()}"}
    first, other = (
        jobs.start(job, tmp_path / f"process-{rank}", place | {contract.INDEX_ENV: str(rank)}) for rank in range(2)
    )
    code, result, log = first.finish()
    told, _ = other.process.communicate(timeout=60)
    assert (code, result.outcome) == (ExitCode.OK, "Succeeded"), log + told
    assert float(result.figures.accuracy) > 0.8, "as a single process reaches"
    assert other.process.returncode == 0 and "small: called as process 1 of 2" in told
    assert not (other.folder / "termination-log").exists()


def test_the_others_read_words_and_run_steps_that_no_spec_holds(tmp_path, monkeypatch):
    """A search may call to a step that it made up, and to it again behind another."""
    for kind in ("bert", "distilbert"):
        tiny.save(kind, tmp_path / kind, ["other", "word"], words=True)
    row = json.dumps({"tokens": ["who", "wrote", "word7"], "tags": ["other", "other", "word"]}) + "\n"
    (tmp_path / "rows.jsonl").write_text("".join(row.replace("7", str(i)) for i in range(40)))
    (tmp_path / "store").mkdir()
    job = test_pipeline.job(tmp_path, Step("graph", "Export"), task="TokenClassification", processes=2)
    store = open_store(job.artifacts, job.namespace, {})
    training = Training(epochs=1, batch_size=8)
    found = Step("auto-ffn", "Prune", prune=Prune("FFN", "0.5", "d/train", Recover("d/train", training=training)))
    other = Peers(rank=1)
    monkeypatch.setattr(Memory, "save", lambda memory, losses: None)  # nobody hears it
    said = [msgspec.json.encode(Call(found, store.publish(tmp_path / k).digest, False)) for k in ("bert", "distilbert")]
    monkeypatch.setattr(other, "calls", lambda: (msgspec.json.decode(call, type=Call) for call in said))
    follow(job, store, tmp_path / "work", {}, 1, other)
    assert len([*(tmp_path / "work" / "steps").glob("auto-ffn-*")]) == 2


@pytest.mark.timeout(300)
def test_two_processes_outlive_a_trial_that_fails(tmp_path):
    """Training text of one class teaches no student; what comes behind it trains in both."""
    tiny.save("bert", tmp_path / "tiny", ["fish", "place"])
    jobs.write_rows(tmp_path / "rows.jsonl", [("fish", f"name a fish word{n}") for n in range(40)])
    jobs.write_rows(tmp_path / "other.jsonl", [("place", f"what is word{n}") for n in range(40)])
    (tmp_path / "store").mkdir()
    data = (inputs.dataset(tmp_path), inputs.dataset(tmp_path, "other", "other.jsonl", inputs.PARTS))
    floor = Gate("alike", "CosineMean", data="other/test", min="-1")
    auto = Auto("other/train", "Size", train="d", prune=("Layers", "FFN"), trials=9)
    job = inputs.job(tmp_path, Step("graph", "Export"), auto=auto, gates=(floor,), data=data, processes=2)
    place = {contract.RENDEZVOUS_ENV: f"127.0.0.1:{free_port()}"}
    first, other = (
        jobs.start(job, tmp_path / f"process-{rank}", place | {contract.INDEX_ENV: str(rank)}) for rank in range(2)
    )
    code, result, log = first.finish()
    told, _ = other.process.communicate(timeout=60)
    assert (code, result.outcome, result.search.trials) == (ExitCode.OK, "Succeeded", 9), log + told
    assert other.process.returncode == 0, told
    assert "Search: Layers pruned, " in log and "OneClass: " in log and "auto-layers: OneClass: " in told
    assert "auto-ffn: called as process 1 of 2" in told
