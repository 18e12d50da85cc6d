"""`python -m tests.perf.decoder [--texts N] [NAME...]`: SmolLM2-135M by each way to quantize it, against its fp32 graph.

Drives the worker's own steps. A graph is kept in a folder named after everything that went into it, so that a run that was stopped
goes on where it was. Texts are film reviews: calibration and judgement have reviews of their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from devcluster.paths import CACHE
from tests import assets

from optimodel.api.spec import Batching, Shape
from optimodel.api.steps import Quantize, Step
from optimodel.artifacts.manifest import scan
from optimodel.recipes.likelihoods import agreement, perplexity_ratio
from optimodel.worker import steps
from optimodel.worker.data.rows import Row, sample
from optimodel.worker.evidence.latency import measure
from optimodel.worker.evidence.perplexity import compared
from optimodel.worker.inference.answers import opened
from optimodel.worker.inference.generation import Writer
from optimodel.worker.source import weight_bytes

TASK = "TextGeneration"
WAYS: Mapping[str, Quantize] = {
    "int8 dynamic": Quantize(),
    "weights in 8 bits": Quantize("WeightOnly"),
    "weights in 4 bits": Quantize("WeightOnly", bits=4),
    "weights in 4 bits, GPTQ": Quantize("GPTQ", bits=4, data="calibration"),
    "weights in 4 bits, GPTQ, tables in fp32": Quantize("GPTQ", bits=4, data="calibration", exclude=("Embeddings",)),
}
SHAPES = Shape(1, 32), Shape(1, 128)
CALIBRATION = 32


def made(step: Step, before: Path, folder: Path) -> Path:
    """What a step makes of a folder, found or done now."""
    rows = [Row(text) for text in sample(assets.reviews()[1::2], CALIBRATION)]
    context = steps.Context(TASK, 1, folder, lambda *_: None, lambda _: rows, folder / "checkpoint")
    out = folder / steps.key(step, scan(before).digest, TASK)[:16]
    if not out.exists():
        steps.run(step, before, out, context)
    return out


def row(name: str, base: Writer, best: Writer, texts: list[Row], sizes: tuple[int, int]) -> str:
    """A line of the table."""
    found, worth = compared(base, best, texts, "reviews", lambda _: None)
    readings = found["PerplexityRatio"]
    ratio, agreed = perplexity_ratio(readings, 0.95), agreement(readings, 0.95)  # type: ignore[arg-type]
    assert ratio and agreed
    tokens = measure(base, best, SHAPES, next_token=True)
    prompts = measure(base, best, SHAPES[1:])
    times = [
        f"{item['baselineP50Ms']:.1f} → {item['p50Ms']:.1f}" for item in (one.summary() for one in (*tokens, *prompts))
    ]
    cells = [
        f"{sizes[1] / 1e6:.1f}",
        f"{sizes[1] / sizes[0]:.2f}",
        f"{worth['perplexity']:.2f}",
        f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
        f"{100 * agreed.value:.1f}",
        *times,
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("names", nargs="*", default=list(WAYS))
    wanted = parser.parse_args()
    folder = CACHE / "bench-decoder"
    folder.mkdir(parents=True, exist_ok=True)
    source = assets.smollm2()
    graph = made(Step("graph", "Export"), source, folder)
    texts = [Row(text) for text in sample(assets.reviews()[::2], wanted.texts)]
    base = opened(graph, 1, Batching())
    for name in wanted.names:
        out = made(Step("small", "Quantize", quantize=WAYS[name]), graph, folder)
        best = opened(out, 1, Batching())
        assert isinstance(base, Writer) and isinstance(best, Writer)
        print(row(name, base, best, texts, (weight_bytes(source), weight_bytes(out))), flush=True)


if __name__ == "__main__":
    main()
