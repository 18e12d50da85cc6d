"""Several processes train one model: the same as one process would, and the death of one costs an attempt, not the work."""

from __future__ import annotations

import json
import os
import signal
import time

import msgspec
from safetensors.torch import load_file
from tests.seaweed import free_port
from tests.worker import jobs, test_pipeline, tiny

from optimodel.api import contract
from optimodel.api.contract import ExitCode
from optimodel.api.steps import FineTune, Step, Training
from optimodel.artifacts import open_store
from optimodel.worker import steps
from optimodel.worker.shelf import Shelf
from optimodel.worker.steps import technique

ROUNDING = 2e-3
"""Largest difference of a weight: sums of a batch come in another order, and Adam divides by small numbers."""


def pair(job, folder, environ):
    """Both processes of a Job."""
    place = {contract.RENDEZVOUS_ENV: f"127.0.0.1:{free_port()}"}
    return [
        jobs.start(job, folder / f"process-{rank}", place | environ | {contract.INDEX_ENV: str(rank)})
        for rank in range(2)
    ]


def at_step(run):
    """The optimizer step that the progress page tells."""
    page = run.progress()
    said = next((s.message for s in page.steps if s.state == "Running"), "") if page else ""
    return int(said.split(" at step ")[1].split()[0]) if " at step " in said else 0


def test_two_processes_learn_what_one_does_and_survive_a_loss(tmp_path, monkeypatch):
    """Without dropout, which each draws for itself; the last batch of an epoch has one row. One of the two is killed behind a
    checkpoint; the next attempt ends with the weights of a single process that trained undisturbed, and so with its metric."""
    config = tiny.save("bert", tmp_path / "tiny") / "config.json"
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | calm))
    test_pipeline.write_rows(tmp_path / "rows.jsonl", [{"text": "who wrote it", "label": "person"}])
    (tmp_path / "store").mkdir()
    training = Training(epochs=16, batch_size=9, learning_rate="0.002", max_length=16)
    adapt = Step("adapt", "FineTune", fine_tune=FineTune("d/train", training=training))
    job = test_pipeline.job(tmp_path, adapt, Step("graph", "Export"), processes=2)

    first, other = pair(job, tmp_path, {})
    deadline = time.monotonic() + 240
    while at_step(first) < 60 and first.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(other.process.pid, signal.SIGKILL)
    code, result, log = first.finish()
    assert (code, result.reason) == (ExitCode.WORLD, "PeerLost"), log
    other.process.communicate()

    first, other = pair(job, tmp_path, {})
    code, result, log = first.finish()
    assert (code, result.outcome) == (ExitCode.OK, "Succeeded"), log
    assert "adapt: goes on from a checkpoint" in log
    told, _ = other.process.communicate(timeout=60)
    assert other.process.returncode == 0, told
    assert not (other.folder / "termination-log").exists(), "the first alone tells a result"

    monkeypatch.setattr(technique, "verify", lambda *args, **options: {})  # the pair's own was proven
    shelf = Shelf(job.data, {})
    single = steps.Context("TextClassification", 1, tmp_path, lambda *_: None, shelf.rows, tmp_path / "checkpoint")
    steps.run(adapt, tmp_path / "tiny", tmp_path / "alone", single)
    store = open_store(job.artifacts, job.namespace, {})
    entries = [msgspec.json.decode(p.read_bytes()) for p in (tmp_path / "store").rglob("steps/*.json")]
    store.fetch(next(e["output"] for e in entries if e["type"] == "FineTune"), tmp_path / "together")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "together"))
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    print("largest difference of a weight", apart)
    assert one.keys() == two.keys() and apart < ROUNDING
    source = load_file(tmp_path / "tiny" / "model.safetensors")
    moved = max(float((source[n.removeprefix("bert.")] - v).abs().max()) for n, v in one.items() if "layer" in n)
    assert moved > 10 * ROUNDING, "there was something to learn"
    assert float(result.figures.accuracy) > 0.8
