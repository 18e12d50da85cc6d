"""A model folder becomes a model in memory: only safetensors, only built-in code, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimodel.api.spec import Task

from .errors import Failure
from .tasks import KINDS
from .training import families, prompts

OPTIONS = {"local_files_only": True, "trust_remote_code": False}


def load(source: Path, task: Task, *, attention: str = "eager", labels: Sequence[str] = ()) -> tuple[Any, Any]:
    """The model (eval mode, fp32, heads that are all zero cut out, reading the folder's virtual tokens) and its tokenizer. With
    `labels` it is a classifier with a new head for them, drawn from torch's generator. Raises `Failure`."""
    model, loaded = _model(source, task, attention, labels)
    new = families.of(model).head if labels else ()
    if task == "TextEmbedding":
        new = ("pooler",)
    missing = sorted(name for name in loaded["missing_keys"] if not name.startswith(new))
    if missing:
        raise Failure(
            "WeightsMissing", f"The weights lack {len(missing)} tensors, such as {missing[0]}. Save the model again."
        )
    if labels:
        _renew(model)
    if task == "TextEmbedding" and any(name.startswith("pooler") for name in loaded["missing_keys"]):
        model.pooler = None  # else chance would be saved with the weights
    families.compact(model)
    return prompts.restore(model.eval(), source), load_tokenizer(source)


def _renew(model: Any) -> None:
    """Draw the last matrix of the head anew: one of equal size would have been taken from the folder."""
    import torch

    last = [module for module in model.classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    torch.nn.init.normal_(last.weight, std=model.config.initializer_range)
    torch.nn.init.zeros_(last.bias)


def load_tokenizer(source: Path) -> Any:
    """The folder's fast tokenizer. Raises `Failure`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **OPTIONS)
        tokenizer.backend_tokenizer  # noqa: B018  (only fast tokenizers have one)
    except Exception as error:
        message = "No fast tokenizer can be made of the source. Add tokenizer.json (tokenizer.save_pretrained)."
        raise Failure("TokenizerMissing", message) from error
    return tokenizer


def _model(source: Path, task: Task, attention: str, labels: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    import torch
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    head = (
        {"id2label": dict(enumerate(labels)), "label2id": {name: n for n, name in enumerate(labels)}} if labels else {}
    )
    try:
        model, loaded = getattr(transformers, KINDS[task].loader).from_pretrained(
            source,
            attn_implementation=attention,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=bool(labels),
            **head,
            **OPTIONS,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        message = f"transformers cannot load the model: {' '.join(str(error).split())[:300]}. Save it again with save_pretrained."
        raise Failure("ModelUnloadable", message) from error
    return model, loaded
