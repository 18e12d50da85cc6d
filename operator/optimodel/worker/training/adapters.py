"""Low-rank adapters (LoRA, Hu et al. 2021) through peft, trained and then merged: the folder that is saved knows nothing of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import families


@contextmanager
def adapters(model: Any, rank: int, alpha: int) -> Iterator[None]:
    """Within the block every matrix product of the encoder has an adapter, and only those and what already required a gradient of the
    head learn. At its end they are merged into the weights, in fp32. Draws from torch's generator."""
    from peft import LoraConfig, get_peft_model

    names = {module: name for name, module in model.named_modules()}
    targets = [names[module] for module in families.linears(model)]
    head = {name for name, value in model.named_parameters() if value.requires_grad and _in_head(model, name)}
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets)
    wrapped = get_peft_model(model, config)
    for name, value in model.named_parameters():
        if name in head:
            value.requires_grad_(True)
    yield
    wrapped.merge_and_unload(safe_merge=True)
    model.__dict__.pop("peft_config", None)


def _in_head(model: Any, name: str) -> bool:
    return name.startswith(families.of(model).head)
