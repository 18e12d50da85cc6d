"""An artifact's own answers, computed in this process without Triton: `reference.py ARTIFACT TEXTS.json OUT.json`.

Runs with the worker's requirements. Shares no code with what is served, but pads to the same lengths, because dynamic
int8 takes its scales from the padded tensor.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

LENGTHS = (16, 32, 64, 128, 256)


def answers(artifact: Path, texts: list[str]) -> list[list[float]]:
    """Vectors or scores, each text alone."""
    settings = json.loads((artifact / "model.json").read_text())
    tokenizer = Tokenizer.from_file(str(artifact / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(settings["maxLength"], LENGTHS[-1]))
    session = onnxruntime.InferenceSession(str(artifact / "model.onnx"), providers=["CPUExecutionProvider"])
    return [_answer(session, tokenizer.encode(text).ids, settings) for text in texts]


def _answer(session: onnxruntime.InferenceSession, tokens: list[int], settings: dict) -> list[float]:
    width = next(length for length in LENGTHS if length >= len(tokens))
    ids = np.full((1, width), settings["padTokenId"], np.int64)
    ids[0, : len(tokens)] = tokens
    mask = (np.arange(width)[None] < len(tokens)).astype(np.int64)
    known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (result,) = session.run([settings["output"]], {name: known[name] for name in settings["inputs"]})
    if settings["task"] == "TextClassification":
        powers = np.exp(result[0] - result[0].max())
        return (powers / powers.sum()).tolist()
    tokens_only = result[0][: len(tokens)]
    vector = tokens_only[0] if settings.get("pooling") == "cls" else tokens_only.mean(axis=0)
    return (vector / np.linalg.norm(vector) if settings.get("normalize") else vector).tolist()


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(answers(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))))
