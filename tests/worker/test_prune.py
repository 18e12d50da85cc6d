"""Pruning on tiny models: what goes, what stays, that transformers loads it from the config alone, and that recovery recovers."""

from __future__ import annotations

import json
import random

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import assets
from tests.worker import tiny
from tests.worker.lessons import noted, questions, sharp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from optimodel.api.spec import Batching
from optimodel.api.steps import Prune, Recover, Step, Training
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.inference.answers import Answerer, cosines
from optimodel.worker.steps import prune
from optimodel.worker.steps.prune import masks
from optimodel.worker.training import batches, families, folders, losses
from optimodel.worker.training.loading import load

TASKS = ("TextClassification", "TextEmbedding")


def pruned(settings, source, folder, task="TextClassification", rows=None):
    """The folder that the step makes, and its figures."""
    (folder / "out").mkdir(parents=True)
    context, figures = noted(tiny.context(task, folder, {"texts": questions() if rows is None else rows}))
    prune.run(settings, source, folder / "out", context)
    return folder / "out", figures


def answers(folder, task="TextClassification"):
    """Answers to texts of its own."""
    subject = folders.open_folder(folder, task, tiny.context(task, folder))
    texts = batches.encode(subject.processor, [row.text for row in questions(60, seed=5)], 64, 0)
    with torch.no_grad():
        return subject.answer(texts.batch(range(60)))[0]


def apart(folder, other):
    return float(losses.soft(answers(folder), answers(other), 1.0))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_heads_are_zeros_in_the_folder_and_gone_from_the_graph(kind, exported, tmp_path):
    """Through the whole steps: plain transformers loads the folder, and the graph answers alike with smaller matrices."""
    made = exported(kind, "TextEmbedding")
    context, figures = noted(tiny.context("TextEmbedding", tmp_path, {"texts": questions()}))
    step = Step("thin", "Prune", prune=Prune("Heads", keep="0.5", data="texts"))
    steps.run(step, made / "source", tmp_path / "thin", context)
    assert sum(map(len, figures["heads"])) == 4 and all(figures["heads"])
    plain = load_file(tmp_path / "thin" / "model.safetensors")
    family = families.FAMILIES[kind]
    for index, kept in enumerate(figures["heads"]):
        columns = plain[f"{family.layers}.{index}.{family.output}.weight"].view(32, 4, 8)
        assert [head for head in range(4) if bool(columns[:, head].any())] == kept
    steps.run(Step("graph", "Export"), tmp_path / "thin", tmp_path / "graph", context)
    graphs = (made / "graph", tmp_path / "graph")
    before, after = (Answerer(graph, 1, Batching()) for graph in graphs)
    size = [(graph / "model.onnx").stat().st_size for graph in graphs]
    assert size[0] - size[1] > 4 * 8 * 32 * 4 * 4 * 0.9, "four heads of 8 x 32 values in four matrices"
    expected = answers(tmp_path / "thin", "TextEmbedding").numpy()
    found = np.stack([after.alone(row.text) for row in questions(60, seed=5)])
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert before.description == after.description


def test_heads_that_are_cut_come_back_as_zeros_where_they_were(tmp_path):
    model, _ = load(tiny.save("bert", tmp_path / "s"), "TextEmbedding")
    ids = torch.randint(5, 200, (3, 9))
    layer = families.layers(model)[1]
    before = layer.get_submodule(families.of(model).query).weight.detach().clone()
    families.keep_heads(model, layer, [0, 2, 3])
    families.keep_heads(model, layer, [0, 2])
    assert families.heads(model, layer) == [0, 3]
    with torch.no_grad():
        cut = model(input_ids=ids).last_hidden_state
        families.expand(model)
        assert torch.allclose(model(input_ids=ids).last_hidden_state, cut, atol=1e-6)
    after = layer.get_submodule(families.of(model).query).weight.detach()
    assert torch.equal(after[:8], before[:8]) and torch.equal(after[24:], before[24:]) and not after[8:24].any()
    assert families.compact(model) == 2


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_neurons_go_from_every_layer_alike(kind, task, tmp_path, unproven):
    source = tiny.save(kind, tmp_path / "source", ["book", "place"] if task == TASKS[0] else None)
    out, figures = pruned(Prune("FFN", keep="0.55", data="texts"), source, tmp_path / "thin", task)
    assert figures["neurons"] == {"before": 64, "after": 32}  # 35, to a multiple of 8
    config = json.loads((out / "config.json").read_text())
    assert config[families.FAMILIES[kind].width] == 32
    assert figures["parameters"]["before"] - figures["parameters"]["after"] == 2 * 32 * (2 * 32 + 1)
    assert answers(out, task).shape == answers(source, task).shape


@pytest.mark.parametrize("method", ["Heads", "FFN"])
def test_what_matters_less_goes_first(method, tmp_path, unproven):
    """Parts whose output was silenced are those that go, by gradients and by norms alike."""
    source = tiny.save("bert", tmp_path / "source", ["book", "place"])
    weights = load_file(source / "model.safetensors")
    silent = {0: [1, 2], 1: [0, 3]}
    for layer, parts in silent.items():
        for part in parts:
            if method == "Heads":
                weights[f"bert.encoder.layer.{layer}.attention.output.dense.weight"][:, part * 8 : part * 8 + 8] *= 1e-3
            else:
                weights[f"bert.encoder.layer.{layer}.output.dense.weight"][:, part * 16 : part * 16 + 16] *= 1e-3
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    for data in ("texts", None):
        out, figures = pruned(Prune(method, keep="0.5", data=data), source, tmp_path / str(data))
        if method == "Heads":
            assert figures["heads"] == [[0, 3], [1, 2]]
        else:
            kept = load_file(out / "model.safetensors")["bert.encoder.layer.0.intermediate.dense.weight"]
            whole = weights["bert.encoder.layer.0.intermediate.dense.weight"]
            assert torch.equal(kept, torch.cat([whole[:16], whole[48:]]))
        assert apart(out, source) < 0.05


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_layers_go_where_answers_change_least_and_the_last_stays(kind, tmp_path, unproven):
    depth = families.FAMILIES[kind].depth
    source = sharp(kind, tmp_path / "source", ["book", "place"])
    out, figures = pruned(Prune("Layers", keep="0.5", data="texts"), source, tmp_path / "thin")
    kept = figures["layers"]["kept"]
    assert len(kept) == 2 and kept[-1] == 3 and figures["layers"]["of"] == 4
    assert json.loads((out / "config.json").read_text())[depth] == 2
    chosen, rivals = apart(out, source), []
    for other in {0, 1, 2} - set(kept):
        subject = folders.open_folder(source, "TextClassification", tiny.context("TextClassification", tmp_path))
        families.keep_layers(subject.model, [other, 3])
        folders.save(subject, tmp_path / f"other-{other}", tiny.context("TextClassification", tmp_path))
        rivals.append(apart(tmp_path / f"other-{other}", source))
    assert chosen < max(rivals)


def test_weights_become_zero_and_stay_so(tmp_path, unproven):
    """Through training of all weights and through merged adapters; and with 2:4, in every group of four."""
    source = sharp("bert", tmp_path / "source", ["book", "place"])
    quick = Training(epochs=4, batch_size=16, learning_rate="0.002")
    found = {}
    for method, keep, share in (("Magnitude", "0.3", 0.7), ("TwoFour", "0.75", 0.5)):
        for recovery in (None, Recover("texts", training=quick), Recover("texts", "LoRA", training=quick)):
            word = f"{method}-{recovery.method if recovery else None}"
            out, figures = pruned(Prune(method, keep=keep, recover=recovery), source, tmp_path / word)
            assert figures["sparsity"] == pytest.approx(share, abs=0.002)
            found[word] = apart(out, source)
            if method == "TwoFour":
                for name, value in load_file(out / "model.safetensors").items():
                    if "layer" in name and value.dim() == 2:
                        assert int((value.view(-1, 4) == 0).sum(1).min()) >= 2
    print(found)
    for method in ("Magnitude", "TwoFour"):
        for recovery in ("Distill", "LoRA"):
            assert found[f"{method}-{recovery}"] < 0.8 * found[f"{method}-None"]


@pytest.mark.parametrize("method", ["Heads", "FFN", "Layers"])
def test_recovery_recovers(method, tmp_path, unproven):
    source = sharp("bert", tmp_path / "source", ["book", "place"])
    if method == "Heads":  # attention must matter
        weights = load_file(source / "model.safetensors")
        loud = {
            name: value * 4 if "attention" in name and value.dim() == 2 else value for name, value in weights.items()
        }
        save_file(loud, source / "model.safetensors", {"format": "pt"})
    settings = Prune(method, keep="0.25", data="texts")
    recovery = Recover("texts", training=Training(epochs=6, batch_size=16, learning_rate="0.002"))
    alone, _ = pruned(settings, source, tmp_path / "alone")
    helped, figures = pruned(msgspec.structs.replace(settings, recover=recovery), source, tmp_path / "helped")
    assert figures["recover"]["last"] < figures["recover"]["first"]
    assert apart(helped, source) < 0.7 * apart(alone, source)
    if method == "Heads":
        assert masks.sparsity(load(helped, "TextClassification")[0]) == 0, "cut again when it is loaded"


def test_zeros_of_an_earlier_step_outlive_the_recovery_of_a_later_one(tmp_path, unproven):
    source = tiny.save("bert", tmp_path / "source", ["book", "place"])
    sparse, _ = pruned(Prune("Magnitude", keep="0.5"), source, tmp_path / "sparse")
    recovery = Recover("texts", training=Training(epochs=1, batch_size=16))
    _, figures = pruned(Prune("FFN", keep="0.5", recover=recovery), sparse, tmp_path / "thin")
    assert figures["sparsity"] > 0.35


def byte_pairs(folder):
    """A tiny RoBERTa with the byte-pair tokenizer of its kind, trained on the questions."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text for _, text in assets.trec()[:800]], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    from transformers import PreTrainedTokenizerFast

    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
    names |= {"cls_token": "<s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=tokenizer.get_vocab_size() + 7, **tiny.BIG, max_position_embeddings=140)
    RobertaModel(config).save_pretrained(folder)
    return folder


def check_trimmed(source, out, used, others):
    """The used texts read as before and answer alike; any other text still has no unknown token that it had not."""
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (source, out))
    assert len(new) < 0.9 * len(old)
    for text in used:
        assert old.convert_ids_to_tokens(old(text)["input_ids"]) == new.convert_ids_to_tokens(new(text)["input_ids"])
    for text in others:
        before, after = (t.convert_ids_to_tokens(t(text)["input_ids"]) for t in (old, new))
        assert after.count(new.unk_token) <= before.count(old.unk_token)
        assert (new.decode(new(text)["input_ids"], skip_special_tokens=True)) == (
            old.decode(old(text)["input_ids"], skip_special_tokens=True)
        )
    found = []
    for folder in (source, out):
        subject = folders.open_folder(folder, "TextEmbedding", tiny.context("TextEmbedding", out))
        texts = batches.encode(subject.processor, used, 64, int(subject.description["padTokenId"]))
        with torch.no_grad():
            found.append(subject.answer(texts.batch(range(len(used))))[0].numpy())
    assert cosines(*found).min() > 0.99999
    return len(new) / len(old)


UNSEEN = ["Zebra quixotically juxtaposed!", "naïve café 東京 2026", "x", "http://a.b/c?d=é", "supercalifragilistic"]


def test_byte_pairs_lose_tokens_and_merges_that_nobody_uses(tmp_path, unproven):
    source = byte_pairs(tmp_path / "source")
    used = [text for _, text in assets.trec()[:100]]
    out, figures = pruned(
        Prune("Vocabulary", data="texts"), source, tmp_path / "t", "TextEmbedding", [Row(t) for t in used]
    )
    chance = random.Random(0)
    noise = ["".join(chr(chance.randrange(32, 0x2FF)) for _ in range(30)) for _ in range(50)]
    share = check_trimmed(source, out, used, [*UNSEEN, *noise, *(text for _, text in assets.trec()[800:900])])
    assert figures["vocabulary"]["after"] / figures["vocabulary"]["before"] == pytest.approx(share)
    assert json.loads((out / "config.json").read_text())["pad_token_id"] == 1


@pytest.mark.timeout(300)
def test_minilm_keeps_the_words_of_its_data(fresh, tmp_path):
    """The real encoder through the whole step, fresh process included: 30,522 word pieces become those of the questions, and the
    rest still reads."""
    used = [text for _, text in assets.trec()]
    context, figures = noted(tiny.context("TextEmbedding", tmp_path, {"texts": [Row(text) for text in used]}))
    step = Step("words", "Prune", prune=Prune("Vocabulary", data="texts"))
    steps.run(step, assets.minilm(), tmp_path / "out", context)
    print(figures)
    check_trimmed(assets.minilm(), tmp_path / "out", used[::40], UNSEEN)
    weights = [(folder / "model.safetensors").stat().st_size for folder in (assets.minilm(), tmp_path / "out")]
    assert weights[1] < 0.7 * weights[0]
    assert (tmp_path / "out" / "1_Pooling" / "config.json").exists()
    assert not (tmp_path / "out" / "vocab.txt").exists(), "lists of old formats would contradict"


def test_what_cannot_be_pruned_says_so(tmp_path):
    source = tiny.save("bert", tmp_path / "source")
    for settings, reason in (
        (Prune("Vocabulary"), "StepDataMissing"),
        (Prune("Layers"), "StepDataMissing"),
        (Prune("Vocabulary", data="texts", recover=Recover("texts")), "RecoverNotNeeded"),
    ):
        with pytest.raises(Failure) as caught:
            steps.run(
                Step("thin", "Prune", prune=settings),
                source,
                tmp_path / "out",
                tiny.context("TextEmbedding", tmp_path, {"texts": questions(8)}),
            )
        assert caught.value.reason == reason and caught.value.message.endswith(".")
        assert not (tmp_path / "out").exists()
