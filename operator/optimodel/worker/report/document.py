"""The report as it lies in the store: what the page and the card say is in here, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from optimodel.api.contract import Result


class Made(msgspec.Struct, frozen=True, rename="camel"):
    """What a step made of the one before it. `settings` are those that are not defaults."""

    name: str
    type: str
    digest: str
    weights_bytes: int
    settings: dict[str, Any] = {}


class Job(msgspec.Struct, frozen=True, rename="camel"):
    """What was asked for, and by what it was made. No credentials, nor where they lie."""

    model: str
    namespace: str
    revision: str
    evaluation: str
    task: str
    source: dict[str, Any]
    data: dict[str, dict[str, Any]]
    tools: dict[str, str]
    threads: int
    at: str
    """UTC, ISO 8601."""
    models: dict[str, dict[str, Any]] = {}
    """Where the other models come from that steps read."""


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """The full report: the result, and every figure behind it. `source` is the source's digest, `details` what was measured,
    `lineage` has a line for each step, `judged_on` is the digest of the rows that the evidence was taken on."""

    version: int
    source: str
    result: Result
    details: dict[str, Any] = {}
    job: Job | None = None
    lineage: tuple[Made, ...] = ()
    judged_on: str = ""
