"""A BERT so small that it is optimized in seconds: random weights by seed, MiniLM's tokenizer."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
from tests import assets

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 2, 64, 512
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def write(folder: Path, seed: int) -> Path:
    """Save the model of this seed as transformers would, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copyfile(assets.minilm() / name, folder / name)
    config = json.loads((assets.minilm() / "config.json").read_text())
    config |= {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config |= {"intermediate_size": INNER, "max_position_embeddings": POSITIONS}
    (folder / "config.json").write_text(json.dumps(config))
    save(folder / "model.safetensors", weights(config["vocab_size"], seed))
    return folder


def weights(vocabulary: int, seed: int) -> dict[str, np.ndarray]:
    """Tensors of a BertModel."""
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(scale=0.4, size=shape).astype(np.float32)

    found = {"embeddings.word_embeddings.weight": drawn(vocabulary, WIDTH)}
    found["embeddings.position_embeddings.weight"] = drawn(POSITIONS, WIDTH) * np.float32(0.1)
    found["embeddings.token_type_embeddings.weight"] = drawn(2, WIDTH)
    linear = {"pooler.dense": (WIDTH, WIDTH)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        home = f"encoder.layer.{layer}"
        linear |= {f"{home}.attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        linear |= {f"{home}.attention.output.dense": (WIDTH, WIDTH), f"{home}.intermediate.dense": (INNER, WIDTH)}
        linear[f"{home}.output.dense"] = (WIDTH, INNER)
        norms += [f"{home}.attention.output.LayerNorm", f"{home}.output.LayerNorm"]
    for name, shape in linear.items():
        found |= {f"{name}.weight": drawn(*shape), f"{name}.bias": drawn(shape[0])}
    for name in norms:
        found |= {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}
    return found


def save(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a safetensors file: length of the header, header, bytes."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.tobytes() for t in tensors.values()))
