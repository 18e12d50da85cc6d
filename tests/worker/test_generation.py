"""Decoders on a tiny one that learnt a few sentences: the graph and its cache, what it expects, what it writes."""

from __future__ import annotations

import json
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from tests import inputs
from tests.worker import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from optimodel.api.spec import Batching, Gate, Shape
from optimodel.api.steps import Quantize, Step
from optimodel.backends import generation
from optimodel.backends.generation import Sampling, write
from optimodel.recipes import gates
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row
from optimodel.worker.errors import Failure
from optimodel.worker.evidence import evaluate, latency
from optimodel.worker.evidence.perplexity import compared
from optimodel.worker.inference.answers import opened
from optimodel.worker.source import check_folder
from optimodel.worker.steps import describe
from optimodel.worker.steps.quantize import parts

SURE = Gate("tail", "LatencyP95Ms", max="1000", confidence="0.999999")
PLACES = {"Peru": "Lima", "France": "Paris", "Japan": "Tokyo", "Chile": "Santiago", "Egypt": "Cairo", "Cuba": "Havana"}


def sentences(count, seed=0):
    """Pairs of capitals in random order: what follows is partly known, partly chance."""
    chance = random.Random(seed)
    pairs = [chance.sample(sorted(PLACES.items()), 2) for _ in range(count)]
    return [f"The capital of {a} is {b}, and the capital of {c} is {d}." for (a, b), (c, d) in pairs]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A Job that exports the decoder, and its folder: the decoder is `tiny`."""
    folder = tmp_path_factory.mktemp("decoder")
    tiny.save_decoder(folder / "tiny", sentences(60), steps=180)
    lines = [json.dumps({"text": text}) for text in sentences(60, seed=5)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    gates = (Gate("loss", "PerplexityRatio", max="1.01"), Gate("alike", "NextTokenAgreement", min="0.9"))
    wanted = inputs.job(folder, Step("graph", "Export"), task="TextGeneration", gates=gates)
    result, _ = inputs.run(wanted, folder / "work")
    return folder, result


@pytest.fixture(scope="module")
def made(job):
    """A folder with the decoder, `source`, and its graph, `graph`."""
    folder, _ = job
    (folder / "source").symlink_to(folder / "tiny")
    (graph,) = (folder / "work" / "steps").iterdir()
    (folder / "graph").symlink_to(graph)
    return folder


@pytest.fixture(scope="module")
def writer(made):
    return opened(made / "graph", 1, Batching())


def theirs(made):
    return AutoModelForCausalLM.from_pretrained(made / "source").eval(), AutoTokenizer.from_pretrained(made / "source")


def test_it_writes_what_transformers_writes(made, writer, monkeypatch):
    monkeypatch.setattr(generation, "PIECE", 7)  # the last text is read in pieces
    model, tokenizer = theirs(made)
    for text in ("The capital of Peru", "and", " ".join(sentences(2))[:-1]):
        asked = tokenizer(text, return_tensors="pt")
        found = model.generate(**asked, max_new_tokens=15, do_sample=False)[0, asked.input_ids.shape[1] :].tolist()
        mine = write(writer.decoder, writer.codec, writer._settings, text, Sampling(15))
        assert list(mine.ids) == found
        assert mine.text == tokenizer.decode(found, skip_special_tokens=True)


def test_it_expects_what_transformers_expects(made, writer):
    model, tokenizer = theirs(made)
    rows = [Row(text) for text in sentences(20, seed=9)]
    total, tokens = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = tokenizer(row.text, return_tensors="pt").input_ids
            total += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
    measurements, worth = compared(writer, writer, rows, "d", lambda _: None)
    assert worth["perplexity"] == pytest.approx(math.exp(total / tokens), rel=1e-4)
    assert (worth["tokens"], worth["samples"], worth["nextTokenAgreement"]) == (tokens, 20, 1.0)
    assert set(measurements) == {"Perplexity", "PerplexityRatio", "NextTokenAgreement"}
    with pytest.raises(Failure, match="No text of 'd' has two tokens"):
        compared(writer, writer, [Row("x")], "d", lambda _: None)


def test_its_description_says_how_texts_end_and_how_one_talks(made, writer):
    assert writer.description.eos_token_ids == (2,)
    assert writer.description.chat == ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
    assert writer.description.max_length == 160
    tokenizer = AutoTokenizer.from_pretrained(made / "source")
    said = [{"role": "user", "content": "The capital of Peru"}]
    wanted = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert writer.codec.prompt("The capital of Peru", chat=True) == wanted
    assert writer.codec.prompt("a<|im_end|>b", chat=True).count(2) == 1, "marks in what is said are no marks"
    tokenizer.chat_template = "{{ undefined.nothing.at }}"
    with pytest.raises(Failure, match="chat template"):
        describe.describe(made / "source", check_folder(made / "source", "TextGeneration"), "TextGeneration", tokenizer)


def test_a_golden_answer_is_one_that_any_cpu_gives(writer):
    found = writer.golden(sentences(1))
    assert (found.output, found.max_tokens) == ("TOKENS", len(found.head))
    again = write(writer.decoder, writer.codec, writer._settings, found.text, Sampling(found.max_tokens))
    assert [str(n) for n in again.ids] == list(found.head)
    row = np.array([[*writer.codec.encode(found.text), *again.ids]])
    logits = writer.decoder.run(row, np.ones_like(row), writer.decoder.empty(1))[0][0]
    leads = [np.diff(np.partition(logits[-1 - len(again.ids) + n], -2)[-2:])[0] for n in range(1, len(again.ids))]
    assert min(leads, default=1) >= 0.5


def test_a_slow_shape_is_timed_in_fewer_rounds(writer, monkeypatch):
    shapes = [Shape(1, 4), Shape(2, 4)]
    assert [len(found.ratios) for found in latency.measure(writer, writer, shapes)] == [latency.BLOCKS] * 2
    monkeypatch.setattr(latency, "SHAPE_S", 0.0)
    assert [len(found.ratios) for found in latency.measure(writer, writer, shapes)] == [latency.MIN_BLOCKS] * 2
    told = evaluate.evaluate(writer, writer, {}, shapes, 1.0, lambda *_: None, gates.blocks([SURE]))
    (verdict,) = gates.judge([SURE], told.measurements, {})
    assert (verdict.verdict, verdict.samples) == ("Pass", 21), "few runs, and yet enough for a bar that is this sure"
    assert float(verdict.value) == pytest.approx(told.details["latency"][0]["p95Ms"], abs=0.001), (
        "one figure for one thing"
    )


def test_the_timing_of_tokens_and_of_prompts_is_told_as_it_goes(writer, monkeypatch):
    monkeypatch.setattr(latency, "SHAPE_S", 0.0)
    told = []
    evaluate._latency(writer, writer, [Shape(1, 4), Shape(2, 4)], lambda *said: told.append(said), 1)
    assert told == [(80 + 5 * n, f"latency at {n} of 4 shapes") for n in (1, 2, 3, 4)]


def test_each_product_belongs_to_its_part(made):
    found = Counter(parts.parts(parts.load(made / "graph" / "model.onnx")).values())
    wanted = {"Attention": 5 * 2, "AttentionOutput": 2, "FFNUp": 2 * 2, "FFNDown": 2}  # a gate beside each way up
    assert found == {**wanted, "Embeddings": 1, "Head": 1}


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        (Quantize(), 0.6),
        (Quantize("Static", data="texts"), 0.6),
        (Quantize("WeightOnly", bits=4), 0.45),
        (Quantize("GPTQ", bits=4, data="texts"), 0.45),
        (Quantize("AWQ", bits=4, data="texts"), 0.45),
        (Quantize("BFloat16"), 0.65),
    ],
    ids=lambda value: getattr(value, "method", None),
)
def test_quantized_it_is_smaller_and_expects_nearly_the_same(made, writer, tmp_path, settings, share):
    context = tiny.context("TextGeneration", tmp_path, {"texts": [Row(text) for text in sentences(12, seed=2)]})
    steps.run(Step("small", "Quantize", quantize=settings), made / "graph", tmp_path / "small", context)
    sizes = [(folder / "model.onnx").stat().st_size for folder in (made / "graph", tmp_path / "small")]
    assert sizes[1] < share * sizes[0], "the head is stored small too"
    rows = [Row(text) for text in sentences(30, seed=9)]
    _, worth = compared(writer, opened(tmp_path / "small", 1, Batching()), rows, "d", lambda _: None)
    assert 0.9 < worth["perplexity"] / worth["baselinePerplexity"] < 1.15
    assert worth["nextTokenAgreement"] > 0.7


def test_an_encoder_is_no_decoder(made, tmp_path):
    tiny.save("bert", tmp_path / "bert")
    for folder, task in ((tmp_path / "bert", "TextGeneration"), (made / "source", "TextEmbedding")):
        with pytest.raises(Failure, match="Supported: "):
            check_folder(folder, task)


def test_a_job_measures_perplexity_against_the_baseline(job):
    _, result = job
    assert (result.outcome, [gate.verdict for gate in result.gates]) == ("Succeeded", ["Pass", "Pass"])
    assert result.figures.perplexity == result.figures.baseline_perplexity != ""
    assert float(result.figures.p50_ms) > 0
    assert result.artifact.golden.output == "TOKENS"
