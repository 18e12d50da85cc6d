"""What a technique is, and how its result is proven in a process that knows nothing of how it was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimodel.api.spec import GENERATING, Accelerator, Task

from ..data.rows import Row
from ..errors import Failure
from ..peers import ALONE, Peers

VERIFY_TIMEOUT_S = 600
_NONE: Mapping[str, Path] = {}


@dataclass(frozen=True)
class Context:
    """What a step may know besides its folder. `report` takes percent and a word.

    `data` gives the rows of `DATASET` or `DATASET/PART` and `model` the folder of another model as the settings name them; both
    raise `Failure`. `checkpoint` is a
    folder (made by who needs it) that holds what an earlier attempt of this very step (same input, settings, data and tools)
    gave to `keep`; the newest file alone outlives the pod. `due` tells whether one of so many bytes would be kept now.
    `note` takes a figure for the report (name, JSON value), never for the artifact. Seeds come from the settings. `peers` are
    the processes that train together. `accelerator` is what the graph is made for (None = the CPU).
    """

    task: Task
    threads: int
    scratch: Path
    report: Callable[[int, str], None]
    data: Callable[[str], list[Row]]
    checkpoint: Path
    note: Callable[[str, Any], None] = lambda name, value: None
    keep: Callable[[Path], None] = lambda path: None
    due: Callable[[int], bool] = lambda size: True
    peers: Peers = ALONE
    accelerator: Accelerator | None = None
    model: Callable[[str], Path] = _NONE.__getitem__


@dataclass(frozen=True)
class Technique:
    """One step type. Raise `revision` when the code makes other bytes of the same input; `tools` are package names."""

    revision: int
    tools: tuple[str, ...]
    run: Callable[[Any, Path, Path, Context], None]


def max_difference(task: Task) -> float:
    """How far answers may lie apart that should be equal: a decoder's logits are tens, of tens of layers."""
    return 1e-3 if task in GENERATING else 1e-4


def verify(
    result: Path,
    reference: Path,
    *,
    max_difference: float,
    min_cosine: float,
    accelerator: Accelerator | None = None,
) -> dict[str, float]:
    """Load a graph or a model folder in a fresh process, run it on the reference's inputs, and compare with its `expected`.

    Returns `maxDifference` and `cosine`. Raises `Failure` when it does not load or does not agree.
    """
    command = [
        sys.executable,
        "-m",
        "optimodel.worker.steps.verify",
        str(result),
        str(reference),
        *([accelerator] if accelerator else []),
    ]
    kept = ("PATH", "HOME", "LD_LIBRARY_PATH")  # no credentials
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    answer = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=VERIFY_TIMEOUT_S)
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise Failure("StepNotVerified", f"The result does not run in a fresh process: {last}. Report this model.")
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    if not (figures["maxDifference"] <= max_difference and figures["cosine"] >= min_cosine):
        raise Failure(
            "StepNotVerified",
            f"The result disagrees with what it was made from: largest difference {figures['maxDifference']:.2g}, cosine "
            f"{figures['cosine']:.4f}. Leave this step out, or report this model.",
        )
    return figures
