"""Which parameters learn."""

from __future__ import annotations

from typing import Any

from . import families


def embeddings(model: Any, frozen: bool = True) -> None:
    """Let everything learn, but with `frozen` not the tables of word, position and type vectors."""
    model.requires_grad_(True)
    for path in families.of(model).tables if frozen else ():
        model.base_model.get_submodule(path).requires_grad_(False)


def body(model: Any) -> None:
    """Let only the head learn."""
    head = families.of(model).head
    for name, value in model.named_parameters():
        value.requires_grad_(name.startswith(head))


def share(model: Any) -> float:
    """Parameters that learn, of all."""
    sizes = [(value.numel(), value.requires_grad) for value in model.parameters()]
    return float(sum(size for size, learns in sizes if learns) / sum(size for size, _ in sizes))
