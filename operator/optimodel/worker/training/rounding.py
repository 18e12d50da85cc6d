"""Rounding inside the model, as a later Quantize will do it, that gradients pass through unchanged (straight-through estimator: Bengio
et al. 2013; in training for integers: Jacob et al. 2018). A scale learns too, through the value that decides it (Esser et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from optimodel.api.steps import QAT

from . import families

Rounding = Callable[[Any], Any]
SMALL = 16
"""How many times smaller than the largest a table is that counts as small."""


@contextmanager
def rounding(model: Any, settings: QAT) -> Iterator[None]:
    """Within the block the model answers as its quantised graph will; at its end it has the weights that were trained, not yet
    rounded."""
    import torch
    from torch.nn.utils import parametrize

    wanted = [module for part, found in parts(model).items() if part not in settings.exclude for module in found]
    linears = [module for module in wanted if isinstance(module, torch.nn.Linear)]
    with ExitStack() as undo:
        for linear in linears:
            parametrize.register_parametrization(linear, "weight", _module(_weights(settings)), unsafe=True)
            undo.callback(parametrize.remove_parametrizations, linear, "weight", leave_parametrized=False)
            if settings.method != "WeightOnly":
                hook = _before(activations_alone if settings.method == "Dynamic" else activations)
                undo.callback(linear.register_forward_pre_hook(hook).remove)
        tables = [module for module in wanted if isinstance(module, torch.nn.Embedding)]
        for table, few in zip(tables, in_few_bits([len(table.weight) for table in tables]), strict=True):
            undo.callback(table.register_forward_hook(_after(settings, few)).remove)
        yield


def in_few_bits(rows: Sequence[int]) -> list[bool]:
    """Which tables of so many rows get 4 bits where those are wanted: one that is much smaller than the largest stays in int8, since
    nothing would be saved that is worth the time to unpack it."""
    return [SMALL * count > max(rows) for count in rows]


def parts(model: Any) -> dict[str, list[Any]]:
    """Part, as `exclude` names it → its matrices or tables."""
    import torch

    family, body = families.of(model), model.base_model

    def found(paths: Sequence[str]) -> list[Any]:
        return [layer.get_submodule(path) for layer in families.layers(model) for path in paths]

    heads = [module for name, module in model.named_modules() if name.startswith(family.head)]
    return {
        "Embeddings": [m for path in family.tables if isinstance(m := body.get_submodule(path), torch.nn.Embedding)],
        "Attention": found(family.projections),
        "AttentionOutput": found([family.output]),
        "FFNUp": found([family.up]),
        "FFNDown": found([family.down]),
        "Head": [module for module in heads if isinstance(module, torch.nn.Linear)],
    }


def groups(values: Any, bits: int, size: int) -> Any:
    """Neighbours along the last dimension share a scale, by which the largest of them is the lowest integer."""
    import torch

    width = values.shape[-1]
    found = torch.nn.functional.pad(values, (0, -width % size)).unflatten(-1, (-1, size))
    largest = found.gather(-1, found.abs().argmax(-1, keepdim=True))
    half = 2 ** (bits - 1)
    return _rounded(found, largest / -half, -half, half - 1).flatten(-2)[..., :width]


def channels(weight: Any) -> Any:
    """Seven bits with a scale for each output: what products of integers use."""
    return _rounded(weight, weight.abs().amax(1, keepdim=True) / 64, -64, 64)


def activations(values: Any) -> Any:
    """Eight bits with one scale and zero point for all values."""
    return _affine(values, values.amin(), values.amax())


def activations_alone(values: Any) -> Any:
    """Eight bits with a scale and zero point for each text, as where every text is alone in its batch."""
    rest = tuple(range(1, values.dim()))
    return _affine(values, values.amin(rest, keepdim=True), values.amax(rest, keepdim=True))


def _affine(values: Any, low: Any, high: Any) -> Any:
    scale = (high.clamp(min=0) - low.clamp(max=0)) / 255
    zero = (-low.clamp(max=0) / scale.detach().clamp(min=1e-12)).round().detach()
    return _rounded(values, scale, -zero, 255 - zero)


def _rounded(values: Any, scale: Any, low: Any, high: Any) -> Any:
    """The nearest multiple of `scale`, between `low` and `high` times it."""
    import torch

    steps = torch.where(scale == 0, 1.0, scale)
    exact = values / steps
    return (exact + (exact.round().clamp(low, high) - exact).detach()) * steps


def _weights(settings: QAT) -> Rounding:
    if settings.method == "WeightOnly":
        return lambda weight: groups(weight, settings.bits, settings.group_size)
    return channels


def _module(function: Rounding) -> Any:
    import torch

    class Through(torch.nn.Module):  # type: ignore[misc]
        def forward(self, value: Any) -> Any:
            return function(value)

    return Through()


def _before(function: Rounding) -> Callable[[Any, Any], Any]:
    return lambda module, inputs: (function(inputs[0]), *inputs[1:])


def _after(settings: QAT, few: bool) -> Callable[[Any, Any, Any], Any]:
    """Rounds what is looked up as the whole table is: in groups at 4 bits, else with one scale and zero point a table."""

    def hook(table: Any, inputs: Any, found: Any) -> Any:
        if few and (settings.embedding_bits or settings.bits) == 4:
            return groups(found, 4, settings.group_size)
        return _affine(found, table.weight.amin(), table.weight.amax())

    return hook
