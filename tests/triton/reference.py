"""The answers that the artifact gives in-process, each text alone and unpadded, or each image.

`reference.py ARTIFACT TEXTS.json OUT.json`. Runs with the server's requirements. Shares no code with what is served.
"""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer


def scores(logits: np.ndarray) -> list:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).tolist()


def continued(session: onnxruntime.InferenceSession, ids: list[int], ends: list[int], count: int = 12) -> list[int]:
    """The likeliest tokens up to one that ends the text, each after reading all that is before it anew."""
    inputs = {i.name: i.shape for i in session.get_inputs()}
    empty = {name: np.zeros((1, s[1], 0, s[3]), np.float32) for name, s in inputs.items() if len(s) == 4}
    found: list[int] = []
    while len(found) < count and not set(found) & set(ends):
        row = np.array([ids + found])
        (logits,) = session.run(["logits"], {"input_ids": row, "attention_mask": np.ones_like(row), **empty})
        found.append(int(logits[0, -1].argmax()))
    return found


def labelled_images(artifact: Path, files: list[str]) -> list[list]:
    """Of images in base64, at least 10 pixels high and wide: the middle 8 x 8 of what is 10 at its shorter edge."""
    about = json.loads((artifact / "model.json").read_text())["image"]
    session = onnxruntime.InferenceSession(str(artifact / "model.onnx"), providers=["CPUExecutionProvider"])
    answers = []
    for file in files:
        image = Image.open(io.BytesIO(base64.b64decode(file))).convert("RGB")
        shorter = min(image.size)
        image = image.resize([int(10 * edge / shorter) for edge in image.size], Image.Resampling.BILINEAR)
        left, top = ((edge - 8) // 2 for edge in image.size)
        values = np.array(image)[top : top + 8, left : left + 8] / 255
        values = (values - about["mean"]) / about["std"]
        (logits,) = session.run(None, {"pixel_values": values.transpose(2, 0, 1)[None].astype(np.float32)})
        answers.append(scores(logits[0]))
    return answers


def main(artifact: Path, texts: list[str]) -> list[list]:
    settings = json.loads((artifact / "model.json").read_text())
    if settings["task"] == "ImageClassification":
        return labelled_images(artifact, texts)
    tokenizer = Tokenizer.from_file(str(artifact / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings["maxLength"])
    session = onnxruntime.InferenceSession(str(artifact / "model.onnx"), providers=["CPUExecutionProvider"])
    answers = []
    for text in texts:
        if settings["task"] == "TextGeneration":
            ids = continued(session, tokenizer.encode(text).ids, settings["eosTokenIds"])
            answers.append([ids, tokenizer.decode(ids)])
            continue
        words = settings["task"] == "TokenClassification"
        encoding = tokenizer.encode(text.split(), is_pretokenized=True) if words else tokenizer.encode(text)
        ids = np.array([encoding.ids])
        (result,) = session.run([settings["output"]], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        if words:
            first = [encoding.word_ids.index(n) for n in range(len(text.split())) if n in encoding.word_ids]
            answers.append(scores(result[0][first]))
        elif settings["output"] == "logits":
            answers.append(scores(result[0]))
        else:
            mean = result[0].mean(axis=0)
            answers.append((mean / np.linalg.norm(mean)).tolist())
    return answers


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))))
