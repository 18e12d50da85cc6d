"""The training loop: AdamW (Loshchilov & Hutter 2019), linear warm-up and decay, checkpoints that resume exactly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from optimodel.api.steps import Training

from ..errors import Failure
from ..peers import Peers
from . import devices
from .batches import Batch, Examples, shuffled
from .memory import Memory
from .parallel import together

if TYPE_CHECKING:
    from ..steps.technique import Context

CHECKPOINT_STEPS = 50
"""Optimizer steps between checkpoints: the most work that a kill can cost, as long as the store is fast (`checkpoints.SHARE`)."""
MAX_NORM = 1.0
"""Gradients are scaled down to this l2 norm."""


@dataclass(frozen=True)
class Outcome:
    """Optimizer steps taken and the mean loss of the first and the last tenth of them."""

    steps: int
    first: float
    last: float


def train(
    model: Any,
    examples: Examples,
    loss: Callable[[Batch], Any],
    training: Training,
    context: Context,
    *,
    checkpoint_steps: int = CHECKPOINT_STEPS,
    after: Callable[[], None] = lambda: None,
) -> Outcome:
    """Minimise `loss` over the parameters of `model` that require a gradient; `after` runs after each optimizer step.

    The caller sets train or eval mode. A run that was killed goes on from its last checkpoint with the weights that an
    undisturbed one would have. The context's peers share every batch. Raises `Failure`.
    """
    import torch

    torch.manual_seed(context.peers.seed(training.seed))
    fingerprint = _fingerprint(_learning(model), examples, training)
    total = math.ceil(len(examples) / training.batch_size) * training.epochs
    with context.peers.watching():
        _agree(fingerprint, context.peers)
        objective = together(
            model, lambda rows: loss(examples.batch(rows).to(devices.best())), examples.answers, context.peers
        )
        with devices.on_best(model), objective as mean:
            parameters = _learning(model)
            groups = _groups(parameters, float(training.weight_decay))
            optimizer = torch.optim.AdamW(groups, lr=float(training.learning_rate))
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(total, float(training.warmup)))
            memory = Memory(context, parameters, optimizer, scheduler, fingerprint)
            losses = memory.restore()
            for rows in _order(examples, training, len(losses)):
                found = mean(rows)
                value = _finite(context.peers.mean(float(found.item())), training, len(losses))
                _step(found, parameters, optimizer, scheduler)
                losses.append(value)
                after()
                if len(losses) % checkpoint_steps == 0 or len(losses) == total:
                    memory.save(losses)
                context.report(5 + 85 * len(losses) // total, f"loss {value:.4f} at step {len(losses)} of {total}")
    return _outcome(losses)


def _agree(fingerprint: str, peers: Peers) -> None:
    if peers.first(fingerprint.encode()) != fingerprint.encode():
        message = "The processes of the Job read different rows or weights. Let nothing write to them meanwhile."
        raise Failure("DataChanged", message, world=True)


def _learning(model: Any) -> dict[str, Any]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _order(examples: Examples, training: Training, done: int) -> Iterator[list[int]]:
    """The rows of every batch behind the first `done`."""
    per_epoch = math.ceil(len(examples) / training.batch_size)
    for epoch in range(done // per_epoch, training.epochs):
        first = max(0, done - epoch * per_epoch)
        yield from shuffled(examples.lengths, training.batch_size, training.seed, epoch)[first:]


def _finite(value: float, training: Training, step: int) -> float:
    if not math.isfinite(value):
        raise _not_finite(value, training, step)
    return value


def _step(found: Any, parameters: dict[str, Any], optimizer: Any, scheduler: Any) -> None:
    import torch

    optimizer.zero_grad(set_to_none=True)
    found.backward()
    torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
    optimizer.step()
    scheduler.step()


def _not_finite(value: float, training: Training, step: int) -> Failure:
    """Before the first step it is the model's fault, later the training's."""
    if step == 0:
        message = (
            f"The loss is {value} before anything was learnt: the model's answers are not finite. Use other weights."
        )
        return Failure("ModelNotFinite", message)
    return Failure(
        "LossNotFinite",
        f"The loss is {value} at step {step + 1}. Lower training.learningRate (now {training.learning_rate}) "
        "or lengthen training.warmup.",
    )


def _groups(parameters: dict[str, Any], decay: float) -> list[dict[str, Any]]:
    """Biases and normalisation are not decayed."""
    matrices = [value for value in parameters.values() if value.dim() > 1]
    others = [value for value in parameters.values() if value.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _schedule(total: int, warmup: float) -> Callable[[int], float]:
    """Share of the learning rate by step: up over the first `warmup` of the steps, then down to nothing."""
    rising = max(1, round(total * warmup))

    def share(step: int) -> float:
        return min((step + 1) / rising, max(0.0, (total - step) / max(1, total - rising)))

    return share


def _outcome(losses: list[float]) -> Outcome:
    tenth = max(1, len(losses) // 10)
    return Outcome(len(losses), sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth)


def _fingerprint(parameters: dict[str, Any], examples: Examples, training: Training) -> str:
    """Names a training by what it starts from, so that no checkpoint is taken for another's."""
    known = hashlib.sha256(msgspec.json.encode([training, examples.content, examples.labels]))
    for name, value in parameters.items():
        known.update(name.encode())
        known.update(value.detach().contiguous().numpy().tobytes())
    return known.hexdigest()[:16]
