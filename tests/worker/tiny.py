"""Small random models of each supported architecture, saved as their libraries save them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTImageProcessorPil,
    DeiTModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from optimodel.api.spec import Accelerator, Task
from optimodel.worker import steps
from optimodel.worker.data.dataset import Row

LABELS = ["place", "person", "number"]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["what", "is", "the", "capital", "of", "peru", "who", "wrote", "first", "novel", "name", "a", "fish", "yes"],
]
WORDS += [f"word{i}" for i in range(200)]
BASE = {"vocab_size": len(WORDS), "pad_token_id": 0}
BIG = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
KINDS = {
    "bert": (BertConfig, BertModel, BertForSequenceClassification, BIG),
    "roberta": (RobertaConfig, RobertaModel, RobertaForSequenceClassification, BIG),
    "distilbert": (
        DistilBertConfig,
        DistilBertModel,
        DistilBertForSequenceClassification,
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
}


IMAGE_KINDS = {
    "vit": (ViTConfig, ViTModel, ViTForImageClassification, ViTImageProcessorPil),
    "deit": (DeiTConfig, DeiTModel, DeiTForImageClassification, DeiTImageProcessorPil),
}
TAGGERS = {
    "bert": BertForTokenClassification,
    "roberta": RobertaForTokenClassification,
    "distilbert": DistilBertForTokenClassification,
}


def save(kind: str, folder: Path, labels: list[str] | None = None, *, words: bool = False) -> Path:
    """A tiny encoder, or with `labels` a classifier of texts or of their words."""
    config_type, encoder, classifier, size = KINDS[kind]
    torch.manual_seed(3)
    config = config_type(**BASE, **size, max_position_embeddings=70)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: number for number, name in enumerate(labels)}
        config.num_labels = len(labels)
    model = ((TAGGERS[kind] if words else classifier) if labels else encoder)(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(3.0) if value.dim() == 2 else None
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def save_decoder(folder: Path, texts: Sequence[str] = (), *, steps: int = 0) -> Path:
    """A tiny decoder with a byte-level BPE tokenizer and a chat template, learnt from `texts` in so many steps."""
    torch.manual_seed(3)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts or [" ".join(WORDS)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=160,
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        batch = fast(texts[step % len(texts)], return_tensors="pt").input_ids
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def save_images(folder: Path, labels: list[str] | None = None, kind: str = "vit", size: int = 16) -> Path:
    """A tiny model of images of `size` x `size` in patches of 4, or with `labels` a classifier of them, and its processor."""
    config_type, body, classifier, processor = IMAGE_KINDS[kind]
    torch.manual_seed(3)
    config = config_type(**BIG, image_size=size, patch_size=4)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: number for number, name in enumerate(labels)}
        config.num_labels = len(labels)
    model = (classifier if labels else body)(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(3.0) if value.dim() == 2 else None
    model.save_pretrained(folder)
    edges = {"height": size, "width": size}
    processor(size=edges, crop_size=edges).save_pretrained(folder)
    return folder


def context(
    task: Task,
    scratch: Path,
    data: Mapping[str, Sequence[Row]] | None = None,
    accelerator: Accelerator | None = None,
) -> steps.Context:
    """What a step is given, on one thread; `data` by the names that its settings use."""
    rows = {name: list(found) for name, found in (data or {}).items()}
    return steps.Context(
        task, 1, scratch, lambda *_: None, rows.__getitem__, scratch / "checkpoint", accelerator=accelerator
    )
