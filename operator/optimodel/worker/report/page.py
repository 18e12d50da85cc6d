"""The report as one HTML page that needs nothing else: no script, no picture, no font, no style from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optimodel.api.contract import GateResult

from . import plot, search
from .document import Report
from .markup import Markup, table, tag, together
from .words import UNKNOWN, comparison, flat, meaning, megabytes, number, others, seeds, short

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The browser itself refuses to fetch or run anything."""
MAX_CHANGES = 30
"""Rows of the table of changed answers."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24;
       background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #d0d7de; }
table { border-collapse: collapse; margin: .6rem 0; } th, td { text-align: left; vertical-align: top; padding: .25rem .8rem;
border-bottom: 1px solid #e5e9ee; } thead th { background: #f4f6f8; } tbody th { font-weight: 500; }
code, pre { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
.Pass, .Succeeded, .Done { color: #116329; } .Fail, .Failed { color: #a40e26; font-weight: 600; }
.Inconclusive { color: #7d4e00; font-weight: 600; } .note { color: #57606a; }
svg text { font: 12px system-ui, sans-serif; fill: #1b1f24; } .bar { fill: #b6cdea; } .value { fill: #10243e; }
.dot { fill: #b3541e; } .line { fill: none; stroke: #b3541e; stroke-width: 1.5; }
.reach { stroke: #57606a; stroke-width: 2; } .bound { stroke: #a40e26; stroke-width: 2; }
"""


def page(report: Report) -> str:
    """The page. Whatever a text of the report holds, it is shown and not obeyed."""
    name = report.job.model if report.job else "model"
    head = together(
        (
            Markup('<meta charset="utf-8">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", f"{name}: optimization report"),
            tag("style", Markup(STYLE)),
        )
    )
    body = (_title(report), *(section for section in _sections(report) if section))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{together(body)}</body></html>\n'


def _sections(report: Report) -> Iterator[Markup]:
    yield _section("Before and after", table(("", "before", "after", ""), comparison(report), id="comparison"))
    yield _gates(report.result.gates)
    yield _path(report)
    yield from (_section(heading, content) for heading, content in search.parts(report))
    yield _steps(report)
    yield _latency(report.details.get("latency", []))
    for name, quality in report.details.get("data", {}).items():
        yield _confusion(name, quality)
    yield _lineage(report)
    yield _made(report)
    yield _rest(report)


def _section(heading: str, *content: Markup) -> Markup:
    return tag("section", tag("h2", heading), *content)


def _title(report: Report) -> Markup:
    result, job = report.result, report.job
    words = f"{result.reason}. {result.message}".strip()
    lines = [tag("h1", f"{job.namespace}/{job.model}" if job else "Optimization report")]
    if job:
        about = f"Revision {job.revision}, evaluation {job.evaluation}, task {job.task}, measured {job.at}."
        lines.append(tag("p", about, class_="note"))
    lines.append(tag("p", tag("strong", result.outcome, class_=result.outcome), ": ", words))
    return tag("header", *lines)


def _gates(gates: Sequence[GateResult]) -> Markup:
    if not gates:
        return _section("Gates", tag("p", "None: nothing was demanded of the result."))
    rows = [
        (
            gate.name,
            together((gate.metric, " ", tag("span", meaning(gate.metric), class_="note"))),
            tag("span", gate.verdict, class_=gate.verdict),
            number(gate.value),
            f"[{number(gate.low)}, {number(gate.high)}]",
            number(gate.bound),
            plot.interval(gate.value, gate.low, gate.high, gate.bound),
            gate.samples or UNKNOWN,
            gate.message,
        )
        for gate in gates
    ]
    return _section(
        "Gates",
        table(("gate", "metric", "verdict", "value", "interval", "bound", "", "samples", ""), rows, id="gates"),
        tag("p", "A gate passes when its whole interval clears the bound.", class_="note"),
    )


def _path(report: Report) -> Markup:
    """Size by stage, quality where it was measured: of the baseline and of the result."""
    artifact, figures = report.result.artifact, report.result.figures
    if artifact is None or not report.lineage:
        return Markup("")
    name = "accuracy" if figures and figures.accuracy else "cosine to the baseline"
    before, after = UNKNOWN, UNKNOWN
    if figures and figures.accuracy:
        before, after = figures.baseline_accuracy, figures.accuracy
    elif figures and figures.cosine_mean:
        before, after = "1", figures.cosine_mean
    adapted = max((n for n, made in enumerate(report.lineage, 1) if made.type == "FineTune"), default=0)
    known = {adapted: before, len(report.lineage): after}
    sizes = [("source", artifact.source_weights_bytes), *((made.name, made.weights_bytes) for made in report.lineage)]
    points = [plot.Point(said, size, _float(known.get(place, ""))) for place, (said, size) in enumerate(sizes)]
    return _section("Size and quality by step", plot.path(points, name))


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _steps(report: Report) -> Markup:
    notes = report.details.get("steps", {})
    rows = [
        (
            step.name,
            tag("span", step.state, class_=step.state),
            step.seconds if step.state != "Cached" else UNKNOWN,
            megabytes(step.bytes) if step.bytes else UNKNOWN,
            step.message,
            _pairs(notes.get(step.name, {})),
        )
        for step in report.result.steps
    ]
    head = ("step", "state", "seconds", "weights", "", "figures")
    hint = tag("p", "Cached: an earlier Job made it, and it was found in the store.", class_="note")
    return _section("Steps", table(head, rows, id="steps"), hint)


def _pairs(value: Any) -> Markup:
    lines = [together((tag("span", name, class_="note"), " ", said)) for name, said in flat(value) if name]
    return Markup("<br>".join(lines))


def _latency(shapes: Sequence[Mapping[str, Any]]) -> Markup:
    if not shapes:
        return Markup("")
    rows = [
        (
            " × ".join(str(shape[key]) for key in ("batchSize", "sequenceLength") if key in shape),
            *(number(shape[key]) for key in ("baselineP50Ms", "p50Ms", "baselineP95Ms", "p95Ms", "speedup")),
            " to ".join(map(number, shape["speedupRange"])),
            shape["runs"],
        )
        for shape in shapes
    ]
    head = (
        "batch × tokens" if "sequenceLength" in shapes[0] else "batch",
        "baseline p50 ms",
        "p50 ms",
        "baseline p95 ms",
        "p95 ms",
        "speed-up",
        "blocks",
        "runs",
    )
    note = "The baseline is fp32 on ONNX Runtime with as many threads; both took turns in blocks."
    return _section("Latency", table(head, rows, id="latency"), tag("p", note, class_="note"))


def _confusion(name: str, quality: Mapping[str, Any]) -> Markup:
    """What became of the answers to labelled rows: by label, and which answers changed."""
    if not quality.get("confusion"):
        return Markup("")
    cells, labels = quality["confusion"]["cells"], quality["confusion"]["labels"]

    def said(index: int) -> str:
        return str(labels[index]) if index < len(labels) else f"label {index}"

    by_label = []
    for label in sorted({truth for truth, *_ in cells}):
        mine = [(before == label, after == label, rows) for truth, before, after, rows in cells if truth == label]
        total = sum(r for _, _, r in mine)
        was, now = sum(r for b, _, r in mine if b), sum(r for _, a, r in mine if a)
        lost, won = sum(r for b, a, r in mine if b and not a), sum(r for b, a, r in mine if a and not b)
        by_label.append((said(label), total, was, now, lost, won))
    changed = sorted((cell for cell in cells if cell[1] != cell[2]), key=lambda cell: (-cell[3], cell[:3]))
    shown = [(said(t), said(b), said(a), rows, _effect(t, b, a)) for t, b, a, rows in changed[:MAX_CHANGES]]
    left = sum(cell[3] for cell in changed[MAX_CHANGES:])
    return _section(
        f"Changed answers on {name}",
        table(("label", "answers", "right before", "right after", "lost", "won"), by_label, class_="labels"),
        table(("truth", "before", "after", "answers", ""), shown, class_="changes") if shown else tag("p", "None."),
        tag("p", f"{left} more answers changed in rarer ways.", class_="note") if left else Markup(""),
    )


def _effect(truth: int, before: int, after: int) -> str:
    return "lost" if before == truth else "won" if after == truth else "wrong both times"


def _lineage(report: Report) -> Markup:
    rows: list[tuple[str, str, Markup, Markup]] = []
    rows.append(("source", "", _code(report.source), _json(report.job.source if report.job else {})))
    rows += [(f"model {name}", "", _code(digest), _json(place)) for name, digest, place in others(report)]
    rows += [(made.name, made.type, _code(made.digest), _json(made.settings)) for made in report.lineage]
    if baseline := report.details.get("baseline"):
        rows.append(("baseline", "fp32 graph", _code(baseline), Markup("")))
    if report.result.artifact:
        role = "artifact" if report.result.outcome == "Succeeded" else "not published"
        rows.append((role, "", _code(report.result.artifact.digest), Markup("")))
    note = "Each step is made of what stands above it. Settings left out have their defaults."
    table_ = table(("", "type", "digest", "settings"), rows, id="lineage")
    return _section("Lineage", table_, tag("p", note, class_="note"))


def _code(text: str) -> Markup:
    return tag("code", text or UNKNOWN)


def _json(value: Any) -> Markup:
    return tag("code", json.dumps(value, ensure_ascii=False, sort_keys=True)) if value else Markup("")


def _made(report: Report) -> Markup:
    if report.job is None:
        return Markup("")
    rows = [*report.job.tools.items(), ("threads", str(report.job.threads))]
    data = [(name, _json(place)) for name, place in report.job.data.items()]
    return _section(
        "Versions, data and seeds",
        table(("tool", "version"), rows, id="versions"),
        table(("data", "place"), data, id="data") if data else Markup(""),
        table(("seed of", ""), seeds(report), id="seeds"),
        tag("p", "Seeds not named here are 0.", class_="note"),
    )


def _rest(report: Report) -> Markup:
    text = json.dumps(report.details, ensure_ascii=False, indent=1)
    inner = tag("details", tag("summary", f"all figures of {short(report.source)}"), tag("pre", text))
    return _section("Figures", inner)
