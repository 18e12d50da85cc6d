"""Token rows that no text uses are dropped from the embeddings and from the tokenizer.

Kept: special and added tokens, every token of the data, and every single character or byte in each position that it has, so that any
text that could be read before still can, in more and shorter pieces. The data itself reads as before, token by token.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import Failure
from ...source.checks import read_json
from ...training.folders import Subject

CONFIG_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id")
CARRIED = ("special_tokens_map.json",)


def trim(subject: Subject, texts: Sequence[str], out: Path) -> dict[str, int]:
    """Change the model's embeddings and config, and write the tokenizer's files into `out`; sizes before and after. Raises `Failure`."""
    document = _document(subject)
    model = document["model"]
    if model["type"] not in ("WordPiece", "BPE", "WordLevel"):
        raise Failure(
            "TokenizerUnsupported",
            f"Prune Vocabulary reads WordPiece, BPE and WordLevel tokenizers, not {model['type']}. Leave this step out.",
        )
    everything = dict(model["vocab"]) | {token["content"]: token["id"] for token in document["added_tokens"]}
    kept = _kept(subject, document, texts)
    order = sorted(kept, key=everything.__getitem__)
    numbers = {token: number for number, token in enumerate(order)}
    _rewrite(document, numbers)
    _shrink(subject.model, [everything[token] for token in order])
    _write(subject, document, everything, numbers, out)
    return {"before": len(everything), "after": len(order)}


def _document(subject: Subject) -> Any:
    path = subject.source / "tokenizer.json"
    return read_json(path) if path.exists() else json.loads(subject.processor.backend_tokenizer.to_str())


def _kept(subject: Subject, document: Mapping[str, Any], texts: Sequence[str]) -> set[str]:
    """The tokens that stay."""
    vocabulary = document["model"]["vocab"]
    prefix = document["model"].get("continuing_subword_prefix") or ""
    kept = {token["content"] for token in document["added_tokens"]} | set(subject.processor.all_special_tokens)
    pad = subject.model.config.pad_token_id or 0
    kept |= {
        token for token, number in vocabulary.items() if number <= pad
    }  # RoBERTa counts positions from its padding's number
    kept |= {token for token in vocabulary if len(token.removeprefix(prefix)) == 1}
    for ids in subject.processor(list(texts), add_special_tokens=True)["input_ids"]:
        kept.update(subject.processor.convert_ids_to_tokens(sorted(set(ids))))
    return _with_parts(kept, document["model"]) if document["model"]["type"] == "BPE" else kept


def _with_parts(kept: set[str], model: Mapping[str, Any]) -> set[str]:
    """For byte pairs: also what the kept tokens are merged from, by whatever way."""
    ways: dict[str, list[list[str]]] = {}
    for pair in map(_pair, model["merges"]):
        ways.setdefault("".join(pair), []).append(pair)
    found, open_ones = set(kept), list(kept)
    while open_ones:
        for part in (part for pair in ways.get(open_ones.pop(), ()) for part in pair):
            if part not in found:
                found.add(part)
                open_ones.append(part)
    return found


def _pair(merge: Any) -> list[str]:
    """A merge as written by old tokenizers ("a b") or new (["a", "b"])."""
    return merge.split(" ") if isinstance(merge, str) else list(merge)


def _rewrite(document: Any, numbers: Mapping[str, int]) -> None:
    """Give the kept tokens their new numbers wherever the document has numbers."""
    model = document["model"]
    model["vocab"] = {
        token: numbers[token] for token in sorted(model["vocab"].keys() & numbers.keys(), key=numbers.__getitem__)
    }
    if "merges" in model:
        model["merges"] = [
            merge for merge in model["merges"] if {*_pair(merge), "".join(_pair(merge))} <= model["vocab"].keys()
        ]
    for token in document["added_tokens"]:
        token["id"] = numbers[token["content"]]
    if document.get("padding"):
        document["padding"]["pad_id"] = numbers[document["padding"]["pad_token"]]
    _renumber(document.get("post_processor"), numbers)


def _renumber(processor: Any, numbers: Mapping[str, int]) -> None:
    """Post-processors add special tokens by number: templates, pairs such as `"cls": ["<s>", 0]`, and sequences of such."""
    if not processor:
        return
    for inner in processor.get("processors", ()):
        _renumber(inner, numbers)
    for template in processor.get("special_tokens", {}).values():
        template["ids"] = [numbers[token] for token in template["tokens"]]
    for name in ("cls", "sep"):
        if name in processor:
            processor[name] = [processor[name][0], numbers[processor[name][0]]]


def _shrink(model: Any, rows: Sequence[int]) -> None:
    """Keep these rows of the word embeddings; the config follows."""
    import torch

    old = model.get_input_embeddings()
    padding = None if old.padding_idx is None else list(rows).index(old.padding_idx)
    new = torch.nn.Embedding(len(rows), old.embedding_dim, padding_idx=padding)
    new.weight.data = old.weight.detach()[torch.tensor(list(rows))].clone()
    model.set_input_embeddings(new)
    places = {row: number for number, row in enumerate(rows)}
    for name in CONFIG_IDS:
        value = getattr(model.config, name, None)
        if isinstance(value, int):
            setattr(model.config, name, places.get(value))
    model.config.vocab_size = len(rows)


def _write(
    subject: Subject, document: Any, everything: Mapping[str, int], numbers: Mapping[str, int], out: Path
) -> None:
    """The tokenizer's files, without the lists of old formats, and proof that every kept token has its new number."""
    from tokenizers import Tokenizer

    (out / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    made = Tokenizer.from_file(str(out / "tokenizer.json"))
    if any(made.token_to_id(token) != number for token, number in numbers.items()):
        raise Failure("TokenizerUnsupported", "The tokenizer cannot be renumbered. Leave Prune Vocabulary out.")
    config = (
        read_json(subject.source / "tokenizer_config.json")
        if (subject.source / "tokenizer_config.json").exists()
        else {}
    )
    if "added_tokens_decoder" in config:
        old = {str(number): token for token, number in everything.items()}
        decoder = config["added_tokens_decoder"]
        config["added_tokens_decoder"] = {str(numbers[old[key]]): decoder[key] for key in decoder if key in old}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    for name in CARRIED:
        if (subject.source / name).exists():
            shutil.copyfile(subject.source / name, out / name)
