"""Where each supported architecture keeps its parts, and the surgery that needs to know.

transformers' BERT-like configs cannot say that a layer has fewer heads, although its code runs with any number. So a folder
holds removed heads as zeros (`expand`), and whoever loads it cuts them out of the matrices (`compact`), which changes no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Family:
    """Attribute paths below the body (`layers`, `tables`), below a layer (linear modules), and below the model (`head`)."""

    layers: str
    query: str
    key: str
    value: str
    output: str
    up: str
    down: str
    depth: str
    """Config field: number of layers."""
    width: str
    """Config field: intermediate neurons of the feed-forward network."""
    head: tuple[str, ...]
    """Modules between the first token's last hidden state and a label's logits; the body's pooler is among them. What makes scores
    of tokens is none: it is, or mirrors, their table."""
    tables: tuple[str, ...]
    """What makes vectors of tokens: tables, or for images the projection of patches with the positions."""
    gate: str = ""
    """Linear module beside `up` that its neurons are multiplied with."""
    norm: str = ""
    """Below the body: the normalisation through which transformers tells the last layer's hidden states, and only those."""
    grouped: bool = False
    """Whether several heads may share keys and values, so that none can be cut by itself."""

    @property
    def projections(self) -> tuple[str, ...]:
        """What makes heads of hidden states."""
        return (self.query, self.key, self.value)

    @property
    def linears(self) -> tuple[str, ...]:
        """Every matrix product of a layer."""
        return (*self.projections, self.output, *filter(None, (self.gate,)), self.up, self.down)


_BERT = Family(
    "encoder.layer",
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
    "num_hidden_layers",
    "intermediate_size",
    ("bert.pooler", "classifier"),
    ("embeddings.word_embeddings", "embeddings.position_embeddings", "embeddings.token_type_embeddings"),
)
_ROBERTA = replace(_BERT, head=("classifier",))
_DISTILBERT = Family(
    "transformer.layer",
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "ffn.lin1",
    "ffn.lin2",
    "n_layers",
    "hidden_dim",
    ("pre_classifier", "classifier"),
    ("embeddings.word_embeddings", "embeddings.position_embeddings"),
)
_VIT = Family(
    "layers",
    "attention.q_proj",
    "attention.k_proj",
    "attention.v_proj",
    "attention.o_proj",
    "mlp.fc1",
    "mlp.fc2",
    "num_hidden_layers",
    "intermediate_size",
    ("classifier",),
    ("embeddings",),
)
_LLAMA = Family(
    "layers",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "num_hidden_layers",
    "intermediate_size",
    (),
    ("embed_tokens",),
    gate="mlp.gate_proj",
    norm="norm",
    grouped=True,
)
FAMILIES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "distilbert": _DISTILBERT,
    "vit": _VIT,
    "deit": _VIT,
    "llama": _LLAMA,
}
"""By `model_type`; the source checks allow no other."""


def of(model: Any) -> Family:
    """The family of a loaded model."""
    return FAMILIES[model.config.model_type]


def layers(model: Any) -> Any:
    """The `ModuleList` of the layers."""
    return model.base_model.get_submodule(of(model).layers)


def linears(model: Any) -> list[Any]:
    """Every matrix product of the layers, one layer after another."""
    return [layer.get_submodule(path) for layer in layers(model) for path in of(model).linears]


def head_size(model: Any) -> int:
    """Width of one attention head."""
    return int(model.config.hidden_size // model.config.num_attention_heads)


def head_logits(model: Any, first: Any) -> Any:
    """Logits from the last hidden states of first tokens, shape (batch, hidden)."""
    import torch

    if of(model) is _VIT:
        return model.classifier(first)
    if model.config.model_type == "roberta":
        return model.classifier(first.unsqueeze(1))
    if model.config.model_type == "bert":
        return model.classifier(model.dropout(model.bert.pooler(first.unsqueeze(1))))
    return model.classifier(model.dropout(torch.relu(model.pre_classifier(first))))


def positions(model: Any) -> int:
    """Tokens that a model of images makes of each: its patches, and what it puts ahead of them."""
    return int(model.base_model.embeddings.position_embeddings.shape[1])


def told(model: Any, states: Sequence[Any], kept: Sequence[int]) -> list[Any]:
    """The hidden states of the layers `kept`, as a model that has these alone would tell them: the last normalised, if that is the
    family's way."""
    found = [states[index] for index in kept]
    if found and of(model).norm and kept[-1] + 1 < len(states):
        found[-1] = model.base_model.get_submodule(of(model).norm)(found[-1])
    return found


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Drop every layer whose index is not in `kept`; the config follows."""
    import torch

    parent, _, name = of(model).layers.rpartition(".")
    remaining = torch.nn.ModuleList([layers(model)[index] for index in kept])
    for index, layer in enumerate(remaining):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
    setattr(model.base_model.get_submodule(parent), name, remaining)
    setattr(model.config, of(model).depth, len(kept))


def keep_neurons(model: Any, kept: Sequence[Any]) -> None:
    """Keep the feed-forward neurons of `kept` (one index tensor a layer, all of one length); the config follows."""
    family = of(model)
    for layer, index in zip(layers(model), kept, strict=True):
        _narrow(layer, family.up, index, 0)
        _narrow(layer, family.down, index, 1)
    setattr(model.config, family.width, len(kept[0]))


def keep_heads(model: Any, layer: Any, kept: Sequence[int]) -> None:
    """Cut all heads but `kept` (positions among those still there) out of a layer's matrices."""
    import torch

    family, size = of(model), head_size(model)
    columns = torch.cat([torch.arange(head * size, (head + 1) * size) for head in kept])
    for path in family.projections:
        _narrow(layer, path, columns, 0)
    _narrow(layer, family.output, columns, 1)
    places = heads(model, layer)
    layer.kept_heads = [places[head] for head in kept]


def heads(model: Any, layer: Any) -> list[int]:
    """Original positions of the heads that a layer still has."""
    return list(getattr(layer, "kept_heads", range(model.config.num_attention_heads)))


def compact(model: Any) -> int:
    """Cut heads that a folder holds as zeros out of the matrices; how many. No answer changes."""
    family, size, cut = of(model), head_size(model), 0
    if family.grouped:
        return 0
    for layer in layers(model):
        parts = layer.get_submodule(family.output).weight.detach().split(size, dim=1)
        alive = [head for head, part in enumerate(parts) if bool(part.any())] or [0]
        if len(alive) < len(parts):
            keep_heads(model, layer, alive)
            cut += len(parts) - len(alive)
    return cut


def expand(model: Any) -> None:
    """Give every layer the matrices that its config announces: heads that were cut become zeros."""
    import torch

    family, size = of(model), head_size(model)
    for layer in layers(model):
        places = heads(model, layer)
        if len(places) == model.config.num_attention_heads:
            continue
        columns = torch.cat([torch.arange(place * size, (place + 1) * size) for place in places])
        for path in family.projections:
            _widen(layer, path, columns, 0, model.config.hidden_size)
        _widen(layer, family.output, columns, 1, model.config.hidden_size)
        del layer.kept_heads


def _narrow(layer: Any, path: str, index: Any, dim: int) -> None:
    """Replace a linear module by one that has only the rows (0) or columns (1) of `index`."""
    old = layer.get_submodule(path)
    bias = old.bias if dim or old.bias is None else old.bias.detach()[index]
    _replace(layer, path, old.weight.detach().index_select(dim, index), bias)


def _widen(layer: Any, path: str, index: Any, dim: int, size: int) -> None:
    """The reverse of `_narrow`: what `index` lacks is zero."""
    import torch

    old = layer.get_submodule(path)
    shape = list(old.weight.shape)
    shape[dim] = size
    weight = torch.zeros(shape).index_copy(dim, index, old.weight.detach())
    bias = old.bias
    if dim == 0 and bias is not None:
        bias = torch.zeros(size).index_copy(0, index, bias.detach())
    _replace(layer, path, weight, bias)


def _replace(layer: Any, path: str, weight: Any, bias: Any) -> None:
    import torch

    new = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    new.weight.data = weight.clone()
    if bias is not None:
        new.bias.data = bias.detach().clone()
    parent, _, name = path.rpartition(".")
    setattr(layer.get_submodule(parent), name, new)
