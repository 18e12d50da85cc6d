"""The optimization steps, one type of settings each."""

from __future__ import annotations

from typing import Literal

from .struct import Struct


class Training(Struct, frozen=True):
    """How a training loop runs: AdamW with linear warm-up and decay. Decimals are strings; `maxLength` is in tokens."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: str = "0.0001"
    warmup: str = "0.06"
    weight_decay: str = "0.01"
    max_length: int = 128
    seed: int = 0


class Adversarial(Struct, frozen=True):
    """Training on perturbed embeddings (FGM, Miyato et al. 2017): `epsilon` is the l2 norm of a text's perturbation,
    relative to that of its embeddings; `weight` is that of the perturbed loss."""

    epsilon: str = "0.1"
    weight: str = "1"


class FineTune(Struct, frozen=True):
    """Step `FineTune`: adapt the model to labelled rows, or a decoder to how texts go on. LoRA (Hu et al. 2021) is merged into
    the weights; Head trains a new head on a frozen body; PromptTuning (Lester et al. 2021) and PrefixTuning (Li & Liang 2021)
    train the head and `virtualTokens` vectors that the frozen body reads ahead of every text."""

    data: str
    method: Literal["Full", "Head", "LoRA", "PromptTuning", "PrefixTuning"] = "Full"
    rank: int = 8
    alpha: int = 16
    freeze_embeddings: bool = True
    adversarial: Adversarial | None = None
    training: Training = Training()
    virtual_tokens: int = 16


class Distill(Struct, frozen=True):
    """Step `Distill`: a student of some of the teacher's layers learns its soft labels at `temperature`, the hard labels
    (of a decoder, the tokens that follow), and its hidden states (Hinton et al. 2015, Sanh et al. 2019). `soft` is the share
    of the soft loss, `hidden` the weight of the hidden-state loss. No `keepLayers` = every other layer, the last among them.
    `student` names another model to be taught in their place; its hidden states are its own."""

    data: str
    keep_layers: tuple[int, ...] = ()
    temperature: str = "2"
    soft: str = "0.7"
    hidden: str = "1"
    training: Training = Training()
    student: str | None = None


class Recover(Struct, frozen=True):
    """Training after pruning, towards the model before it: all weights (Distill) or adapters (LoRA) that are merged."""

    data: str
    method: Literal["Distill", "LoRA"] = "Distill"
    rank: int = 8
    training: Training = Training()


class Prune(Struct, frozen=True):
    """Step `Prune`: remove what matters least. Heads, FFN (intermediate neurons), Layers and Vocabulary (token rows that
    `data` never uses) make the model smaller; Magnitude and TwoFour set weights to zero and change neither size nor
    speed by themselves. `keep` is the share that stays; Vocabulary keeps the tokens of `data` and ignores it."""

    method: Literal["Magnitude", "TwoFour", "Heads", "FFN", "Layers", "Vocabulary"] = "FFN"
    keep: str = "0.75"
    data: str | None = None
    recover: Recover | None = None


LayerPart = Literal["Embeddings", "Attention", "AttentionOutput", "FFNUp", "FFNDown", "Head"]
"""A part of each layer, or of what lies around the layers."""


class QAT(Struct, frozen=True):
    """Step `QAT`: train through the rounding of a later Quantize with the same `method`, `bits`, `embeddingBits`, `groupSize` and
    `exclude`, towards the model before (Jacob et al. 2018)."""

    data: str
    method: Literal["Dynamic", "Static", "WeightOnly"] = "Dynamic"
    bits: Literal[4, 8] = 8
    group_size: int = 32
    exclude: tuple[LayerPart, ...] = ()
    training: Training = Training()
    embedding_bits: Literal[4, 8] | None = None


class Export(Struct, frozen=True):
    """Step `Export`: trace the model to a graph."""

    format: Literal["ONNX"] = "ONNX"


class Quantize(Struct, frozen=True):
    """Step `Quantize`: Dynamic = int8 weights, activations at run time; Static = both int8 with scales calibrated on `data`;
    WeightOnly = weights of `bits` bits in groups of `groupSize`, activations in fp32; GPTQ = the same, rounded by what they do
    to `data` (Frantar et al. 2022); AWQ = the same, scaled by how strong `data` shows their inputs (Lin et al. 2023); FP8 =
    weights and what products read in 8-bit floats, calibrated on `data`, for a GPU; Float16, BFloat16 = weights of 16 bits.
    `embeddingBits` are those of the embeddings' tables (left out = `bits`), which are looked up and never multiplied: 4 of them
    cost next to no time. `exclude` names parts of each layer that keep their precision."""

    method: Literal["Dynamic", "Static", "WeightOnly", "GPTQ", "AWQ", "FP8", "Float16", "BFloat16"] = "Dynamic"
    bits: Literal[4, 8] = 8
    per_channel: bool = True
    group_size: int = 32
    data: str | None = None
    exclude: tuple[LayerPart, ...] = ()
    embedding_bits: Literal[4, 8] | None = None


StepType = Literal["FineTune", "Distill", "Prune", "QAT", "Export", "Quantize"]


class Step(Struct, frozen=True):
    """One optimization step; the member named after `type` carries its settings (left out = defaults)."""

    name: str
    type: StepType
    fine_tune: FineTune | None = None
    distill: Distill | None = None
    prune: Prune | None = None
    qat: QAT | None = None
    export: Export | None = None
    quantize: Quantize | None = None
