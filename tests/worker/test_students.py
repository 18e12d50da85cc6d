"""A student that is another model than its teacher: what it learns, what it keeps of its own, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import signal

import msgspec
import pytest
from msgspec import structs
from safetensors.torch import load_file, save_file
from tests import inputs
from tests.seaweed import free_port
from tests.worker import forks, jobs, tiny
from tests.worker.lessons import QUICK, accuracy, noted, questions
from tokenizers import Tokenizer, models
from transformers import AutoConfig

from optimodel.api.contract import ExitCode, Result
from optimodel.api.sources import S3, Artifacts, Model
from optimodel.api.steps import Distill, FineTune, Step, Training
from optimodel.artifacts import open_store
from optimodel.artifacts.manifest import scan
from optimodel.worker.errors import Failure
from optimodel.worker.follower import follow
from optimodel.worker.peers import Call, Peers
from optimodel.worker.report.card import card
from optimodel.worker.report.document import Report
from optimodel.worker.report.page import page
from optimodel.worker.steps import distill, finetune
from optimodel.worker.training import folders, students
from optimodel.worker.training.memory import Memory

LABELS = ["book", "place"]
NARROW = {"dim": 24, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
"""Of a DistilBERT: another family than the teachers, fewer layers, and narrower ones."""


def narrow(folder, labels=None, **changes):
    """A student of another shape than any teacher here."""
    config, *others, _ = tiny.KINDS["distilbert"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.KINDS, "distilbert", (config, *others, NARROW | changes))
        return tiny.save("distilbert", folder, labels)


def taught(name="small", **changes):
    return Distill("t", hidden="0", student=name, **changes)


def given(task, scratch, data, **places):
    """A step's context, with the folders of other models."""
    scratch.mkdir(exist_ok=True)
    return dataclasses.replace(tiny.context(task, scratch, data), model=places.__getitem__)


def refused(action, reason, *words):
    with pytest.raises(Failure) as caught:
        action()
    assert caught.value.reason == reason and caught.value.message.endswith(".")
    assert not [word for word in words if word not in caught.value.message], caught.value.message


def test_a_student_of_another_shape_learns_what_the_labels_do_not_say(tmp_path, unproven):
    """Four labels in ten are flipped: with a teacher that saw right ones it is better than alone."""
    source, chance = tiny.save("bert", tmp_path / "source", LABELS), random.Random(5)
    small = narrow(tmp_path / "small")
    flipped = {"book": "place", "place": "book"}
    rows = [
        dataclasses.replace(row, label=flipped[row.label]) if chance.random() < 0.4 else row
        for row in questions(seed=5)
    ]
    context = given("TextClassification", tmp_path / "t", {"right": questions(200), "t": rows})
    finetune.run(FineTune("right", training=QUICK), source, tmp_path / "teacher", context)
    found = {}
    for name, soft in (("taught", "0.9"), ("alone", "0")):
        own, figures = noted(given("TextClassification", tmp_path / name, {"t": rows}, small=small))
        lessons = Training(epochs=20, batch_size=16, learning_rate="0.01")
        distill.run(taught(soft=soft, training=lessons), tmp_path / "teacher", tmp_path / name / "out", own)
        found[name] = accuracy(tmp_path / name / "out", questions(400, seed=9))
        assert figures["student"] == {"model": "small", "layers": 1, "of": 2} and "layers" not in figures
    print(found)
    assert found["taught"] > found["alone"] + 0.1
    config = AutoConfig.from_pretrained(tmp_path / "taught" / "out")
    assert (config.model_type, config.n_layers, config.dim, config.id2label) == (
        "distilbert",
        1,
        24,
        dict(enumerate(LABELS)),
    )
    tables = [load_file(p / "model.safetensors") for p in (small, tmp_path / "taught" / "out")]
    name = "embeddings.word_embeddings.weight"
    assert bool((tables[0][name] == tables[1][f"distilbert.{name}"]).all()), "tables of its own, which do not move"


def test_a_head_for_the_teachers_labels_stays_and_any_other_is_drawn_by_the_seed(tmp_path):
    teacher = folders.open_folder(
        tiny.save("bert", tmp_path / "teacher", LABELS),
        "TextClassification",
        tiny.context("TextClassification", tmp_path),
    )

    def head(folder, seed):
        context = given("TextClassification", tmp_path / "c", {})
        return students.opened("small", folder, teacher, seed, context).model.classifier.weight

    own = narrow(tmp_path / "own", LABELS)
    assert bool((head(own, 0) == load_file(own / "model.safetensors")["classifier.weight"]).all())
    for folder in (narrow(tmp_path / "turned", LABELS[::-1]), narrow(tmp_path / "bare")):
        assert bool((head(folder, 0) == head(folder, 0)).all()) and not bool((head(folder, 0) == head(folder, 1)).any())


def test_vectors_are_learnt_and_the_students_documents_stay(tmp_path, unproven):
    """Texts are cut where the student's room ends, and padding and truncation of tokenizer.json do not count."""
    source, small = tiny.save("bert", tmp_path / "source"), narrow(tmp_path / "small", dim=32, n_heads=4)
    (small / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    (small / "1_Pooling").mkdir()
    (small / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    tokenizer = Tokenizer.from_file(str(small / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    tokenizer.save(str(small / "tokenizer.json"))
    asked = []
    own = given("TextEmbedding", tmp_path / "c", {"t": questions(32)}, small=small)
    ask = folders.Subject.answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders.Subject, "answer", lambda s, b, **o: (asked.append(b.mask.shape[1]), ask(s, b, **o))[1])
        distill.run(taught(training=Training(epochs=1)), source, tmp_path / "out", own)
    assert max(asked) == 6
    for document in ("1_Pooling/config.json", "sentence_bert_config.json", "tokenizer.json"):
        assert (tmp_path / "out" / document).read_bytes() == (small / document).read_bytes()


def test_what_reads_rows_otherwise_cannot_be_taught(tmp_path):
    source, small = tiny.save("bert", tmp_path / "source"), narrow(tmp_path / "small")
    refused(
        lambda: students.check("small", small, source, "TextEmbedding"),
        "StudentMismatch",
        "24",
        "32",
        "leave student out",
    )
    tokenizer = Tokenizer.from_file(str(small / "tokenizer.json"))
    tokenizer.model = models.WordLevel({word: n for n, word in enumerate(reversed(tiny.WORDS))}, unk_token="[UNK]")
    students.check("small", small, source, "TextClassification")
    tokenizer.save(str(small / "tokenizer.json"))
    refused(
        lambda: students.check("small", small, source, "TextClassification"),
        "TokenizerMismatch",
        "'small'",
        "differ in",
        "model",
        "leave student out",
    )


def test_writers_share_a_vocabulary_and_models_of_images_their_processor(tmp_path):
    first, other = (tiny.save_decoder(tmp_path / name) for name in ("first", "other"))
    students.check("small", other, first, "TextGeneration")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"vocab_size": 999}))
    refused(lambda: students.check("small", other, first, "TextGeneration"), "StudentMismatch", "999", "vocabulary")
    eyes, wider = tiny.save_images(tmp_path / "eyes"), tiny.save_images(tmp_path / "wider", kind="deit", size=24)
    students.check("small", tiny.save_images(tmp_path / "same"), eyes, "ImageClassification")
    refused(
        lambda: students.check("small", wider, eyes, "ImageClassification"), "StudentMismatch", "height", "processor"
    )


GRAPH = Step("graph", "Export")


def world(folder, task="TextClassification"):
    """A Job in a folder that has all it needs: a source without a head that is adapted, and a smaller model that it teaches."""
    tiny.save("bert", folder / "tiny")
    narrow(folder / "small")
    rows = [("place" if n % 2 else "book", f"{'capital' if n % 2 else 'novel'} word{n}") for n in range(60)]
    jobs.write_rows(folder / "rows.jsonl", rows)
    (folder / "store").mkdir()
    adapt = Step("adapt", "FineTune", fine_tune=FineTune("d", training=QUICK))
    small = Step("taught", "Distill", distill=Distill("d", hidden="0", student="small", training=QUICK))
    return inputs.job(folder, adapt, small, GRAPH, models=(Model("small", s3=S3(f"file://{folder}/small")),))


def states(result):
    return {step.name: step.state for step in result.steps}


@pytest.mark.timeout(300)
def test_a_job_teaches_another_model_once_and_knows_its_bytes(tmp_path):
    """In two Jobs, of which the second finds another model in its place, or none; then by another object."""
    wanted = world(tmp_path)
    first, store = inputs.run(structs.replace(wanted, until="adapt"), tmp_path / "one")
    assert first.pins.models["small"].startswith("sha256:")
    pins = {"pinned_source": first.pins.source, "pinned_data": first.pins.data, "pinned_models": first.pins.models}
    shutil.move(tmp_path / "small", tmp_path / "away")
    narrow(tmp_path / "small", hidden_dim=48)
    rest = structs.replace(wanted, **pins)
    refused(
        lambda: inputs.run(rest, tmp_path / "changed"), "SourceChanged", "Model 'small' of spec.models: ", "refresh"
    )
    shutil.rmtree(tmp_path / "small")
    shutil.move(tmp_path / "away", tmp_path / "small")
    whole, _ = inputs.run(rest, tmp_path / "two")
    assert states(whole) == {"Fetch": "Cached", "adapt": "Cached"} | dict.fromkeys(
        ("taught", "graph", "Evaluate", "Publish"), "Done"
    )
    assert whole.artifact.models == first.pins.models

    report = store.read(whole.report, Report)
    assert report.details["steps"]["taught"]["student"]["model"] == "small"
    said, shown = card(report), page(report)
    assert f"- Model small: {first.pins.models['small']}, " in said and "/small" in said
    assert "model small" in shown and first.pins.models["small"] in shown

    shutil.move(tmp_path / "small", tmp_path / "away")
    again, _ = inputs.run(structs.replace(rest, evaluation="e2"), tmp_path / "three")
    assert again.artifact == whole.artifact, "what is pinned and made needs no model any more"
    shutil.move(tmp_path / "away", tmp_path / "small")
    shared, _ = inputs.run(structs.replace(wanted, revision="shares"), tmp_path / "four")
    assert {name: states(shared)[name] for name in ("adapt", "taught", "graph")} == dict.fromkeys(
        ("adapt", "taught", "graph"), "Cached"
    )
    weights = load_file(tmp_path / "small" / "model.safetensors")
    save_file({k: 2 * v for k, v in weights.items()}, tmp_path / "small" / "model.safetensors", {"format": "pt"})
    anew, _ = inputs.run(wanted, tmp_path / "five")
    assert (states(anew)["adapt"], states(anew)["taught"]) == ("Cached", "Done"), "other bytes, another student"
    assert anew.artifact.digest != whole.artifact.digest


def test_a_student_that_cannot_learn_is_told_before_its_teacher_is_trained(tmp_path):
    wanted = world(tmp_path)
    path = tmp_path / "small" / "tokenizer.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"normalizer": {"type": "Lowercase"}}))
    refused(lambda: inputs.run(wanted, tmp_path / "one"), "TokenizerMismatch", "normalizer")
    assert not (tmp_path / "store" / "team-a" / "steps").exists()
    (tmp_path / "small" / "model.safetensors").unlink()
    refused(lambda: inputs.run(wanted, tmp_path / "two"), "WeightsMissing", "Model 'small' of spec.models: ")
    shutil.rmtree(tmp_path / "small")
    refused(lambda: inputs.run(wanted, tmp_path / "three"), "SourceNotFound", "Model 'small' of spec.models: ")
    refused(lambda: inputs.run(structs.replace(wanted, models=()), tmp_path / "four"), "StepModelUnknown", "none")


def test_the_other_processes_of_a_job_teach_a_model_of_the_same_bytes(tmp_path, monkeypatch):
    wanted = structs.replace(world(tmp_path), processes=2)
    store = open_store(wanted.artifacts, wanted.namespace, {})
    teacher = store.publish(tiny.save("bert", tmp_path / "teacher", LABELS)).digest
    monkeypatch.setattr(Memory, "save", lambda memory, losses: None)  # nobody hears it

    def follows(work, small):
        other = Peers(rank=1)
        monkeypatch.setattr(other, "calls", lambda: iter([Call(wanted.steps[1], teacher, False, {"small": small})]))
        follow(wanted, store, tmp_path / work, {}, 1, other)

    follows("same", scan(tmp_path / "small").digest)
    assert [*(tmp_path / "same" / "steps").glob("taught-*")]
    refused(lambda: follows("others", teacher), "SourceChanged", "Model 'small' of spec.models: ")


@pytest.mark.timeout(300)
def test_a_killed_worker_goes_on_teaching(workers, tmp_path):
    """Killed within the lesson: the next one goes on from a checkpoint, and makes what an undisturbed one does."""
    wanted = world(tmp_path)
    tiny.save("bert", tmp_path / "tiny", LABELS)

    def pod(store, after=0):
        folder = tmp_path / f"work-{store}"
        folder.mkdir(exist_ok=True)
        (tmp_path / store).mkdir(exist_ok=True)
        (folder / "log").unlink(missing_ok=True)
        job = structs.replace(wanted, steps=wanted.steps[1:], artifacts=Artifacts(s3=S3(f"file://{tmp_path}/{store}")))
        environ = jobs.environment(job, folder, free_port())
        status = workers.run(forks.Order(str(folder / "log"), environ, after=after))
        return status, (folder / "log").read_text(), folder / "termination-log"

    status, log, calm = pod("calm")
    assert status == ExitCode.OK, log
    (moment,) = re.findall(r"^taught: loss .* at step 9 of .*\(moment (\d+)\)", log, re.MULTILINE)
    status, log, _ = pod("killed", int(moment))
    assert status == -signal.SIGKILL, log
    status, log, resumed = pod("killed")
    assert status == ExitCode.OK and "taught: goes on from a checkpoint" in log, log
    digests = [msgspec.json.decode(left.read_bytes(), type=Result).artifact.digest for left in (calm, resumed)]
    assert digests[0] == digests[1]
