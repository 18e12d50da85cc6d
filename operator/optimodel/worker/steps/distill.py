"""`Distill`: a student of some of the teacher's layers learns to answer like all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimodel.api.steps import Distill

from ..errors import Failure
from ..training import families, folders, freezing, labels, loop, losses
from ..training.batches import Texts, encode
from ..training.folders import Subject
from ..training.teacher import Teacher
from .technique import Context, Technique


def run(settings: Distill, source: Path, out: Path, context: Context) -> None:
    """Cut the student out of the teacher, train it, and save the folder."""
    context.report(1, "loading")
    teacher = folders.open_folder(source, context.task, context)
    kept = kept_layers(settings, len(families.layers(teacher.model)))
    student = folders.copy(teacher)
    families.keep_layers(student.model, kept)
    texts = _texts(settings, teacher, context)
    share = float(settings.soft) if texts.labels is not None else 1.0
    hidden = float(settings.hidden)
    asked = Teacher(teacher, kept if hidden > 0 else ()) if share > 0 or hidden > 0 else None
    context.report(4, "asking the teacher")
    if asked is not None:
        context.note("teacherRemembered", asked.remember(texts))
    loss = losses.distillation(student, asked, float(settings.temperature), share, hidden)
    freezing.embeddings(student.model)
    student.model.train()
    outcome = loop.train(student.model, texts, loss, settings.training, context)
    context.note("loss", {"steps": outcome.steps, "first": outcome.first, "last": outcome.last})
    context.note("layers", {"kept": list(kept), "of": len(families.layers(teacher.model)), "rows": len(texts)})
    context.report(92, "saving")
    folders.save(student, out, context)


def kept_layers(settings: Distill, depth: int) -> Sequence[int]:
    """The teacher's layers that the student is made of. Raises `Failure`."""
    if not settings.keep_layers:
        return tuple(range(depth - 1, -1, -2))[::-1]
    wanted = settings.keep_layers
    if list(wanted) != sorted(set(wanted)) or not 0 <= wanted[0] <= wanted[-1] < depth:
        raise Failure(
            "LayersInvalid",
            f"keepLayers is {list(wanted)}, but the model has layers 0 to {depth - 1}. Name some of them, in ascending order.",
        )
    return wanted


def _texts(settings: Distill, teacher: Subject, context: Context) -> Texts:
    """The data; with labels where they count and every row carries one."""
    rows = context.data(settings.data)
    context.report(3, "tokenising")
    numbers = None
    told = float(settings.soft) < 1 and all(row.label is not None for row in rows)
    if context.task == "TextClassification" and told:
        labels.several(rows, settings.data)
        config = teacher.model.config
        names = [config.id2label[n] for n in range(config.num_labels)]
        numbers = labels.numbered(rows, names, settings.data)
    longest = min(settings.training.max_length, int(teacher.description["maxLength"]))
    pad = int(teacher.description["padTokenId"])
    return encode(teacher.tokenizer, [row.text for row in rows], longest, pad, numbers)


TECHNIQUE = Technique(revision=1, tools=("torch", "transformers"), run=run)
