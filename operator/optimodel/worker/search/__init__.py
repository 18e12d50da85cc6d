"""`optimization.auto` in the Job: trial after trial, each remembered in the store, until the tree or the budget is at its end.

What to try and who wins is decided in `recipes.search`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec

from optimodel.api.durations import seconds
from optimodel.api.search import SearchResult
from optimodel.api.spec import Target
from optimodel.api.steps import Step
from optimodel.artifacts import Store
from optimodel.recipes import identity, search
from optimodel.recipes.search import Candidate, Choice, Final, Finding, Observation, Ranking, Sensitivity, Timing

from .. import steps as techniques
from ..board import log
from ..versions import version
from .bench import Bench, Told

REVISION = 6
"""Raise it when the same trials would be measured otherwise, or the tree grows otherwise: older findings are then not used."""
TOOLS = ("onnxruntime", "tokenizers", "numpy")
"""What measures."""


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """What the store keeps of a search, in the order of its trials."""

    findings: tuple[Observation | Sensitivity | Timing, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """Where the store keeps the record of a revision's search."""

    path: str


@dataclass(frozen=True)
class Outcome:
    """What a search ends with: all steps to be run, the result for status, and for the report every trial. `worked` = something
    was measured; else all was known."""

    steps: tuple[Step, ...]
    result: SearchResult
    details: dict[str, Any]
    worked: bool


class Search:
    """One search. `origin` is the digest of what the Export reads, `data_digest` that of the rows of the search; both name it."""

    def __init__(self, bench: Bench, store: Store, origin: str, data_digest: str, report: Told) -> None:
        self.bench, self.auto, self.store, self._report = bench, bench.auto, store, report
        job = bench.job
        self._place = self._standing(origin, data_digest)
        self.space = search.Space(self.auto, job.task, job.steps, job.data, Target(shapes=job.shapes))
        self.budget = search.Budget(self.auto.trials, seconds(self.auto.timeout))
        self.findings: list[Finding] = list((store.read(self._place, Record) or Record()).findings)

    def _standing(self, origin: str, data_digest: str) -> str:
        """Where the findings are: where the revision's first Job put them, whatever versions the images of later ones hold; other
        revisions share what the same versions found."""
        of_revision = f"searches/{self._key(origin, data_digest, self.bench.job.revision)}.place"
        standing = self.store.read(of_revision, Place)
        if standing is None:
            standing = Place(f"searches/{self._key(origin, data_digest, '')}.json")
            self.store.write(of_revision, standing)
        return standing.path

    def _key(self, origin: str, data_digest: str, made_for: str) -> str:
        """Names a search by all that its findings depend on, but for the machine; or, `made_for` a revision of a model, by that in the
        place of the tools' versions."""
        job = self.bench.job
        form: dict[str, Any] = {
            "revision": REVISION,
            "origin": origin,
            "data": data_digest,
            "export": identity.canonical_step(job.steps[-1]),
            "search": identity.canonical_search(self.auto, job.gates, job.shapes),
            "task": job.task,
            "batching": identity.canonical(job.batching),
            "techniques": {name: technique.revision for name, technique in techniques.REGISTRY.items()},
            **({"madeFor": made_for} if made_for else {"tools": {name: version(name) for name in TOOLS}}),
        }
        return identity.digest(form, 64)

    def run(self) -> Outcome:
        """Go on where an earlier Job was stopped. Raises `Failure` and `StoreError`."""
        known = len(self.findings)
        if known:
            log(f"Search: {len(self._observed())} trials are known")
        while trial := search.next_measurement(self.space, self.findings, self.budget):
            said = _said(trial)
            self._tell(0, said)
            began = time.monotonic()
            found = self._measured(trial)
            self.findings.append(msgspec.structs.replace(found, seconds=round(time.monotonic() - began, 3)))
            self.store.write(self._place, Record(tuple(self.findings)))
            log(f"Search: {said}: {_words(found)}")
        return self._outcome(worked=len(self.findings) > known)

    def _measured(self, trial: Candidate | Ranking | Final) -> Finding:
        if isinstance(trial, Final):
            return self.bench.final(trial.candidates, self._tell)
        if isinstance(trial, Ranking):
            return self.bench.rank(trial.candidate, self._tell)
        return self.bench.observe(trial, self.findings, self._tell)

    def _tell(self, _: int, word: str) -> None:
        self._report(100 * len(self._observed()) // self.auto.trials, word)

    def _observed(self) -> list[Observation]:
        return [found for found in self.findings if isinstance(found, Observation)]

    def _outcome(self, *, worked: bool) -> Outcome:
        choice, tried = search.choose(self.findings, self.auto.objective), self._observed()
        settled = search.settled(self.findings, self.auto.objective)
        details = {
            "validation": self.auto.validation,
            "rows": len(self.bench.rows),
            "seed": self.auto.seed,
            "seconds": round(sum(found.seconds for found in self.findings), 1),
            "front": [found.candidate for found in search.front(settled)],
            "trials": [msgspec.to_builtins(found) for found in tried],
            "final": msgspec.to_builtins(search.final(self.findings)),
            "sensitivity": [msgspec.to_builtins(found) for found in self.findings if isinstance(found, Sensitivity)],
        }
        winner = choice.winner.candidate if choice.winner else ""
        good = sum(map(search.feasible, tried))
        more = search.next_trial(self.space, self.findings, search.ENDLESS) is not None
        reason = choice.reason + (" The budget ended the search." if more else "")
        result = SearchResult(self.auto.objective, reason, winner, len(tried), good)
        return Outcome(self._steps(choice), result, details, worked)

    def _steps(self, choice: Choice) -> tuple[Step, ...]:
        """All steps of the winner; without one those of the baseline: what adapts the model, and the Export."""
        fixed: Sequence[Step] = self.bench.job.steps
        if choice.winner is None:
            return tuple(step for step in fixed if step.type in ("FineTune", "Export"))
        return search.named(self.space, self.findings, choice.winner.candidate).steps(fixed)


def _said(trial: Candidate | Ranking | Final) -> str:
    if isinstance(trial, Final):
        return f"the best {len(trial.candidates)} in turn"
    return f"sensitivity to {trial.candidate.method}" if isinstance(trial, Ranking) else trial.name


def _words(found: Finding) -> str:
    if isinstance(found, Timing):
        shares = (f"{name} {median(values):.3f}" for name, values in zip(found.candidates, found.values, strict=True))
        return f"{', '.join(shares)} of the baseline's"
    if isinstance(found, Sensitivity):
        return f"most in {', '.join(found.ranked[:3])}"
    if found.stage == "Failed":
        return found.message
    missed = ", ".join(f"{v.name} {v.verdict}" for v in found.gates if v.verdict != "Pass")
    value = "" if found.value is None else f"{found.value:.3f} of the baseline's, "
    return f"{found.stage}, {value}{found.weights_bytes} bytes{f', {missed}' if missed else ''}"


__all__ = ["Bench", "Outcome", "Search"]
