"""`python -m tests.perf.bench operator|floor|both N [--rounds R] [--idle SECONDS]`: the figures of docs/benchmarks.md.

Every leg has a fresh control plane. Legs of the operator and of the floor take turns, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.perf import figures, models
from tests.perf.cluster import FLOOR, OPERATOR, Bench, Client
from tests.perf.figures import Audit, cpu_seconds
from tests.perf.floor import DEPLOYMENTS, Floor, Script
from tests.perf.models import WARM, Seen
from tests.perf.subject import Operator, recorder

STATUS = "patch optimizedmodels/status"


@dataclass
class Leg:
    """Figures of one leg; seconds, MiB, and counts for an object."""

    kind: str
    objects: int
    deployments_s: float = 0.0
    ready_s: float = 0.0
    cpu_ms: float = 0.0
    peak_mib: float = 0.0
    control_cpu_s: float = 0.0
    others_cpu_share: float = 0.0
    writes: dict[str, float] = field(default_factory=dict)
    events: float = 0.0
    reconciles: float = 0.0
    restart: dict[str, float] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)


class Meter:
    """CPU seconds of a client, of the control plane and of everybody else on the machine, from its making on."""

    def __init__(self, bench: Bench, pid: int | None) -> None:
        self._bench, self._pid = bench, pid
        self._at = time.monotonic()
        self._begun = self._read()

    def _read(self) -> tuple[float, float, float]:
        client = cpu_seconds(self._pid) if self._pid else 0.0
        control = sum(cpu_seconds(pid) for process in self._bench.api.processes if (pid := process.pid))
        return client, control, figures.busy() - control - client - time.process_time()

    def read(self) -> tuple[float, float, float]:
        """CPU seconds of the client and the control plane, and the CPUs that others kept busy."""
        client, control, others = (now - then for now, then in zip(self._read(), self._begun, strict=True))
        return client, control, others / (time.monotonic() - self._at)


async def calm(bench: Bench, seconds: float = 60.0) -> None:
    """Return once the control plane rests: its first minute is spent on schemas."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        meter = Meter(bench, None)
        await asyncio.sleep(2.0)
        if meter.read()[1] < 0.3:
            return


async def quiet(audit: Audit, seconds: float = 4.0, limit: float = 120.0) -> None:
    """Return once the audited user has written nothing for `seconds`; TimeoutError after `limit`."""
    count, began = -1, time.monotonic()
    since = began
    while time.monotonic() - since < seconds:
        if time.monotonic() - began > limit:
            raise TimeoutError(f"still writing after {limit} s: {audit.writes()[-5:]}")
        now = len(audit.writes())
        if now != count:
            count, since = now, time.monotonic()
        await asyncio.sleep(0.5)


async def operator(count: int, restart: bool, idle: float, limit: float) -> Leg:
    """A burst of `count` objects on the operator; then, if asked, a restart with all of them settled, and idle seconds."""
    leg, names = Leg("operator", count), [models.name(n) for n in range(count)]
    async with Bench() as bench:
        subject = Operator(bench)
        await subject.start()
        try:
            await subject.leading()
            await models.ready(bench.people, [WARM], 120, models.create(bench.people, [WARM]))
            await calm(bench)
            await burst(leg, bench, subject, names, limit)
            if restart:
                await restarted(leg, bench, subject)
            if idle:
                await idling(leg, bench, subject, idle)
        finally:
            await subject.stop()
    return leg


async def burst(leg: Leg, bench: Bench, subject: Operator, names: list[str], limit: float) -> None:
    """Create all at once and wait until all are Ready and nothing is written any more."""
    audit = Audit(bench.control.audit_log, OPERATOR)
    audit.mark()
    before = await subject.reconciles()
    meter, began = Meter(bench, subject.pid), time.monotonic()
    up = asyncio.create_task(
        models.until(bench.people, DEPLOYMENTS, set(names), _is_up, key=lambda name: name[: len(WARM)])
    )
    await models.ready(bench.people, names, limit, models.create(bench.people, names))
    leg.ready_s = time.monotonic() - began
    _, leg.control_cpu_s, leg.others_cpu_share = meter.read()
    await up
    await quiet(audit)
    leg.cpu_ms = meter.read()[0] / leg.objects * 1000
    leg.peak_mib = figures.peak_mib(subject.pid)
    counts, events = figures.split(audit.writes())
    leg.writes = {what: round(n / leg.objects, 2) for what, n in sorted(counts.items())}
    leg.events = round(events / leg.objects, 2)
    leg.reconciles = (await subject.reconciles() - before) / leg.objects


def _is_up(seen: Seen) -> bool:
    return seen.status.ready_replicas >= 1


async def restarted(leg: Leg, bench: Bench, subject: Operator) -> None:
    """SIGTERM and a new process, until every object was looked at."""
    audit = Audit(bench.control.audit_log, OPERATOR)
    audit.mark()
    began = time.monotonic()
    await subject.stop()
    ended = time.monotonic() - began
    await subject.start()
    first, last = await subject.drained(began, leg.objects)
    counts, events = figures.split(audit.writes())
    leg.restart = {
        "exit_s": ended,
        "first_s": first,
        "last_s": last,
        "cpu_s": cpu_seconds(subject.pid),
        "peak_mib": figures.peak_mib(subject.pid),
        "writes": counts.total(),
        "events": events,
    }


async def idling(leg: Leg, bench: Bench, subject: Operator, seconds: float) -> None:
    """Nothing happens for `seconds`."""
    audit = Audit(bench.control.audit_log, OPERATOR)
    audit.mark()
    spent, looks = cpu_seconds(subject.pid), await subject.reconciles()
    await asyncio.sleep(seconds)
    counts, events = figures.split(audit.writes())
    looks = await subject.reconciles() - looks
    leg.idle = {"seconds": seconds, "writes": counts.total(), "events": events, "reconciles": looks}
    leg.idle["cpu_s"] = cpu_seconds(subject.pid) - spent


async def floor(count: int, status_patches: int, limit: float) -> Leg:
    """The same writes by a client with no logic; it learns them from an operator that makes one object Ready."""
    leg, names = Leg("floor", count), [models.name(n) for n in range(count)]
    async with Bench() as bench:
        recording = bench.api.folder / "recording"
        await record(bench, recording)
        script, client = Script(recording, status_patches), Client(bench.control, FLOOR)
        await calm(bench)
        audit = Audit(bench.control.audit_log, FLOOR)
        audit.mark()
        meter = Meter(bench, None)
        try:
            leg.ready_s = leg.deployments_s = await Floor(client, script).run(bench.people, names, limit)
        finally:
            await client.close()
        _, leg.control_cpu_s, leg.others_cpu_share = meter.read()
        counts, _ = figures.split(audit.writes())
        leg.writes = {what: round(n / count, 2) for what, n in sorted(counts.items())}
    return leg


async def record(bench: Bench, target: Path) -> None:
    """Let an operator make one object Ready, and note its writes."""
    teacher = Operator(bench, *recorder(target))
    await teacher.start()
    try:
        await teacher.leading()
        await models.ready(bench.people, [WARM], 120, models.create(bench.people, [WARM]))
        audit = Audit(bench.control.audit_log, OPERATOR)
        await quiet(audit)
    finally:
        await teacher.stop()


async def run(options: argparse.Namespace) -> list[Leg]:
    """All legs, in turns."""
    legs: list[Leg] = []
    patches = 99
    for turn in range(options.rounds):
        last = turn == options.rounds - 1
        if options.what != "floor":
            legs.append(await operator(options.count, options.restart and last, options.idle * last, options.limit))
            patches = round(legs[-1].writes.get(STATUS, patches))
            show(legs[-1])
        if options.what != "operator":
            legs.append(await floor(options.count, patches, options.limit))
            show(legs[-1])
    return legs


def show(leg: Leg) -> None:
    """Print one leg."""
    head = f"{leg.kind:8} N={leg.objects}: all Ready {leg.ready_s:.1f} s"
    per = f"{sum(leg.writes.values()):.2f} writes an object" + (f" + {leg.events:.2f} Events" if leg.events else "")
    rest = f"control plane {leg.control_cpu_s:.0f} CPU-s, others busy on {leg.others_cpu_share:.2f} CPUs"
    own = (
        f", {leg.cpu_ms:.1f} ms CPU an object, {leg.reconciles:.1f} reconciles, peak {leg.peak_mib:.0f} MiB"
        if leg.cpu_ms
        else ""
    )
    print(f"{head}{own}, {per}; {rest}", flush=True)
    print("    " + ", ".join(f"{what} {n:g}" for what, n in leg.writes.items()), flush=True)
    for name, found in (("restart", leg.restart), ("idle", leg.idle)):
        if found:
            print(f"    {name}: " + ", ".join(f"{what} {n:.4g}" for what, n in found.items()), flush=True)


def summary(legs: list[Leg]) -> None:
    """Print the ratio, median by median, with every single one."""
    ours = [leg.ready_s for leg in legs if leg.kind == "operator"]
    theirs = [leg.ready_s for leg in legs if leg.kind == "floor"]
    if ours and theirs:
        each = ", ".join(f"{a / b:.2f}" for a, b in zip(ours, theirs, strict=True))
        print(f"ratio operator / floor: {statistics.median(ours) / statistics.median(theirs):.2f} (each: {each})")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("operator", "floor", "both"))
    parser.add_argument("count", type=int, help="objects created at once")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--restart", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--idle", type=float, default=0.0, help="idle seconds to observe at the end")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds until all must be Ready")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    legs = asyncio.run(run(options))
    summary(legs)
    if options.json:
        found: list[dict[str, Any]] = [asdict(leg) for leg in legs]
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
