"""Heads, neurons and layers that matter least are cut out of the matrices."""

from __future__ import annotations

from typing import Any

from optimodel.api.spec import LABELLED

from ...errors import Failure
from ...training import families
from ...training.batches import Batch, Examples
from ...training.folders import Subject
from ...training.losses import soft
from . import importance

MULTIPLE = 8
"""Neuron counts stay multiples of this, where they were: odd widths are slower to multiply."""
PROBES = 64
"""Rows on which layers are compared."""


def heads(subject: Subject, keep: float, texts: Examples | None) -> list[list[int]]:
    """Keep the share `keep` of all heads, at least one a layer; the places kept, by layer. Scores are compared across layers after
    division by their layer's norm (Michel et al. 2019)."""
    model = subject.model
    size = families.head_size(model)
    if texts is None:
        scores = importance.head_norms(model)
    else:
        path = families.of(model).output
        scores = importance.taylor(subject, texts, path, lambda x: x.view(len(x), -1, size).sum(2))
    scores = [score / score.norm().clamp_min(1e-12) for score in scores]
    best = [int(score.argmax()) for score in scores]
    wanted = max(len(scores), round(keep * sum(map(len, scores))))
    ranked = sorted(
        ((float(s), index, head) for index, score in enumerate(scores) for head, s in enumerate(score)),
        key=lambda item: (item[2] != best[item[1]], -item[0]),
    )
    kept: list[list[int]] = [[] for _ in scores]
    for _, index, head in ranked[:wanted]:
        kept[index].append(head)
    for layer, places in zip(families.layers(model), kept, strict=True):
        families.keep_heads(model, layer, sorted(places))
    return [families.heads(model, layer) for layer in families.layers(model)]


def neurons(subject: Subject, keep: float, texts: Examples | None) -> dict[str, int]:
    """Keep the share `keep` of every layer's feed-forward neurons: their number before and after."""
    model = subject.model
    if texts is None:
        scores = importance.neuron_norms(model)
    else:
        scores = importance.taylor(subject, texts, families.of(model).down, lambda x: x)
    total = len(scores[0])
    wanted = max(1, round(keep * total))
    if total % MULTIPLE == 0 and wanted >= MULTIPLE:
        wanted = round(wanted / MULTIPLE) * MULTIPLE
    families.keep_neurons(model, [score.topk(wanted).indices.sort().values for score in scores])
    return {"before": total, "after": wanted}


def layers(subject: Subject, keep: float, texts: Examples | None) -> dict[str, Any]:
    """Keep the share `keep` of the layers, always the last: one by one the layer goes whose absence changes answers least.
    Raises `Failure`."""
    import torch

    model = subject.model
    stack = list(families.layers(model))
    wanted = max(1, round(keep * len(stack)))
    if texts is None:
        raise Failure("StepDataMissing", "Prune Layers compares answers on texts. Name some in `data`.")
    places = [i * len(texts) // min(PROBES, len(texts)) for i in range(min(PROBES, len(texts)))]
    batches = texts.part(places).in_order(importance.BATCH)
    kept, change = list(range(len(stack))), 0.0
    with torch.no_grad():
        expected = [subject.answer(batch)[0] for batch in batches]
        while len(kept) > wanted:
            changes = {
                index: _change(subject, stack, [i for i in kept if i != index], batches, expected)
                for index in kept[:-1]
            }
            gone = min(changes, key=lambda index: (changes[index], index))
            kept.remove(gone)
            change = changes[gone]
    _stack(model, stack, range(len(stack)))
    families.keep_layers(model, kept)
    model.kept_layers = kept
    return {"kept": kept, "of": len(stack), "change": change}


def _change(subject: Subject, stack: list[Any], kept: list[int], batches: list[Batch], expected: list[Any]) -> float:
    """How far answers move when only the layers `kept` are there: divergence of scores, or 1 - cosine of vectors."""
    import torch

    _stack(subject.model, stack, kept)
    total = 0.0
    for batch, before in zip(batches, expected, strict=True):
        answer, _ = subject.answer(batch)
        if subject.task in LABELLED:
            total += float(soft(answer, before, 1.0)) * len(answer)
        else:
            total += float((1 - torch.nn.functional.cosine_similarity(answer, before)).sum())
    return total / sum(map(len, expected))


def _stack(model: Any, stack: list[Any], kept: Any) -> None:
    """Let the model run through these layers only."""
    import torch

    parent, _, name = families.of(model).layers.rpartition(".")
    setattr(model.base_model.get_submodule(parent), name, torch.nn.ModuleList([stack[i] for i in kept]))
