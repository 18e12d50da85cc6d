"""What Export traces of a decoder: tokens behind a cache of keys and values in, logits and the longer cache out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimodel.backends.generation import PAST, PRESENT

TRACED = (2, 5, 7)
"""Texts, tokens in the cache and tokens behind it at which the model is traced."""


def names(config: Mapping[str, Any], prefix: str) -> list[str]:
    """The cache's tensors, layer by layer."""
    return [f"{prefix}{layer}.{kind}" for layer in range(config["num_hidden_layers"]) for kind in ("key", "value")]


def inputs(config: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """The graph's inputs with their dimensions of any size."""
    cache = {name: {0: "batch", 2: "past"} for name in names(config, PAST)}
    return {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "total"}, **cache}


def outputs(config: Mapping[str, Any]) -> list[str]:
    """The graph's outputs."""
    return ["logits", *names(config, PRESENT)]


def sample(config: Mapping[str, Any], vocabulary: int) -> tuple[Any, ...]:
    """Seeded values of the inputs."""
    import torch

    chance = torch.Generator().manual_seed(7)
    texts, past, new = TRACED
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    ids = torch.randint(vocabulary, (texts, new), generator=chance)
    cache = [torch.randn(texts, heads, past, size, generator=chance) for _ in names(config, PAST)]
    return ids, torch.ones((texts, past + new), dtype=torch.long), *cache


def core(model: Any) -> Any:
    """The model as a module of named tensors. Tokens attend to real ones before them and to themselves; texts are padded behind.
    The mask is made here, since transformers' own way to one is not traced for every length."""
    import torch
    from transformers import DynamicCache

    class Core(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:
            ids, mask, *cache = values
            new, total = ids.shape[1], mask.shape[1]
            positions = torch.arange(total)[None, -new:]
            before = torch.arange(total)[None, :] <= positions.T
            seen = before[None, None] & (mask[:, None, None, :] > 0)
            past = DynamicCache(list(zip(cache[::2], cache[1::2], strict=True)))
            found = self.model(
                input_ids=ids,
                attention_mask=torch.where(seen, 0.0, torch.finfo(torch.float32).min),
                position_ids=positions,
                past_key_values=past,
                use_cache=True,
            )
            layers = found.past_key_values.layers
            return found.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values))

    return Core().eval()
