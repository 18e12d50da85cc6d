"""How much an answer depends on a part of the model.

With data: the first-order Taylor estimate of what removal changes, |activation x gradient| summed within a text and averaged over
texts (Molchanov et al. 2017; for heads Michel et al. 2019). Without: the norms of the weights around the part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optimodel.api.spec import LABELLED

from ...training import families
from ...training.batches import Batch, Examples
from ...training.folders import Subject

BATCH = 32


def taylor(subject: Subject, texts: Examples, path: str, groups: Callable[[Any], Any]) -> list[Any]:
    """Per layer, the importance of each group of inputs of the linear module at `path`; `groups` turns values of shape
    (texts, inputs) into (texts, groups)."""
    import torch

    subject.model.requires_grad_(False).eval()
    chance = torch.Generator().manual_seed(0)
    layers = families.layers(subject.model)
    found: list[Any] = [0.0] * len(layers)
    for batch in texts.in_order(BATCH):
        seen: list[Any] = []
        handles = []
        for layer in layers:
            handles.append(layer.get_submodule(path).register_forward_pre_hook(_remember(seen)))
        try:
            loss = _loss(subject, batch, chance)
        finally:
            for handle in handles:
                handle.remove()
        gradients = torch.autograd.grad(loss, seen)
        for index, (value, gradient) in enumerate(zip(seen, gradients, strict=True)):
            by_text = (value.detach() * gradient).sum(1)
            found[index] = found[index] + groups(by_text).abs().sum(0)
    return [value / len(texts) for value in found]


def _remember(seen: list[Any]) -> Callable[[Any, Any], Any]:
    """Note the input of a module, as the start of a gradient where nothing before it learns."""

    def hook(module: Any, inputs: Any) -> Any:
        (value,) = inputs
        if not value.requires_grad:
            value = value.detach().requires_grad_()
        seen.append(value)
        return (value,)

    return hook


def _loss(subject: Subject, batch: Batch, chance: Any) -> Any:
    """A sum over texts, so that each text's gradient is its own: cross-entropy with the labels or else with the model's own answer;
    for vectors a random direction of the answer (Hutchinson's estimate of how much the vector moves)."""
    import torch

    answer, _ = subject.answer(batch)
    if subject.task in LABELLED:
        labels = batch.labels if batch.labels is not None else answer.detach().argmax(-1)
        return torch.nn.functional.cross_entropy(answer, labels, reduction="sum")
    direction = torch.randint(0, 2, answer.shape, generator=chance) * 2.0 - 1
    return (answer * direction).sum()


def head_norms(model: Any) -> list[Any]:
    """Per layer and head: norm of what it reads (value) x norm of what it writes (output)."""
    family, size = families.of(model), families.head_size(model)
    found = []
    for layer in families.layers(model):
        value, output = (layer.get_submodule(path).weight.detach() for path in (family.value, family.output))
        reads = value.reshape(-1, size * value.shape[1]).norm(dim=1)
        writes = output.T.reshape(-1, size * output.shape[0]).norm(dim=1)
        found.append(reads * writes)
    return found


def neuron_norms(model: Any) -> list[Any]:
    """Per layer and feed-forward neuron: norm of its weights in x norm of its weights out."""
    family = families.of(model)
    return [
        layer.get_submodule(family.up).weight.detach().norm(dim=1)
        * layer.get_submodule(family.down).weight.detach().norm(dim=0)
        for layer in families.layers(model)
    ]
