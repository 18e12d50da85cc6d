"""Every supported architecture, both tasks: the graph agrees with transformers at shapes that were never traced."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from tests.worker import tiny
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from optimodel.api.spec import Batching
from optimodel.api.steps import Step
from optimodel.worker import steps
from optimodel.worker.errors import Failure
from optimodel.worker.inference.answers import Answerer, cosines, session
from optimodel.worker.steps import technique
from optimodel.worker.training import folders

TEXTS = ["what is the capital of peru", "yes", "name a fish word1 word2 word3 word4 word5 word6 word7 word8 word9", ""]


def expected(folder, task):
    """Answers by transformers itself, one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind = AutoModel if task == "TextEmbedding" else AutoModelForSequenceClassification
    model = kind.from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        encoded = tokenizer(text, return_tensors="pt")
        encoded = {k: v for k, v in encoded.items() if k in ("input_ids", "attention_mask")}
        with torch.no_grad():
            answer = model(**encoded)
        if task == "TextEmbedding":
            found.append(torch.nn.functional.normalize(answer.last_hidden_state[0].mean(0), dim=0).numpy())
        else:
            found.append(answer.logits[0].softmax(0).numpy())
    return np.stack(found)


@pytest.mark.parametrize("task", ["TextEmbedding", "TextClassification"])
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_export_and_quantize(kind, task, exported, tmp_path):
    made = exported(kind, task)
    answerer = Answerer(made / "graph", 1, Batching())
    answers = np.stack([answerer.alone(text) for text in TEXTS])
    np.testing.assert_allclose(answers, expected(made / "source", task), atol=2e-5)
    assert answerer.description.labels == (tuple(tiny.LABELS) if task == "TextClassification" else ())
    steps.run(Step("int8", "Quantize"), made / "graph", tmp_path / "int8", tiny.context(task, tmp_path))
    small = Answerer(tmp_path / "int8", 1, Batching())
    assert cosines(np.stack([small.alone(text) for text in TEXTS]), answers).min() > 0.9
    assert {p.name for p in (tmp_path / "int8").iterdir()} == {"model.onnx", "model.json", "tokenizer.json"}


def test_a_graph_that_disagrees_or_does_not_load_is_not_a_result(exported, fresh, tmp_path):
    graph = tmp_path / "model.onnx"
    shutil.copyfile(exported("bert", "TextEmbedding") / "graph" / "model.onnx", graph)
    ids = np.full((2, 5), 7)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    np.savez(tmp_path / "wrong.npz", expected=np.ones((2, 5, 32), np.float32), **inputs)
    for damage in (False, True):
        if damage:
            graph.write_bytes(graph.read_bytes()[:-2000])
        with pytest.raises(Failure) as caught:
            technique.verify(graph, tmp_path / "wrong.npz", max_difference=1e-4, min_cosine=0.99)
        assert caught.value.reason == "StepNotVerified"


def test_an_answer_that_is_turned_around_where_a_classifier_is_undecided_is_no_broken_graph(exported, tmp_path):
    graph = exported("bert", "TextClassification") / "graph" / "model.onnx"
    ids = np.random.default_rng(1).integers(0, 90, (8, 5))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (scores,) = session(graph, 1).run(None, inputs)
    scores[np.abs(scores).max(1).argmin()] *= -1
    np.savez(tmp_path / "other.npz", expected=scores, **inputs)
    found = technique.verify(graph, tmp_path / "other.npz", max_difference=float("inf"), min_cosine=0.5)
    assert found["cosine"] < 1


def test_pooling_follows_the_sources_documents(tmp_path):
    source = tiny.save("bert", tmp_path / "source")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    (source / "modules.json").write_text(
        '[{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Pooling"}]'
    )
    found = folders.open_folder(source, "TextEmbedding", tiny.context("TextEmbedding", tmp_path)).description
    assert (found["pooling"], found["normalize"], found["maxLength"]) == ("cls", False, 70)
