"""What a search tried, as parts of the page: the candidates, the Pareto list among them, the final, and what each part of the model
suffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from . import plot
from .document import Report
from .markup import Markup, table, tag, together
from .words import UNKNOWN, megabytes, number

_FATES = {
    "Failed": "could not be made",
    "Screened": "out on few texts",
    "Timed": "out by the clock",
    "Judged": "misses the floor",
}


def parts(report: Report) -> Iterator[tuple[str, Markup]]:
    """Headings and what stands under them; nothing for a report without a search."""
    found, result = report.details.get("search"), report.result.search
    if not found or result is None:
        return
    best = set(found["front"])
    numbered = list(enumerate(found["trials"], 1))
    words = (
        f"Objective {result.objective}, {result.trials} candidates in {number(found['seconds'])} s, compared on {found['rows']} "
        f"rows of {found['validation']}, which neither steps nor gates read. Seed {found['seed']}. Values and latencies (p50 at "
        "the first shape) are shares of the baseline's."
    )
    head = ("", "candidate", "", "weights", "value", "latency", "quality", "on few texts", "")
    marks = [mark for count, trial in numbered if (mark := _mark(count, trial, best))]
    note = "Pareto: no other that holds the floor is as good in everything and better in something."
    yield (
        "Search",
        together(
            (
                tag("p", result.reason),
                tag("p", words, class_="note"),
                plot.plane(marks, "latency", "quality") if marks else Markup(""),
                table(head, (_row(count, trial, best, result.winner) for count, trial in numbered), id="search"),
                tag("p", note, class_="note"),
            )
        ),
    )
    if found.get("final"):
        yield "Final", _final(**found["final"])
    for method in found["sensitivity"]:
        ordered = sorted(((part["name"], part["drop"]) for part in method["parts"]), key=lambda part: -part[1])
        said = "1 − mean cosine of the answers when this part alone is quantized."
        yield f"Sensitivity to {method['method']}", together((plot.bars(ordered), tag("p", said, class_="note")))


def _final(candidates: Sequence[str], values: Sequence[Sequence[float]], **_: Any) -> Markup:
    """Whom single trials could not tell apart, and what each took in the rounds."""
    words = (
        f"Candidates whose trials left open which is the best, timed in turn with the baseline in {len(values[0])} rounds. For the "
        "choice and for the Pareto list these values count, not those of the trials."
    )
    rows = ((name, *map(number, (median(v), min(v), max(v)))) for name, v in zip(candidates, values, strict=True))
    found = table(("candidate", "value", "smallest", "largest"), rows, id="final")
    return together((tag("p", words, class_="note"), found))


def _row(count: int, trial: Mapping[str, Any], best: set[str], winner: str) -> tuple[Any, ...]:
    name = trial["candidate"]
    fate = "winner" if name == winner else "Pareto" if name in best else "holds the floor" if _held(trial) else ""
    missed = ", ".join(f"{gate['name']} {gate['verdict']}" for gate in trial["gates"] if gate["verdict"] != "Pass")
    return (
        count,
        name,
        fate or _FATES[trial["stage"]],
        megabytes(trial["weightsBytes"]) if trial["weightsBytes"] else UNKNOWN,
        *(number(trial[figure]) for figure in ("value", "latency", "quality", "screen")),
        trial["message"] or missed,
    )


def _held(trial: Mapping[str, Any]) -> bool:
    return trial["stage"] == "Judged" and all(gate["verdict"] == "Pass" for gate in trial["gates"])


def _mark(count: int, trial: Mapping[str, Any], best: set[str]) -> plot.Mark | None:
    """On the plane by latency and quality, of few texts where not all were asked."""
    quality = trial["quality"] if trial["quality"] is not None else trial["screen"]
    if trial["latency"] is None or quality is None:
        return None
    kind = "dot" if trial["candidate"] in best else "bar"
    return plot.Mark(str(count), trial["candidate"], trial["latency"], quality, kind)
