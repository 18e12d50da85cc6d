"""A model folder becomes a model in memory: only safetensors, only built-in code, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimodel.api.spec import Task

from ..errors import Failure
from ..source import images
from ..tasks import KINDS
from . import families, prompts

OPTIONS = {"local_files_only": True, "trust_remote_code": False}


def load(source: Path, task: Task, *, attention: str = "eager", labels: Sequence[str] = ()) -> tuple[Any, Any]:
    """The model (eval mode, fp32, heads that are all zero cut out, reading the folder's virtual tokens) and its tokenizer, or the
    settings of its images. With `labels` it is a classifier with a new head for them, drawn from torch's generator. Raises `Failure`."""
    model, loaded = _model(source, task, attention, labels)
    _check_weights(model, loaded, ("pooler",) if task == "TextEmbedding" else families.of(model).head if labels else ())
    processor = load_processor(source, task, model.config.to_dict())
    if labels:
        _renew(model)
    if task == "TextEmbedding" and any(name.startswith("pooler") for name in loaded["missing_keys"]):
        model.pooler = None  # else chance would be saved with the weights
    families.compact(model)
    return prompts.restore(model.eval(), source), processor


def load_processor(source: Path, task: Task, config: Mapping[str, Any]) -> Any:
    """What reads questions for the model of this config: the folder's tokenizer, or the settings of its images. Raises `Failure`."""
    if KINDS[task].images:
        return images.load_processor(source, config)
    tokenizer = load_tokenizer(source)
    if len(tokenizer) > config["vocab_size"]:
        raise Failure(
            "TokenizerMismatch",
            f"The tokenizer knows {len(tokenizer)} tokens, the model {config['vocab_size']}. Put the tokenizer's files beside "
            "the model that it was made for, or resize the model's embeddings.",
        )
    return tokenizer


def _check_weights(model: Any, loaded: Mapping[str, Any], new: tuple[str, ...]) -> None:
    """Whether every tensor came from the folder, in its size and finite, but for modules named like `new`. Raises `Failure`."""
    import torch

    missing = sorted(name for name in loaded["missing_keys"] if not name.startswith(new))
    if missing:
        raise Failure(
            "WeightsMissing", f"The weights lack {len(missing)} tensors, such as {missing[0]}. Save the model again."
        )
    other = sorted(str(found[0]) for found in loaded["mismatched_keys"] if not str(found[0]).startswith(new))
    if other:
        message = f"{other[0]} has another size than config.json says. Save the model again with save_pretrained."
        raise Failure("ModelUnloadable", message)
    for name, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            message = f"{name} of the model holds NaN or infinity: its training ran away. Use weights from before that."
            raise Failure("ModelNotFinite", message)


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
    except Exception as error:  # whatever a document of the source makes transformers, torch or safetensors say
        message = f"transformers cannot load the model: {' '.join(str(error).split())[:300]}. Save it again with save_pretrained."
        raise Failure("ModelUnloadable", message) from error
    return model, loaded
