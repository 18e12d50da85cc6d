"""What tests of training share: texts to learn from, tiny models to be taught, and how to look at what was learnt."""

from __future__ import annotations

import dataclasses
import hashlib
import random

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.worker import tiny
from transformers import AutoModelForSequenceClassification

from optimodel.api.steps import Training
from optimodel.worker.data.dataset import Row
from optimodel.worker.training import families
from optimodel.worker.training.loading import load

QUICK = Training(epochs=4, batch_size=16, learning_rate="0.002", warmup="0.1")


def questions(count=160, seed=0):
    """Texts whose label is told by one word of two; the rest is noise."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        noise = [f"word{chance.randrange(200)}" for _ in range(chance.randint(2, 9))]
        noise.insert(chance.randrange(len(noise)), "capital" if number % 2 else "novel")
        rows.append(Row(" ".join(noise), "place" if number % 2 else "book"))
    return rows


def sharp(kind, folder, labels=None):
    """A tiny model of four layers with such weights that every layer changes the answer much."""
    config, *others, size = tiny.KINDS[kind]
    depth = families.FAMILIES[kind].depth
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.KINDS, kind, (config, *others, size | {depth: 4}))
        tiny.save(kind, folder, labels)
    weights = load_file(folder / "model.safetensors")
    strong = {
        name: value * 3 if value.dim() == 2 and "embeddings" not in name else value for name, value in weights.items()
    }
    save_file(strong, folder / "model.safetensors", {"format": "pt"})
    return folder


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def noted(context):
    """The context, and the figures that the step leaves with it."""
    found = {}
    return dataclasses.replace(context, note=found.__setitem__), found


def accuracy(folder, rows):
    """By transformers alone."""
    model, tokenizer = load(folder, "TextClassification")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    encoded = tokenizer([row.text for row in rows], return_tensors="pt", padding=True)
    with torch.no_grad():
        found = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits.argmax(-1)
    return sum(model.config.id2label[int(n)] == row.label for n, row in zip(found, rows, strict=True)) / len(rows)
