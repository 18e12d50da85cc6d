"""A training step's input and output: a Hugging Face folder with what surrounds it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimodel.api.spec import GENERATING, SCORING, Task
from optimodel.repository import SERVED

from ..errors import Failure
from ..inference import fronts
from ..source import check_folder
from ..source.checks import POOLING, WANTED
from . import families, prompts
from .loading import load

if TYPE_CHECKING:
    from ..steps.technique import Context
    from .batches import Batch

MIN_COSINE = 0.9999
"""Between the model in memory and the saved one in a fresh process."""
CHECKED = (3, 23)
SENTENCE = ("modules.json", "sentence_bert_config.json", POOLING)
"""Documents of sentence-transformers: what pools token vectors, and how long a text may be."""


@dataclass(frozen=True)
class Subject:
    """A model at work: `processor` reads questions for it (its tokenizer, or the settings of its images), `description` is what
    Export would say of it (pooling, longest input, padding)."""

    task: Task
    source: Path
    model: Any
    processor: Any
    description: Mapping[str, Any]

    def with_model(self, model: Any) -> Subject:
        """The same surroundings around another model."""
        return replace(self, model=model)

    def answer(self, batch: Batch, *, hidden: bool = False) -> tuple[Any, tuple[Any, ...]]:
        """What the task answers, logits of rows, of all their words or behind all their tokens, or pooled vectors, a row each; and
        with `hidden` the last hidden states of every layer."""
        options = {"use_cache": False} if self.task in GENERATING else {}
        found = self.model(**batch.inputs, output_hidden_states=hidden, **options)
        states = tuple(found.hidden_states[1:]) if hidden else ()
        if self.task in SCORING:
            return found.logits if batch.answering is None else found.logits[batch.answering], states
        return pooled(found.last_hidden_state, batch.mask, self.description), states


def pooled(hidden: Any, mask: Any, description: Mapping[str, Any]) -> Any:
    """Sentence vectors as the backends make them: masked mean or first token, of unit length if asked."""
    import torch

    if description["pooling"] == "cls":
        vectors = hidden[:, 0]
    else:
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        vectors = (hidden * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(vectors, dim=-1) if description["normalize"] else vectors


def open_folder(
    source: Path, task: Task, context: Context, *, labels: Sequence[str] = (), virtual: bool = False
) -> Subject:
    """The model of a folder, ready to work with the context's threads. With `labels` it gets a new head; one that reads virtual
    tokens is for those who ask for `virtual`. Raises `Failure`."""
    import torch

    from ..steps import describe

    torch.set_num_threads(context.threads)
    config = check_folder(source, task, headless=bool(labels))
    model, processor = load(source, task, attention="sdpa", labels=labels)
    if prompts.count(source) and not virtual:
        raise Failure(
            "VirtualTokensNotSupported",
            "The model reads virtual tokens, so its weights cannot be changed any more. Begin with Distill or Export, or use "
            "the model that the tokens were learnt for.",
        )
    config |= {"id2label": model.config.id2label}
    return Subject(task, source, model, processor, describe.describe(source, config, task, processor))


def with_virtual_tokens(subject: Subject, method: prompts.Method, count: int) -> Subject:
    """The classifier with new virtual tokens, and so much less room for a text. Raises `Failure`."""
    from ..steps import describe

    room = prompts.room(describe.positions(subject.model.config.to_dict()), count)
    described = {**subject.description, "maxLength": min(room, int(subject.description["maxLength"]))}
    return replace(subject, model=prompts.attach(subject.model, method, count), description=described)


def copy(subject: Subject) -> Subject:
    """A copy whose model may be changed."""
    from copy import deepcopy

    return subject.with_model(deepcopy(subject.model))


def save(subject: Subject, out: Path, context: Context, *, tokenizer: bool = True) -> None:
    """Write the folder and prove it: transformers alone loads it in a fresh process, and it answers alike at another shape. Without
    `tokenizer` its files are there already. Of several processes, which hold equal weights, the first does so. Raises `Failure`."""
    from ..steps.technique import max_difference, verify

    if context.peers.rank:
        return
    subject.model.eval()
    reference = context.scratch / "folder-reference.npz"
    _save_reference(subject, reference)
    model = prompts.without(subject.model)
    families.expand(model)
    for value in model.parameters():
        value.data = value.data.contiguous()
    model.save_pretrained(out)
    families.compact(model)
    prompts.save(subject.model, out)
    _carry(subject, out, tokenizer)
    verify(out, reference, max_difference=max_difference(subject.task), min_cosine=MIN_COSINE)


def _carry(subject: Subject, out: Path, tokenizer: bool) -> None:
    """Copy what is not weights and not config; sentence-transformers' documents have no meaning for a classifier."""
    sentence = SENTENCE if subject.task == "TextEmbedding" else ()
    texts = [name for name in WANTED if name not in SENTENCE and "safetensors" not in name and name != "config.json"]
    for pattern in (*(texts if tokenizer else ()), *sentence):
        for path in sorted(subject.source.glob(pattern)):
            target = out / path.relative_to(subject.source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _save_reference(subject: Subject, path: Path) -> None:
    """Made-up questions, and the answers of the model in memory."""
    import numpy as np
    import torch

    batch, length = CHECKED
    length = min(length, int(subject.description.get("maxLength", length)))
    vocabulary = int(getattr(subject.model.config, "vocab_size", 0))
    values = fronts.sample(subject.description, batch, length, vocabulary, ragged=True)
    with torch.no_grad():
        found = subject.model(**{name: torch.from_numpy(value) for name, value in values.items()})
    expected = found[SERVED[subject.task].output]
    if not bool(torch.isfinite(expected).all()):
        message = "The model's answers are no longer finite. Lower the learning rate, or use other weights."
        raise Failure("ModelNotFinite", message)
    np.savez(path, expected=expected.numpy(), **values)
