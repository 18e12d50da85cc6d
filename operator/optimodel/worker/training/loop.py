"""The training loop: AdamW (Loshchilov & Hutter 2019), linear warm-up and decay, checkpoints that resume exactly."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from optimodel.api.steps import Training

from ..errors import Failure
from .batches import Batch, Texts, shuffled

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
    texts: Texts,
    loss: Callable[[Batch], Any],
    training: Training,
    context: Context,
    *,
    checkpoint_steps: int = CHECKPOINT_STEPS,
    after: Callable[[], None] = lambda: None,
) -> Outcome:
    """Minimise `loss` over the parameters of `model` that require a gradient; `after` runs after each optimizer step.

    The caller sets train or eval mode. A run that was killed goes on from its last checkpoint with the weights that an
    undisturbed one would have. Raises `Failure`.
    """
    import torch

    torch.manual_seed(training.seed)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(_groups(parameters, float(training.weight_decay)), lr=float(training.learning_rate))
    per_epoch = math.ceil(len(texts) / training.batch_size)
    total = max(1, per_epoch * training.epochs)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(total, float(training.warmup)))
    memory = Memory(context.checkpoint, parameters, optimizer, scheduler, _fingerprint(parameters, texts, training))
    losses = memory.restore()
    while len(losses) < total:
        epoch, place = divmod(len(losses), per_epoch)
        for rows in shuffled([len(x) for x in texts.ids], training.batch_size, training.seed, epoch)[place:]:
            losses.append(_step(loss(texts.batch(rows)), parameters, optimizer, scheduler, training, len(losses)))
            after()
            if len(losses) % checkpoint_steps == 0 or len(losses) == total:
                context.keep(memory.save(losses))
            context.report(5 + 85 * len(losses) // total, f"loss {losses[-1]:.4f} at step {len(losses)} of {total}")
    return _outcome(losses)


def _step(
    found: Any, parameters: dict[str, Any], optimizer: Any, scheduler: Any, training: Training, step: int
) -> float:
    import torch

    value = float(found.item())
    if not math.isfinite(value):
        raise _not_finite(value, training, step)
    optimizer.zero_grad(set_to_none=True)
    found.backward()
    torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
    optimizer.step()
    scheduler.step()
    return value


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


def _fingerprint(parameters: dict[str, Any], texts: Texts, training: Training) -> str:
    """Names a training by what it starts from, so that no checkpoint is taken for another's."""
    known = hashlib.sha256(msgspec.json.encode([training, texts.ids, texts.labels]))
    for name, value in parameters.items():
        known.update(name.encode())
        known.update(value.detach().contiguous().numpy().tobytes())
    return known.hexdigest()[:16]


class Memory:
    """The checkpoint of one training: weights, optimizer, schedule, torch's generator and the losses so far. It appears whole or not
    at all."""

    def __init__(
        self, folder: Path, parameters: dict[str, Any], optimizer: Any, scheduler: Any, fingerprint: str
    ) -> None:
        self.path = folder / f"training-{fingerprint}.pt"
        self.parameters, self.optimizer, self.scheduler = parameters, optimizer, scheduler

    def save(self, losses: list[float]) -> Path:
        """Replace the last checkpoint; the file."""
        import torch

        state = {
            "parameters": {name: value.detach() for name, value in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": torch.get_rng_state(),
            "losses": losses,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)
        return self.path

    def restore(self) -> list[float]:
        """Go back to the last checkpoint; its losses, or none."""
        import torch

        if not self.path.exists():
            return []
        state = torch.load(self.path, weights_only=True)
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["generator"])
        return list(state["losses"])
