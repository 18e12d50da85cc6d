"""`make bench-tools`: the worker against optimum-onnx and Olive, on the same weights, by one harness (docs/benchmarks.md).

Whatever was built, asked or timed is kept in the work folder: a run that was stopped goes on, and `--passes 0` only prints.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from devcluster import sites
from devcluster.paths import CACHE
from tests import assets
from tests.perf import compressions, optimize, tools_build, tools_report
from tests.perf.tools_arms import PLAIN, TASKS, Arm, Subject, arms
from tests.perf.tools_build import Built
from tests.perf.tools_clock import Block
from tests.perf.tools_report import Row

from optimodel.api.spec import Batching
from optimodel.worker.evidence import evaluate
from optimodel.worker.inference.answers import Answerer, cosines


class Quality(msgspec.Struct, frozen=True):
    """Answers to the questions of the test part, each in a batch of its own, and how much neighbours change them."""

    answers: tuple[tuple[float, ...], ...]
    invariance: float


def prepare(work: Path, subject: Subject) -> Path:
    """The folder with model and rows that every arm of the subject begins with."""
    place = work / subject / "sources"
    if not (place / "questions.jsonl").exists():
        place.mkdir(parents=True, exist_ok=True)
        optimize.write_questions(work)
        shop = optimize.Workshop(work, 1, "test")
        tuned = shop.make(compressions.recipes(0)[compressions.BASELINE][:1])
        (place / "model").unlink(missing_ok=True)
        (place / "model").symlink_to(tuned if subject == "classifier" else assets.minilm())
        labels = sorted({label for label, _ in assets.trec()})
        for part in ("train", "validation"):
            rows = [{"text": r.text, "label": labels.index(str(r.label))} for r in shop.rows(f"questions/{part}")]
            (place / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (place / "questions.jsonl").symlink_to(work / "questions" / "rows.jsonl")
    return place


def adopt(graph: Path, like: Path, out: Path) -> Path:
    """A tool's graph as an artifact of ours: with the tokenizer and the description of `like`, and without what other outputs than
    the described one take."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    out.mkdir(exist_ok=True)
    wanted = json.loads((like / "model.json").read_text())["output"]
    names = [value.name for value in onnx.load(graph, load_external_data=False).graph.output]
    model = OnnxModel(onnx.load(graph))
    model.prune_graph([wanted if wanted in names else names[0]])
    onnx.save(model.model, out / "model.onnx")
    for name in ("tokenizer.json", "model.json"):
        (out / name).write_bytes((like / name).read_bytes())
    return out


def ask(artifact: Path, texts: Sequence[str]) -> Quality:
    """Every text alone; kept beside the artifact."""
    kept = artifact / "quality.json"
    if not kept.exists():
        answerer = Answerer(artifact, 1, Batching())
        answers = tuple(tuple(map(float, answerer.alone(text))) for text in texts)
        kept.write_bytes(msgspec.json.encode(Quality(answers, evaluate.batch_invariance(answerer))))
    return msgspec.json.decode(kept.read_bytes(), type=Quality)


def time_once(artifact: Path) -> list[Block]:
    """One pass in a process of its own; kept beside the artifact."""
    command = [sites.interpreter(), "-m", "tests.perf.tools_clock", str(artifact / "model.onnx")]
    found = subprocess.run(command, env=tools_build.environment("worker"), stdout=subprocess.PIPE, check=True).stdout
    with (artifact / "clock.jsonl").open("ab") as log:
        log.write(found)
    return [msgspec.json.decode(line, type=Block) for line in found.splitlines()]


def timed(artifact: Path) -> list[Block]:
    """Every block of earlier passes."""
    kept = artifact / "clock.jsonl"
    return [msgspec.json.decode(line, type=Block) for line in kept.read_bytes().splitlines()] if kept.exists() else []


def make(work: Path, subject: Subject, budget: float, only: Sequence[str]) -> list[tuple[Arm, Built, Path]]:
    """Build every arm, one after the other, and adopt what came of it."""
    sources, found = prepare(work, subject), []
    wanted = [arm for arm in arms(subject) if not only or arm.name in (PLAIN, *only)]
    like = _place(work, subject, PLAIN) / "out"
    for arm in wanted:
        place = _place(work, subject, arm.name)
        built = tools_build.build(arm, sources, place, budget)
        print(f"{subject}: {arm.name}: {built.failure or f'{built.megabytes:.1f} MB'}", flush=True)
        if not built.failure and not (place / "artifact" / "model.onnx").exists():
            adopt(place / arm.graph, like, place / "artifact")
        found.append((arm, built, place / "artifact"))
    return found


def _place(work: Path, subject: Subject, name: str) -> Path:
    return work / subject / name.replace(" ", "-").replace(",", "")


def compare(
    work: Path, subject: Subject, passes: int, budget: float, only: Sequence[str]
) -> tuple[list[Row], list[Row]]:
    """Build, ask, and time in turn: what works, and what failed."""
    made = make(work, subject, budget, only)
    good = [(arm, built, artifact) for arm, built, artifact in made if not built.failure]
    rows = optimize.Workshop(work, 1, "test").rows("questions/test")
    labels = sorted({str(row.label) for row in rows})
    truth = [labels.index(str(row.label)) for row in rows] if subject == "classifier" else []
    answers = {arm.name: ask(artifact, [row.text for row in rows]) for arm, _, artifact in good}
    for number in range(passes):
        first = number % len(good)
        for arm, _, artifact in good[first:] + good[:first]:
            time_once(artifact)
            print(f"pass {number + 1} of {passes}: {arm.name}", flush=True)
    told = [
        Row(arm, built, *_judged(answers[PLAIN], answers[arm.name], truth), tuple(timed(artifact)))
        for arm, built, artifact in good
    ]
    return told, [Row(arm, built) for arm, built, _ in made if built.failure]


def main() -> None:
    """Compare on each subject, and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a build's processes end with this one
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=CACHE / "bench-tools")
    parser.add_argument("--subjects", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--only", nargs="*", default=[], help="variants besides the plain one")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds of a build")
    parser.add_argument("--passes", type=int, default=4, help="over all variants, each in a process of its own")
    parser.add_argument("--foreign", type=float, default=0.05, help="blocks with more CPU of others are dropped")
    asked = parser.parse_args()
    found = {
        subject: compare(asked.work, subject, asked.passes, asked.budget, asked.only) for subject in asked.subjects
    }
    for subject, (told, failed) in found.items():
        tools_report.print_all(subject, told, failed, asked.foreign)
    tools_report.print_machine()


def _judged(
    plain: Quality, found: Quality, truth: Sequence[int]
) -> tuple[tuple[float, float, float], float | None, float]:
    """Cosines to the plain graph's answers (mean, p5, smallest), accuracy, and batch invariance."""
    before, after = np.array(plain.answers), np.array(found.answers)
    near = cosines(before, after)
    right = float((after.argmax(1) == np.array(truth)).mean()) if truth else None
    return (float(near.mean()), float(np.quantile(near, 0.05)), float(near.min())), right, found.invariance


if __name__ == "__main__":
    main()
