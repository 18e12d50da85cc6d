"""`python -m optimodel.worker.steps.verify GRAPH REFERENCE.npz`: run a graph in a fresh process and print how far it is off."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime as ort


def main(graph: str, reference: str) -> None:
    """Print `{"maxDifference": ..., "minCosine": ...}`; a graph that does not load ends the process with its error."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    with np.load(reference) as arrays:
        expected = arrays["expected"]
        (found,) = session.run(None, {i.name: arrays[i.name] for i in session.get_inputs()})
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise SystemExit(f"answers of shape {found.shape}, finite: {bool(np.isfinite(found).all())}")
    a, b = (x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (found, expected))
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    print(json.dumps({"maxDifference": float(np.abs(a - b).max()), "minCosine": float(cosine.min())}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
