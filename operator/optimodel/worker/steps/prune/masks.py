"""Zeros in the encoder's matrices (torch.nn.utils.prune). They make nothing smaller or faster by themselves."""

from __future__ import annotations

from typing import Any

from ...errors import Failure
from ...training import families

HELD = 0.01
"""From this share of zeros on, the zeros of a matrix are held through training: chance alone leaves none."""


def magnitude(model: Any, keep: float) -> None:
    """Keep the share `keep` of all encoder weights that is largest (Han et al. 2015), wherever they are."""
    from torch.nn.utils import prune

    places = [(linear, "weight") for linear in families.linears(model)]
    prune.global_unstructured(places, pruning_method=prune.L1Unstructured, amount=1 - keep)
    for linear, name in places:
        prune.remove(linear, name)


def two_four(model: Any) -> None:
    """Of every four neighbours along the input keep the two largest (Mishra et al. 2021). Raises `Failure`."""
    import torch
    from torch.nn.utils import prune

    for linear in families.linears(model):
        if linear.in_features % 4:
            raise Failure("WidthNotDivisible", "2:4 sparsity needs widths that are multiples of 4. Use Magnitude.")
        groups = linear.weight.detach().abs().view(linear.out_features, -1, 4)
        mask = torch.zeros_like(groups).scatter_(2, groups.topk(2, dim=2).indices, 1.0)
        prune.custom_from_mask(linear, "weight", mask.view_as(linear.weight))
        prune.remove(linear, "weight")


def zeros(model: Any) -> list[Any]:
    """For every encoder matrix where its zeros are, or None where there are too few to be a mask."""
    found = [linear.weight.detach() == 0 for linear in families.linears(model)]
    return [mask if float(mask.float().mean()) >= HELD else None for mask in found]


def hold(model: Any, held: list[Any]) -> None:
    """Set to zero again what training or a merge has filled."""
    import torch

    with torch.no_grad():
        for linear, mask in zip(families.linears(model), held, strict=True):
            if mask is not None:
                linear.weight.masked_fill_(mask.to(linear.weight.device), 0.0)


def sparsity(model: Any) -> float:
    """Share of zeros in the encoder's matrices."""
    weights = [linear.weight.detach() for linear in families.linears(model)]
    return float(sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights))
