"""One training in several processes: each holds the whole model (DDP, Li et al. 2020), or a part of it (FSDP, Zhao et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..peers import Peers
from . import devices

Objective = Callable[[Sequence[int]], Any]
"""Rows of a batch → the loss of this process's share of them. Their gradients are averaged as they come."""


@contextmanager
def together(
    model: Any, loss: Objective, answers: Callable[[Sequence[int]], Sequence[int]], peers: Peers
) -> Iterator[Objective]:
    """The mean of `loss` over the `answers` of rows, each process doing its share: for a loss that is no mean over answers (hidden states,
    neighbours) that of the shares' losses, by their answers. Within the block the weights of `model` may lie in
    parts, one a process; at its end, unless it failed, every process holds them whole."""
    if peers.size == 1:
        yield loss
    elif peers.sharded:
        with _sharded(model, _share(model, loss, answers, peers)) as objective:
            yield objective
    else:
        import torch

        parallel = torch.nn.parallel.DistributedDataParallel
        share = _share(model, loss, answers, peers)
        yield parallel(share, forward_sync_buffers=False, find_unused_parameters=True)


def _share(model: Any, loss: Objective, answers: Callable[[Sequence[int]], Sequence[int]], peers: Peers) -> Any:
    """A module around the model whose answer to rows is the loss of this process's part, weighted by its share of the answers."""
    import torch

    rank, size = peers.rank, peers.size

    class Share(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, rows: Sequence[int]) -> Any:
            mine = rows[rank::size]  # of a batch too small for all, some process learns from a row with weight 0
            return loss(mine or rows[:1]) * (sum(answers(mine)) * size / sum(answers(rows)))

    return Share()


@contextmanager
def _sharded(model: Any, share: Any) -> Iterator[Objective]:
    """Cut the model's parameters into a part for each process. Blocks (the members of its lists of modules) are whole only while
    they compute, all else during a batch.

    torch has no way back, and its marks (classes, hooks, entries of modules) would be saved with the model: so all modules get
    back what they held before, and the parameters, the very same objects, their values.
    """
    from torch import distributed, empty, nn
    from torch.distributed.fsdp import fully_shard

    mesh = distributed.init_device_mesh(devices.best().type, (distributed.get_world_size(),))
    kept = [(module, type(module), _entries(module)) for module in model.modules()]
    blocks = [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]
    for block in reversed(blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(share, mesh=mesh)
    parts = {id(whole): (whole, part) for module, _, entries in kept for whole, part in _pairs(module, entries)}
    for whole, _ in parts.values():
        whole.data = empty(0)
    yield share
    for whole, part in parts.values():
        whole.data = part.detach().full_tensor()
    for module, kind, entries in kept:
        module.__class__ = kind
        module.__dict__.clear()
        module.__dict__.update(entries)


def _entries(module: Any) -> dict[str, Any]:
    """What a module holds; its tables (parameters, hooks, ...) are copied, their members are not."""
    return {name: value.copy() if isinstance(value, dict) else value for name, value in vars(module).items()}


def _pairs(module: Any, entries: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """A module's own parameters as they were, and the parts that stand for them now."""
    for name, whole in entries["_parameters"].items():
        if whole is not None:
            yield whole, module._parameters[name]


def local(value: Any) -> Any:
    """What this process holds of a tensor: its part, or all of it."""
    from torch.distributed.tensor import DTensor

    return value.to_local() if isinstance(value, DTensor) else value


def like(value: Any, part: Any) -> Any:
    """The tensor of which this process holds `part`, cut as `value` is."""
    from torch.distributed.tensor import DTensor

    if not isinstance(value, DTensor) or part.shape != value.to_local().shape:
        return part
    return DTensor.from_local(
        part.to(value.device),
        value.device_mesh,
        value.placements,
        run_check=False,
        shape=value.shape,
        stride=value.stride(),
    )
