"""Numbers and nested values as words, alike on the page and on the card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .document import Report

UNKNOWN = "–"

MEANINGS = {
    "CosineMean": "mean cosine to the baseline's answers",
    "CosineP5": "cosine that 95 % of the answers exceed",
    "CosineMin": "smallest cosine",
    "Accuracy": "share of right answers",
    "MacroF1": "F1, averaged over labels",
    "Perplexity": "how many tokens the next one is as hard to guess among",
    "PerplexityRatio": "perplexity over the baseline's",
    "NextTokenAgreement": "share of tokens after which both expect the same next one",
    "SizeRatio": "weight bytes over the source's",
    "LatencyP50Ratio": "median latency over the baseline's",
    "LatencyP95Ms": "95th percentile of latency in ms",
    "BatchInvariance": "smallest cosine between an answer alone and the same answer in a batch",
}
"""What a metric says."""


def meaning(metric: str) -> str:
    """What a gate's metric says; nothing for one that is not known."""
    base = metric.removesuffix("Drop")
    words = MEANINGS.get(base, "")
    return f"{words}: the baseline's minus the result's, on the same rows" if words and base != metric else words


_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Controls, lone surrogates, and marks that turn the reading direction of what follows."""


def clean(text: object) -> str:
    """The text with U+FFFD for what no page may hold or what would mislead its reader."""
    return _UNSHOWN.sub("\ufffd", str(text))


def megabytes(count: int) -> str:
    """Bytes in MB (10⁶) with two places, small ones in kB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.2f} kB"


def number(value: Any) -> str:
    """A number with at most 5 significant decimals; other values as they are, nothing as a dash."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    return str(value)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """A nested value as (path, words) pairs, such as ("after.accuracy", "0.91")."""
    if isinstance(value, Mapping) and (value or not path):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        yield path, ", ".join(number(x) if not isinstance(x, (list, dict)) else str(x) for x in value) or UNKNOWN
    else:
        yield path, number(value)


def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest.removeprefix("sha256:")[:12] or UNKNOWN


def comparison(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """(What, before, after, remark): before = the source's size and the baseline's answers."""
    artifact, figures = report.result.artifact, report.result.figures
    if artifact is not None:
        ratio = artifact.weights_bytes / max(1, artifact.source_weights_bytes)
        before, after = megabytes(artifact.source_weights_bytes), megabytes(artifact.weights_bytes)
        yield "Weights", before, after, f"{100 * (1 - ratio):.1f} % smaller; {megabytes(artifact.bytes)} with all files"
    if figures is None:
        return
    rows = f"{figures.samples} rows"
    if figures.accuracy:
        yield "Accuracy", number(figures.baseline_accuracy), figures.accuracy, rows
    for quality in list(report.details.get("data", {}).values())[:1]:
        if "macroF1" in quality:
            yield "Macro F1", number(quality.get("baselineMacroF1")), number(quality["macroF1"]), rows
    if figures.perplexity:
        yield "Perplexity", figures.baseline_perplexity, figures.perplexity, rows
    if figures.cosine_mean:
        spread = f"5 % lie below {figures.cosine_p5}, the smallest is {figures.cosine_min}; {rows}"
        yield "Cosine to the baseline", "1", figures.cosine_mean, spread
    if figures.p50_ms:
        speed = f"{figures.speedup} times as fast, blocks from {figures.speedup_low} to {figures.speedup_high}"
        yield "Median latency", f"{figures.baseline_p50_ms} ms", f"{figures.p50_ms} ms", f"{speed}; first shape"
    elif missing := report.details.get("latencyMissing"):
        yield "Median latency", UNKNOWN, UNKNOWN, f"not measured: {missing}"
    if figures.batch_invariance:
        limit = artifact.max_batch_size if artifact else 0
        batch = f"served one by one (maxBatchSize {limit})" if limit else "answers do not depend on batch neighbours"
        yield "Batch invariance", UNKNOWN, figures.batch_invariance, batch


def others(report: Report) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(Name, digest, place) of each other model that steps read."""
    places = report.job.models if report.job else {}
    digests = report.result.artifact.models if report.result.artifact else {}
    yield from ((name, digest, places.get(name, {})) for name, digest in digests.items())


def seeds(report: Report) -> Iterator[tuple[str, str]]:
    """Every seed that was chosen: of steps and splits. Those not named are 0."""
    for made in report.lineage:
        for path, value in flat(made.settings):
            if path.rpartition(".")[2] == "seed":
                yield f"step {made.name}: {path}", value
    for name, place in (report.job.data if report.job else {}).items():
        if "split" in place:
            yield f"data {name}: split", number(place["split"].get("seed", 0))
