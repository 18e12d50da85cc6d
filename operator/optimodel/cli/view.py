"""An OptimizedModel as a person reads it. Pure: objects of the API server in, lines of text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Obj = Mapping[str, Any]


def condition(om: Obj, type: str) -> dict[str, Any]:
    """The condition of that type; empty if absent."""
    found = om.get("status", {}).get("conditions", [])
    return next((dict(c) for c in found if c["type"] == type), {})


def is_ready(om: Obj) -> bool:
    """Whether `Ready` is True for the object's own generation."""
    ready = condition(om, "Ready")
    return ready.get("status") == "True" and ready.get("observedGeneration") == om["metadata"]["generation"]


def is_stalled(om: Obj) -> bool:
    """Whether only a new spec or an action helps this generation."""
    stalled = condition(om, "Stalled")
    return stalled.get("status") == "True" and stalled.get("observedGeneration") == om["metadata"]["generation"]


def weights(om: Obj) -> dict[str, int]:
    """Percent of the traffic by revision hash, no zeros."""
    return {r["hash"]: r["weight"] for r in om.get("status", {}).get("revisions", []) if r.get("weight")}


def facts(om: Obj) -> Iterator[tuple[str, str]]:
    """(subject, state) pairs that a watcher prints when the state changes."""
    status = om.get("status", {})
    yield "phase", status.get("phase", "Pending")
    for step in status.get("steps", []):
        yield f"step {step['name']}", step["state"]
        if step["state"] == "Running" and step.get("percent"):
            yield f"percent {step['name']}", f"step {step['name']} {step['percent'] // 25 * 25} %"
    for gate in status.get("gates", []):
        value = f"{gate.get('value', '')} (bound {gate.get('bound', '')})"
        yield f"gate {gate['name']}", f"{gate['verdict']}: {gate['metric']} {value}"
    yield "weights", "weights " + (", ".join(f"{h} {w} %" for h, w in sorted(weights(om).items())) or "none")
    rollout = status.get("rollout")
    if rollout:
        step = f" step {rollout['stepName']}" if rollout.get("stepName") else ""
        yield "rollout", f"rollout {rollout['phase']}{step}: {rollout['candidate']} at {rollout.get('weight', 0)} %"
    failure = status.get("lastFailure")
    if failure:
        yield "failure", _failure(failure)
    for kind in ("Ready", "Stalled", "Degraded", "RolledBack", "BatchLimited"):
        found = condition(om, kind)
        if found:
            yield kind, f"{kind}={found['status']} {found['reason']} {found.get('message', '')}".rstrip()


def _failure(failure: Obj) -> str:
    return f"{failure['component']}: {failure['reason']}: {failure['message']}"


def changes(seen: dict[str, str], om: Obj) -> list[str]:
    """Lines for what is new since `seen`, which is brought up to date."""
    lines = []
    for subject, state in facts(om):
        if seen.get(subject) != state and not (subject == "weights" and state.endswith("none")):
            lines.append(f"{subject}: {state}" if subject.startswith(("phase", "step", "gate")) else state)
        seen[subject] = state
    return lines


def table(om: Obj) -> list[str]:
    """Before and after: the figures of this generation's revision. Empty while there are none."""
    status = om.get("status", {})
    f = status.get("figures")
    if not f:
        return []
    rows = [("weights", *_size(status.get("size", "")), f"ratio {f.get('sizeRatio', '?')}")]
    if f.get("cosineMean"):
        spread = f"mean {f['cosineMean']}, p5 {f.get('cosineP5')}, min {f.get('cosineMin')}"
        rows.append(("cosine to the original", "1", spread, f"{f.get('samples', 0)} sentences"))
    if f.get("accuracy"):
        rows.append(("accuracy", f.get("baselineAccuracy", "?"), f["accuracy"], f"{f.get('samples', 0)} sentences"))
    if f.get("perplexity"):
        rows.append(("perplexity", f.get("baselinePerplexity", "?"), f["perplexity"], f"{f.get('samples', 0)} texts"))
    if f.get("p50Ms"):
        rows.append(("p50, first shape", f"{f.get('baselineP50Ms')} ms", f"{f['p50Ms']} ms", _gain(f)))
    if f.get("batchInvariance"):
        rows.append(("batch invariance", "1", f["batchInvariance"], "cosine alone / in a batch"))
    return columns([("", "before", "after", ""), *rows])


def _gain(figures: Obj) -> str:
    """The speed-up and its range in words: a slow-down is told by how much slower. Empty where it was not measured."""
    try:
        factors = [float(figures[key]) for key in ("speedup", "speedupLow", "speedupHigh")]
        words = "as fast" if f"{factors[0]:.2f}" == "1.00" else "faster" if factors[0] > 1 else "slower"
        factor, *ends = (1 / x for x in factors) if words == "slower" else factors
    except (KeyError, ValueError, ZeroDivisionError):
        return ""
    told = words if words == "as fast" else f"{factor:.2f}x {words}"
    return f"{told} ({min(ends):.2f} to {max(ends):.2f})"


def _size(text: str) -> tuple[str, str]:
    before, _, after = text.partition("->")
    return before or "?", after or "?"


def _moved(step: Obj) -> str:
    """How far a running step is; how long one took that has ended. Its seconds are told when it ends."""
    if step["state"] == "Running":
        return f"{step.get('percent', 0)} %"
    return f"{step['seconds']} s" if "seconds" in step else ""


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows padded to columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def summary(om: Obj) -> list[str]:
    """The whole object, as `status NAME` shows it."""
    status, meta = om.get("status", {}), om["metadata"]
    lines = [f"{meta['namespace']}/{meta['name']}  {status.get('phase', 'Pending')}  generation {meta['generation']}"]
    lines += ["", *columns([("condition", "status", "reason", "message"), *_conditions(om)])]
    if status.get("lastFailure"):
        again = status.get("attempt", {}).get("retryAt")
        lines += [
            "",
            f"last failure: {_failure(status['lastFailure'])}" + (f" (next attempt {again})" if again else ""),
        ]
    if status.get("steps"):
        steps = [(s["name"], s["state"], _moved(s), s.get("message", "")) for s in status["steps"]]
        lines += ["", *columns([("step", "state", "time", ""), *steps])]
    if status.get("gates"):
        gates = [
            (g["name"], g["verdict"], g["metric"], f"{g.get('value', '')} against {g.get('bound', '')}")
            for g in status["gates"]
        ]
        lines += ["", *columns([("gate", "verdict", "metric", "value"), *gates])]
    if status.get("search"):
        lines += ["", f"search: {status['search']['reason']}"]
    if table(om):
        lines += ["", *table(om)]
    if status.get("revisions"):
        found = [
            (r["hash"], r["state"], f"{r.get('weight', 0)} %", str(r.get("readyReplicas", 0)))
            for r in status["revisions"]
        ]
        lines += ["", *columns([("revision", "state", "traffic", "ready"), *found])]
    rollout = status.get("rollout")
    if rollout:
        step = rollout.get("stepName") or "-"
        lines += ["", f"rollout: {rollout['phase']} (step {step}) {rollout.get('message', '')}".rstrip()]
    return lines


def _conditions(om: Obj) -> list[tuple[str, ...]]:
    found = om.get("status", {}).get("conditions", [])
    return [(c["type"], c["status"], c["reason"], c.get("message", "")) for c in found]
