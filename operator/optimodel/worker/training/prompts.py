"""Virtual tokens: vectors that a frozen model reads ahead of every text, learnt in place of its weights.

Prompt tuning (Lester et al. 2021) learns them as word vectors, prefix tuning (Li & Liang 2021) as keys and values of every layer.
No weight can take them up, so a folder carries them in a file of their own, and whoever loads it gets a model that reads them by
itself: it takes the same inputs, and tells hidden states of the text alone. They take the first positions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..errors import Failure
from ..source.checks import VIRTUAL_TOKENS as FILE
from ..tasks import KINDS, made_for
from . import families

Method = Literal["PromptTuning", "PrefixTuning"]
NAME = "prompt_embeddings"
"""The one tensor in the file, named and laid out as peft's: (tokens, width), or (tokens, layers x (key, value) x width)."""
SHORTEST = 8
"""Tokens of a text that there must be room for behind them."""


def attach(model: Any, method: Method, count: int) -> Any:
    """The classifier with `count` new virtual tokens, drawn from torch's generator: word vectors at random for a prompt. Only
    they and the head learn. Raises `Failure`."""
    from peft import PrefixTuningConfig, PromptTuningConfig
    from peft.tuners import PrefixEncoder, PromptEmbedding

    shape = {
        "num_virtual_tokens": count,
        "token_dim": model.config.hidden_size,
        "num_layers": len(families.layers(model)),
        "num_attention_heads": model.config.num_attention_heads,
        "num_transformer_submodules": 1,
    }
    model.requires_grad_(False)
    if method == "PromptTuning":
        encoder = PromptEmbedding(PromptTuningConfig(**shape), model.get_input_embeddings())
    else:
        _check_prefix(model)
        encoder = PrefixEncoder(PrefixTuningConfig(**shape))
    for name, value in model.named_parameters():
        value.requires_grad_(name.startswith(families.of(model).head))
    return _reading(model, encoder.embedding.weight)


def restore(model: Any, folder: Path) -> Any:
    """The model as the folder means it: with its virtual tokens if it carries any. Raises `Failure`."""
    if not (folder / FILE).exists():
        return model
    import torch
    from safetensors.torch import load_file

    values = load_file(folder / FILE).get(NAME)
    width = int(model.config.hidden_size)
    if values is None or values.dim() != 2 or values.shape[1] not in (width, 2 * width * len(families.layers(model))):
        raise Failure("ModelUnloadable", f"{FILE} does not fit the model. Run the FineTune step again.")
    if values.shape[1] != width:
        _check_prefix(model)
    return _reading(model, torch.nn.Parameter(values.float(), requires_grad=False)).eval()


def without(model: Any) -> Any:
    """The model that reads no virtual tokens: itself, or what is inside."""
    return getattr(model, "plain", model)


def save(model: Any, out: Path) -> None:
    """Write the virtual tokens, if the model has any, beside its weights."""
    if without(model) is not model:
        from safetensors.torch import save_file

        save_file({NAME: model.tokens.detach().contiguous()}, out / FILE, {"format": "pt"})


def count(folder: Path) -> int:
    """Virtual tokens that a folder carries. Reads the file's header only."""
    if not (folder / FILE).exists():
        return 0
    from safetensors import safe_open

    with safe_open(folder / FILE, framework="np") as file:
        return int(file.get_slice(NAME).get_shape()[0])


def room(positions: int, tokens: int) -> int:
    """Longest text in tokens behind the virtual ones. Raises `Failure` where hardly any is left."""
    if positions - tokens < SHORTEST:
        raise Failure(
            "VirtualTokensTooMany",
            f"{tokens} virtual tokens leave no room for a text: the model has {positions} positions. Lower virtualTokens.",
        )
    return positions - tokens


def _check_prefix(model: Any) -> None:
    """Whether every layer takes keys and values of all its heads."""
    if model.config.model_type == "distilbert":
        raise Failure(
            "UnsupportedArchitecture",
            "transformers' DistilBERT takes no keys and values ahead of a text. Use FineTune by PromptTuning or LoRA.",
        )
    if any(len(families.heads(model, layer)) < model.config.num_attention_heads for layer in families.layers(model)):
        raise Failure(
            "UnsupportedArchitecture",
            "A prefix has keys and values for every head, and heads of this model were pruned. Use PromptTuning or LoRA.",
        )


def _reading(model: Any, tokens: Any) -> Any:
    """A module around the classifier that reads the tokens ahead of every text."""
    import torch

    class Reading(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.tokens, self.config = model, tokens, model.config

        def get_input_embeddings(self) -> Any:
            return self.plain.get_input_embeddings()

        def forward(
            self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None, output_hidden_states: bool = False
        ) -> Any:
            inputs = _inputs(self.plain, self.tokens, input_ids, attention_mask, token_type_ids)
            found = self.plain.base_model(**inputs, output_hidden_states=output_hidden_states)
            return _output(self.plain, found, input_ids.shape[1])

    return Reading()


def _inputs(model: Any, tokens: Any, ids: Any, mask: Any, types: Any) -> dict[str, Any]:
    """What the body is called with."""
    import torch
    from transformers import DynamicCache

    texts, ahead, config = ids.shape[0], tokens.shape[0], model.config
    found = {"attention_mask": torch.cat([mask.new_ones(texts, ahead), mask], 1)}
    if tokens.shape[1] == config.hidden_size:
        words = model.get_input_embeddings()(ids)
        found["inputs_embeds"] = torch.cat([tokens.expand(texts, -1, -1), words], 1)
        return found | (
            {} if types is None else {"token_type_ids": torch.cat([types.new_zeros(texts, ahead), types], 1)}
        )
    parts = tokens.view(ahead, -1, config.num_attention_heads, families.head_size(model)).permute(1, 2, 0, 3)
    pairs = [tuple(part.expand(texts, -1, -1, -1) for part in pair) for pair in parts.split(2)]
    found |= {"input_ids": ids, "past_key_values": DynamicCache(pairs)}
    return found | ({} if types is None else {"token_type_ids": types})


def _output(model: Any, found: Any, length: int) -> Any:
    """Hidden states of the text, and a classifier's logits: of every token of it, or from its own first."""
    from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput, TokenClassifierOutput

    start = found.last_hidden_state.shape[1] - length
    last = found.last_hidden_state[:, start:]
    states = found.hidden_states and tuple(state[:, start:] for state in found.hidden_states)
    if model is model.base_model:
        return BaseModelOutput(last_hidden_state=last, hidden_states=states)
    if KINDS[made_for(type(model).__name__)].words:
        return TokenClassifierOutput(logits=model.classifier(model.dropout(last)), hidden_states=states)
    return SequenceClassifierOutput(logits=families.head_logits(model, last[:, 0]), hidden_states=states)
