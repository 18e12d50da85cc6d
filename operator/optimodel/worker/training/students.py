"""A student that is another model than its teacher: whether it can learn from it, and how it is made ready to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimodel.api.spec import GENERATING, Task

from ..errors import Failure, about
from ..source import head, images
from ..source.checks import read_json
from ..tasks import KINDS
from . import folders
from .loading import load_tokenizer

if TYPE_CHECKING:
    from ..steps.technique import Context

WAY_OUT = "or leave student out, to teach some of the teacher's layers."


def opened(name: str, folder: Path, teacher: folders.Subject, seed: int, context: Context) -> folders.Subject:
    """The model of the folder, ready to learn the teacher's answers. Its head stays if it is one for the teacher's labels; else
    `seed` draws a new one. Raises `Failure`."""
    import torch

    check(name, folder, teacher.source, context.task)
    torch.manual_seed(seed)
    with about(f"Model {name!r} of spec.models"):
        return folders.open_folder(folder, context.task, context, labels=_new_head(folder, teacher))


def _new_head(folder: Path, teacher: folders.Subject) -> list[str]:
    """Labels of the head to be made: none where the task has none, or the folder's head has them already."""
    wanted = list(teacher.description.get("labels", ()))
    made_for = str((read_json(folder / "config.json").get("architectures") or [""])[0])
    return [] if made_for.endswith(KINDS[teacher.task].architecture) and head(folder) == wanted else wanted


def check(name: str, folder: Path, teacher: Path, task: Task) -> None:
    """Whether the student in `folder` can learn from the folder of its teacher: rows are read once for both, and answers are
    compared number by number. Reads their documents alone. Raises `Failure`."""
    ours, theirs = read_json(folder / "config.json"), read_json(teacher / "config.json")
    if task == "TextEmbedding" and _width(ours) != _width(theirs):
        what = f"gives vectors of {_width(ours)} numbers, and its teacher of {_width(theirs)}"
        raise _mismatch(name, what, "equally wide vectors")
    if task in GENERATING and ours.get("vocab_size") != theirs.get("vocab_size"):
        what = f"has scores for {ours.get('vocab_size')} tokens, and its teacher for {theirs.get('vocab_size')}"
        raise _mismatch(name, what, "the teacher's vocabulary")
    with about(f"Model {name!r} of spec.models"):
        mine = _reading(folder, task, ours)
    wanted = _reading(teacher, task, theirs)
    differing = ", ".join(sorted(key for key in mine.keys() | wanted.keys() if mine.get(key) != wanted.get(key)))
    if differing and KINDS[task].images:
        raise _mismatch(name, f"prepares images otherwise than its teacher ({differing})", "an equal processor")
    if differing:
        raise Failure(
            "TokenizerMismatch",
            f"Student {name!r} has another tokenizer than its teacher: they differ in {differing}. Name a model with the "
            f"teacher's tokenizer, {WAY_OUT}",
        )


def _width(config: Mapping[str, Any]) -> Any:
    return config.get("hidden_size") or config.get("dim")


def _mismatch(name: str, what: str, wanted: str) -> Failure:
    return Failure("StudentMismatch", f"Student {name!r} {what}. Name a model with {wanted}, {WAY_OUT}")


def _reading(folder: Path, task: Task, config: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what a row becomes, but for where it is cut and how it is padded: a training decides that itself."""
    if KINDS[task].images:
        return images.load_processor(folder, config)
    document = json.loads(load_tokenizer(folder).backend_tokenizer.to_str())
    return {key: value for key, value in document.items() if key not in ("truncation", "padding")}
