"""Where a training computes: on the GPU that the pod was given, else on the CPU. Models come from the CPU and go back to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import Failure

_FULL = (
    "The GPU has too little memory for this training. Lower training.batchSize or training.maxLength, let several processes share the "
    "model (optimization.parallelism: FSDP), or take a larger GPU."
)


def best() -> Any:
    """The device that trainings compute on."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def on_best(model: Any) -> Iterator[None]:
    """Within the block the model, whose parameters stay the same objects, is on the best device. Raises `Failure` where that has too
    little memory."""
    import torch

    try:
        model.to(best())
        yield
    except torch.OutOfMemoryError as error:
        raise Failure("DeviceOutOfMemory", f"{_FULL} ({str(error)[:150]})") from error
    model.to("cpu")


def generator() -> Any:
    """The state of the best device's own generator, where it has one beside torch's."""
    import torch

    return torch.cuda.get_rng_state() if best().type == "cuda" else None


def set_generator(state: Any) -> None:
    """Go back to a state that `generator` told."""
    import torch

    if state is not None and best().type == "cuda":
        torch.cuda.set_rng_state(state)
