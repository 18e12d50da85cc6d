"""`python -m optimodel.worker.steps.verify RESULT REFERENCE.npz [ACCELERATOR]`: run a graph or a model folder in a fresh process and
print how far it is off."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from optimodel.api.spec import LABELLED, Accelerator
from optimodel.backends.generation import PAST, Decoder
from optimodel.repository import SERVED
from optimodel.worker.tasks import KINDS, made_for


def main(result: str, reference: str, accelerator: str | None = None) -> None:
    """Print `{"maxDifference": ..., "cosine": ...}`, the cosine of all answers as one vector: that of a single one means nothing
    where a classifier is undecided, since rounding may turn its few scores around. A result that does not load ends the process
    with its error."""
    with np.load(reference) as arrays:
        expected = arrays["expected"]
        inputs = {name: arrays[name] for name in arrays.files if name != "expected"}
    path = Path(result)
    found = _folder_answer(path, inputs) if path.is_dir() else _graph_answer(path, inputs, accelerator)
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise SystemExit(f"answers of shape {found.shape}, finite: {bool(np.isfinite(found).all())}")
    a, b = (x.reshape(-1).astype(np.float64) for x in (found, expected))
    cosine = (a @ b) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)
    print(json.dumps({"maxDifference": float(np.abs(a - b).max()), "cosine": float(cosine)}))


def _graph_answer(graph: Path, inputs: dict[str, Any], accelerator: str | None) -> Any:
    from optimodel.worker.inference.answers import session

    running = session(graph, 1, cast("Accelerator | None", accelerator))
    if any(i.name.startswith(PAST) for i in running.get_inputs()):
        return _step_by_step(Decoder(running), inputs["input_ids"], inputs["attention_mask"])
    (found,) = running.run(None, {i.name: inputs[i.name] for i in running.get_inputs()})
    return found


def _step_by_step(decoder: Decoder, ids: Any, mask: Any) -> Any:
    """Logits of a decoder that reads the first half at once and the rest token by token, from its cache."""
    half = ids.shape[1] // 2
    logits, cache = decoder.run(ids[:, :half], mask[:, :half], decoder.empty(len(ids)))
    found = [logits]
    for end in range(half + 1, ids.shape[1] + 1):
        logits, cache = decoder.run(ids[:, end - 1 : end], mask[:, :end], cache)
        found.append(logits)
    return np.concatenate(found, axis=1)


def _folder_answer(folder: Path, inputs: dict[str, Any]) -> Any:
    """As transformers alone loads it, with its virtual tokens if it carries any; what reads questions for it has to load too, and
    to fit."""
    import torch
    import transformers
    from transformers import AutoConfig

    from optimodel.worker.training import prompts
    from optimodel.worker.training.loading import load_processor

    torch.set_num_threads(1)
    options = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **options)
    task = made_for(str((config.architectures or [""])[0]))
    loader = getattr(transformers, KINDS[task].loader)
    model, loaded = loader.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **options)
    missing = [name for name in loaded["missing_keys"] if task in LABELLED or not name.startswith("pooler")]
    if missing or loaded["unexpected_keys"] or loaded["mismatched_keys"]:
        raise SystemExit(f"weights do not fit the config: {str(loaded)[:200]}")
    load_processor(folder, task, config.to_dict())
    model = prompts.restore(model.eval(), folder)
    with torch.no_grad():
        found = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return found[SERVED[task].output].numpy()


if __name__ == "__main__":
    main(*sys.argv[1:])
