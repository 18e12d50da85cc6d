"""`Distill`: a student, of some of the teacher's layers or another model, learns to answer like the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from optimodel.api.spec import LABELLED
from optimodel.api.steps import Distill

from ..errors import Failure
from ..training import families, folders, freezing, labels, loop, losses, prompts, students
from ..training.batches import UNKNOWN
from ..training.encoding import encoded
from ..training.teacher import Teacher
from .technique import Context, Technique


def run(settings: Distill, source: Path, out: Path, context: Context) -> None:
    """Make the student, train it towards the teacher, and save the folder. Virtual tokens stay with the teacher."""
    context.report(1, "loading")
    teacher = folders.open_folder(source, context.task, context, virtual=True)
    student, kept = _student(settings, teacher, context)
    context.report(3, "tokenising")
    rows, told, longest = context.data(settings.data), float(settings.soft) < 1, settings.training.max_length
    longest = min(longest, int(student.description.get("maxLength", longest)))
    texts = encoded(teacher, rows, settings.data, longest, labelled=told, partly=True)
    if texts.labels is not None and context.task in LABELLED:
        labels.several([row for row in rows if row.labels], settings.data)
    share = float(settings.soft) if texts.labels is not None else 1.0
    hidden = float(settings.hidden)
    taught = share > 0 or hidden > 0 or any(UNKNOWN in row for row in texts.labels or ())
    asked = Teacher(teacher, kept if hidden > 0 else ()) if taught else None
    context.report(4, "asking the teacher")
    if asked is not None:
        context.note("teacherRemembered", asked.remember(texts))
    loss = losses.distillation(student, asked, float(settings.temperature), share, hidden)
    freezing.embeddings(student.model)
    student.model.train()
    outcome = loop.train(student.model, texts, loss, settings.training, context)
    context.note("loss", asdict(outcome))
    context.note("rows", len(texts))
    context.report(92, "saving")
    folders.save(student, out, context)


def _student(settings: Distill, teacher: folders.Subject, context: Context) -> tuple[folders.Subject, Sequence[int]]:
    """What is to learn, and the teacher's layers that it is made of: none where it is another model. Raises `Failure`."""
    depth, name = len(families.layers(prompts.without(teacher.model))), settings.student
    if name is not None:
        student = students.opened(name, context.model(name), teacher, settings.training.seed, context)
        context.note("student", {"model": name, "layers": len(families.layers(student.model)), "of": depth})
        return student, ()
    student = folders.copy(teacher.with_model(prompts.without(teacher.model)))
    kept = kept_layers(settings, depth)
    families.keep_layers(student.model, kept)
    context.note("layers", {"kept": list(kept), "of": depth})
    return student, kept


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


TECHNIQUE = Technique(revision=3, tools=("torch", "transformers"), run=run)
