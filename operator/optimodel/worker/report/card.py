"""The model card (Mitchell et al. 2019) in Markdown: what the model is, how it was made, how well it does, and its limits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from ..tasks import KINDS
from .document import Report
from .words import clean, comparison, flat, meaning, megabytes, number, others

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&@!]|(?<=www)\.|:(?=/)|^[-+])", re.IGNORECASE)
"""What begins markup, HTML, an entity, a mention, or a link that some renderers find by themselves."""


def plain(text: object) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))


def card(report: Report) -> str:
    """The card, with a YAML head that model hubs read."""
    return "\n".join((*_head(report), *_body(report), ""))


def _head(report: Report) -> Iterator[str]:
    """JSON strings are YAML strings."""
    yield "---"
    yield "library_name: onnx"
    names = [kind.pipeline for task, kind in KINDS.items() if report.job and task == report.job.task]
    yield from (f"pipeline_tag: {name}" for name in names)
    repo = (report.job.source if report.job else {}).get("huggingFace")
    if repo:
        yield f"base_model: {json.dumps(repo[0])}"
    yield "tags: [optimodel, onnx]"
    yield "---"


def _body(report: Report) -> Iterator[str]:
    job, artifact, result = report.job, report.result.artifact, report.result
    yield f"\n# {plain(job.model if job else 'model')}\n"
    yield f"{result.outcome}: {plain(f'{result.reason}. {result.message}')}\n"
    if job:
        yield f"- Object: {plain(job.namespace)} / {plain(job.model)}, revision {plain(job.revision)}"
        yield f"- Task: {plain(job.task)}"
    yield f"- Source: {plain(report.source)}"
    for name, digest, place in others(report):
        yield f"- Model {plain(name)}: {plain(digest)}, {_settings(place)}"
    if artifact:
        role = "Artifact" if result.outcome == "Succeeded" else "Result (not published)"
        yield f"- {role}: {plain(artifact.digest)}, {megabytes(artifact.bytes)}"
        for tensor in (*artifact.inputs, *artifact.outputs):
            yield f"- Tensor {plain(tensor.name)}: {plain(tensor.datatype)} {plain(list(tensor.dims))}"
    yield "\n## How it was made\n"
    rows = [(made.name, made.type, megabytes(made.weights_bytes), _settings(made.settings)) for made in report.lineage]
    yield from _table(("step", "type", "weights", "settings"), rows)
    if job:
        yield f"\nWith {', '.join(f'{plain(k)} {plain(v)}' for k, v in job.tools.items())}."
    yield "\n## How well it does\n"
    yield from _table(("", "before", "after", ""), comparison(report))
    yield from _evidence(report)
    yield from _limits(report)


def _settings(settings: dict[str, object]) -> str:
    return "; ".join(f"{name} {said}" for name, said in flat(settings)) or "defaults"


def _evidence(report: Report) -> Iterator[str]:
    gates = report.result.gates
    if not gates:
        return
    rows = [
        (
            g.name,
            meaning(g.metric) or g.metric,
            g.verdict,
            number(g.value),
            f"{number(g.low)} to {number(g.high)}",
            g.bound,
        )
        for g in gates
    ]
    yield ""
    yield from _table(("gate", "of", "verdict", "value", "interval", "bound"), rows)


def _limits(report: Report) -> Iterator[str]:
    """What follows from what was measured, and no more."""
    artifact, data = report.result.artifact, report.details.get("data", {})
    yield "\n## Limits\n"
    if report.result.outcome != "Succeeded":
        yield "- It did not pass its gates and is not served."
    places = ", ".join(f"{plain(name)} ({quality.get('samples', 0)} rows)" for name, quality in data.items())
    yield (
        f"- Quality was measured on {places}, and nowhere else." if data else "- Quality was not measured on any data."
    )
    if artifact and artifact.max_batch_size:
        yield f"- Answers depend on batch neighbours beyond a batch of {artifact.max_batch_size}, so it is served with that limit."
    yield "- What the source's own card says of its training data, bias and licence holds for this model too."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(plain(cell) for cell in row)} |"
