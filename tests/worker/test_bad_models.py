"""Every step against models and labels that cannot be worked with: a reason with the way out, and nothing half-made in the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests import inputs
from tests.worker import jobs, tiny
from tokenizers import Tokenizer, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from optimodel.api.spec import Gate, Shape
from optimodel.api.steps import Adversarial, Distill, FineTune, Prune, Quantize, Recover, Step, Training
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.training import batches, families, loop
from optimodel.worker.training.loading import load

LABELS = ["place", "book"]
QUICK = Training(epochs=1, batch_size=8, learning_rate="0.001", max_length=16, seed=4)
"""With this seed the last row is not in the first batch."""
GRAPH = Step("graph", "Export")
STATIC = Step("small", "Quantize", quantize=Quantize("Static", data="d"))
ROWS = [(LABELS[n % 2], f"{('capital', 'novel')[n % 2]} of word{n} word{3 * n}") for n in range(24)]


def tuned(**settings):
    return Step("step", "FineTune", fine_tune=FineTune("d", training=QUICK, **settings))


def pruned(method, **settings):
    return Step("step", "Prune", prune=Prune(method, **settings))


TRAINERS = {
    "full": tuned(),
    "lora": tuned(method="LoRA"),
    "adversarial": tuned(adversarial=Adversarial()),
    "head": tuned(method="Head"),
    "distil": Step("step", "Distill", distill=Distill("d", keep_layers=(1,), training=QUICK)),
    "recovery": pruned("Magnitude", recover=Recover("d", training=QUICK)),
    "lora-recovery": pruned("TwoFour", recover=Recover("d", "LoRA", training=QUICK)),
}
READERS = {
    "heads": pruned("Heads", keep="0.5", data="d"),
    "neurons": pruned("FFN", keep="0.5", data="d"),
    "layers": pruned("Layers", keep="0.5", data="d"),
}
STEPS = TRAINERS | READERS | {"vocabulary": pruned("Vocabulary", data="d"), "export": GRAPH}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save("bert", tmp_path_factory.mktemp("model") / "model", LABELS)


@pytest.fixture
def folder(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    jobs.write_rows(tmp_path / "d.jsonl", ROWS)
    return tmp_path


def job(folder, *steps, **changes):
    whole = steps if GRAPH in steps else (*steps, GRAPH)
    return inputs.job(folder, *whole, source="model", **({"data": (inputs.dataset(folder, file="d.jsonl"),)} | changes))


def run(wanted, folder):
    """The result of a Job."""
    return inputs.run(wanted, folder / "work")[0]


def refused(wanted, folder):
    """The failure of a Job."""
    (folder / "work").mkdir()
    with pytest.raises(Failure) as caught:
        run(wanted, folder)
    assert caught.value.message.endswith(".") and len(caught.value.message) < 500
    assert list((folder / "work").rglob("*.partial")) == []
    return caught.value


def stored(folder):
    """What lies in the store: kind of object, and its names, but for the facts of sources."""
    home = folder / "store" / "team-a"
    files = [path.relative_to(home).parts for path in home.rglob("*") if path.is_file()] if home.exists() else []
    return sorted(parts for parts in files if parts[0] != "sources")


def rewrite(name: str, **changes) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | changes))

    return apply


def poisoned(value: float) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        weights["bert.encoder.layer.0.output.dense.weight"][0, 0] = value
        save_file(weights, model / "model.safetensors", {"format": "pt"})

    return apply


def foreign_tokenizer(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens([f"new{n}" for n in range(9)])
    tokenizer.save_pretrained(model)


def without(name: str) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        del weights[name]
        save_file(weights, model / "model.safetensors", {"format": "pt"})

    return apply


MODELS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "tokenizer-of-another": (foreign_tokenizer, "TokenizerMismatch", "227 tokens, the model 218"),
    "no-tokenizer": (lambda model: (model / "tokenizer.json").write_text("{}"), "TokenizerMissing", "tokenizer.json"),
    "nan": (poisoned(float("nan")), "ModelNotFinite", "layer.0.output.dense"),
    "infinity": (poisoned(float("inf")), "ModelNotFinite", "layer.0.output.dense"),
    "a-tensor-less": (without("bert.encoder.layer.1.output.dense.weight"), "WeightsMissing", "layer.1.output.dense"),
    "other-width": (rewrite("config.json", intermediate_size=48), "ModelUnloadable", "save_pretrained"),
    "odd-heads": (rewrite("config.json", num_attention_heads=5), "ModelUnloadable", "save_pretrained"),
    "padding-outside": (rewrite("config.json", pad_token_id=9999), "ModelUnloadable", "save_pretrained"),
    "no-object": (lambda model: (model / "config.json").write_text("[]"), "ModelUnloadable", "save_pretrained"),
    "multi-label": (
        rewrite("config.json", problem_type="multi_label_classification"),
        "UnsupportedArchitecture",
        "single",
    ),
}
"""What is done to the model, what that is called, and words of the message."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", MODELS)
def test_a_bad_model_is_refused_by_every_step(name, step, folder):
    damage, reason, word = MODELS[name]
    damage(folder / "model")
    failure = refused(job(folder, STEPS[step]), folder)
    assert failure.reason == reason and word in failure.message
    assert stored(folder) == []


@pytest.mark.parametrize("step", ["full", "lora", "adversarial", "distil", *READERS])
def test_labels_that_the_head_does_not_have(step, folder):
    jobs.write_rows(folder / "d.jsonl", [*ROWS, ("fish", "name a fish")])
    failure = refused(job(folder, STEPS[step]), folder)
    assert failure.reason == "LabelsMismatch" and "'fish'" in failure.message and "place, book" in failure.message
    assert stored(folder) == []


@pytest.mark.parametrize("step", ["full", "lora", "adversarial", "head", "distil"])
def test_rows_of_one_class_teach_nothing(step, folder):
    jobs.write_rows(folder / "d.jsonl", [("place", text) for _, text in ROWS])
    failure = refused(job(folder, STEPS[step]), folder)
    assert failure.reason == "OneClass" and "'place'" in failure.message
    assert stored(folder) == []


@pytest.mark.parametrize("step", ["full", "lora", "adversarial", "head"])
def test_rows_without_labels_do_not_fine_tune(step, folder):
    jobs.write_rows(folder / "d.jsonl", [*ROWS, (None, "what is this")])
    failure = refused(job(folder, STEPS[step]), folder)
    assert failure.reason == "LabelMissing" and "labelField" in failure.message
    assert stored(folder) == []


@pytest.mark.parametrize("step", TRAINERS)
def test_a_loss_that_is_no_number_ends_the_training(step, folder, monkeypatch):
    """One word's vector overflows, and only the last text has it: the training runs, keeps checkpoints, and meets it."""
    monkeypatch.setitem(loop.train.__kwdefaults__, "checkpoint_steps", 1)
    weights = load_file(folder / "model" / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][tiny.WORDS.index("word199")] = 3e38
    save_file(weights, folder / "model" / "model.safetensors", {"format": "pt"})
    jobs.write_rows(folder / "d.jsonl", [*ROWS, ("place", "word199 " * 12)])
    failure = refused(job(folder, TRAINERS[step]), folder)
    assert failure.reason == "LossNotFinite" and "learningRate" in failure.message
    assert stored(folder) == []


@pytest.mark.parametrize("step", STEPS)
def test_answers_that_are_no_numbers_are_no_result(step, folder):
    weights = load_file(folder / "model" / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"] *= 1e30
    save_file(weights, folder / "model" / "model.safetensors", {"format": "pt"})
    failure = refused(job(folder, STEPS[step]), folder)
    assert failure.reason == "ModelNotFinite"
    assert stored(folder) == []


def test_layers_that_the_model_does_not_have(folder):
    wanted = Step("step", "Distill", distill=Distill("d", keep_layers=(0, 2), training=QUICK))
    failure = refused(job(folder, wanted), folder)
    assert failure.reason == "LayersInvalid" and "0 to 1" in failure.message
    assert stored(folder) == []


def test_a_width_that_has_no_groups_of_four(folder, monkeypatch):
    config, *others, size = tiny.KINDS["bert"]
    monkeypatch.setitem(tiny.KINDS, "bert", (config, *others, size | {"intermediate_size": 66}))
    tiny.save("bert", folder / "model", LABELS)
    assert refused(job(folder, pruned("TwoFour")), folder).reason == "WidthNotDivisible"
    assert stored(folder) == []


def test_a_text_in_which_the_tokenizer_finds_nothing():
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "book": 1}, unk_token="[UNK]"))
    words.normalizer = normalizers.Replace("-", "")
    with pytest.raises(Failure) as caught:
        batches.encode(PreTrainedTokenizerFast(tokenizer_object=words), ["book", "--"], 16, 0)
    assert caught.value.reason == "DataInvalid" and "'--'" in caught.value.message


@pytest.fixture(scope="module")
def graphed(model, tmp_path_factory):
    """A folder whose store has the model's graph."""
    folder = tmp_path_factory.mktemp("graphed")
    shutil.copytree(model, folder / "model")
    jobs.write_rows(folder / "d.jsonl", ROWS)
    (folder / "work").mkdir()
    run(job(folder, GRAPH), folder)
    shutil.rmtree(folder / "work")
    return folder


@pytest.mark.parametrize(
    ("rows", "wanted", "gates", "reason", "word"),
    [
        (ROWS[:7], (GRAPH, STATIC), (), "DataTooSmall", "7 rows"),
        (
            [*ROWS, ("fish", "name a fish")],
            (GRAPH,),
            (Gate("right", "Accuracy", min="0.5"),),
            "LabelsUnknown",
            "'fish'",
        ),
    ],
)
def test_what_is_found_wrong_after_the_export_leaves_the_graph_and_no_more(
    rows, wanted, gates, reason, word, graphed, tmp_path
):
    shutil.copytree(graphed, tmp_path / "w")
    before = stored(tmp_path / "w")
    assert {parts[0] for parts in before} == {"artifacts", "published", "reports", "steps"}
    jobs.write_rows(tmp_path / "w" / "d.jsonl", rows)
    again = job(tmp_path / "w", *wanted, gates=gates, evaluation="e2", revision=GRAPH.name)
    failure = refused(again, tmp_path / "w")
    assert failure.reason == reason and word in failure.message
    assert stored(tmp_path / "w") == before


def test_labels_that_nobody_will_know_are_told_before_training(folder):
    judged = inputs.dataset(folder, "e", "e.jsonl")
    gates = (Gate("right", "Accuracy", min="0", data="e"),)
    wanted = job(folder, TRAINERS["head"], data=(inputs.dataset(folder, file="d.jsonl"), judged), gates=gates)
    jobs.write_rows(folder / "e.jsonl", [*ROWS, ("fish", "name a fish")])
    failure = refused(wanted, folder)
    assert failure.reason == "LabelsUnknown" and "'fish'" in failure.message
    assert stored(folder) == []
    jobs.write_rows(folder / "d.jsonl", [*ROWS, *[("fish", f"name fish {n}") for n in range(12)]])
    shutil.rmtree(folder / "work")
    (folder / "work").mkdir()
    assert run(wanted, folder).figures.accuracy, "it is learnt now"


def test_evidence_that_cannot_be_taken_is_refused_before_training(folder):
    judged = inputs.dataset(folder, "e", "e.jsonl")
    gates = (Gate("right", "Accuracy", min="0", data="e"),)
    data = (inputs.dataset(folder, file="d.jsonl"), judged)
    jobs.write_rows(folder / "e.jsonl", [*ROWS, (None, "who wrote this")])
    failure = refused(job(folder, TRAINERS["head"], data=data, gates=gates), folder)
    assert failure.reason == "LabelMissing" and "'e' has rows without a label" in failure.message

    jobs.write_rows(folder / "e.jsonl", ROWS)
    virtual = tuned(method="PromptTuning", virtual_tokens=16)
    for step, first in ((TRAINERS["head"], 71), (virtual, 55)):
        wanted = job(folder, step, data=data, gates=gates, shapes=(Shape(1, first), Shape(1, 16)))
        shutil.rmtree(folder / "work")
        failure = refused(wanted, folder)
        assert failure.reason == "ShapesTooLong"
        assert f"has {first} tokens, and the model reads {first - 1}" in failure.message
    assert stored(folder) == []


@pytest.mark.parametrize("named", [{"id2label": None, "label2id": None}, {"id2label": {"0": "a", "1": "b"}}])
def test_a_head_whose_labels_are_numbers_is_judged_by_them(named, folder):
    """A config says nothing of two labels without names."""
    rewrite("config.json", **named)(folder / "model")
    jobs.write_rows(folder / "d.jsonl", [(n % 2, text) for n, (_, text) in enumerate(ROWS)])
    (folder / "work").mkdir()
    assert run(job(folder, gates=(Gate("right", "Accuracy", min="0"),)), folder).figures.samples == len(ROWS)


def test_a_head_whose_labels_are_only_counted_is_served_with_all_of_them(folder):
    shutil.rmtree(folder / "model")
    tiny.save("bert", folder / "model", ["place", "person", "number"])
    rewrite("config.json", id2label=None, label2id=None, num_labels=3)(folder / "model")
    (folder / "work").mkdir()
    artifact = run(job(folder, data=()), folder).artifact
    assert {output.name: output.dims for output in artifact.outputs} == {"SCORES": (3,), "LABEL": (1,)}
    assert len(artifact.golden.head) == 3


@pytest.mark.parametrize("method", ["Heads", "FFN", "Layers", "Magnitude"])
def test_the_smallest_share_leaves_something_that_answers(method, folder):
    """`keep` is above 0, so a head and a neuron of each layer, or one layer, or one weight stay."""
    rows = [Row(text, label) for label, text in ROWS]
    context = tiny.context("TextClassification", folder, {"d": rows})
    data = None if method == "Magnitude" else "d"
    steps.run(pruned(method, keep="0.000000001", data=data), folder / "model", folder / "thin", context)
    thin, _ = load(folder / "thin", "TextClassification")
    found = [families.heads(thin, layer) for layer in families.layers(thin)]
    if method == "Heads":
        assert [len(heads) for heads in found] == [1, 1]
    assert thin.config.intermediate_size == (1 if method == "FFN" else 64)
    assert len(found) == (1 if method == "Layers" else 2)
