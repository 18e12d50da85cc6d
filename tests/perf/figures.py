"""Reading what processes and clients cost: /proc and the audit log."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

TICKS = os.sysconf("SC_CLK_TCK")


class _Object(msgspec.Struct):
    resource: str = ""
    subresource: str = ""
    name: str = ""


class _User(msgspec.Struct):
    username: str = ""


class _Line(msgspec.Struct, rename="camel"):
    verb: str
    user: _User
    object_ref: _Object = msgspec.field(default_factory=_Object)


@dataclass(frozen=True)
class Write:
    """One answered write: `what` is verb and resource, as in `patch optimizedmodels/status`; refused ones count too."""

    what: str
    name: str


class Audit:
    """The writes of one user since `mark`, Leases excluded."""

    def __init__(self, log: Path, user: str) -> None:
        self._log, self._user, self._offset = log, user, 0

    def mark(self) -> None:
        """Count from now on."""
        self._offset = self._log.stat().st_size

    def writes(self) -> list[Write]:
        """Every write since the mark."""
        with self._log.open("rb") as log:
            log.seek(self._offset)
            lines = log.read().split(b"\n")[:-1]
        name = self._user.encode()
        found = [msgspec.json.decode(line, type=_Line) for line in lines if name in line]
        return [
            _write(each) for each in found if each.user.username == self._user and each.object_ref.resource != "leases"
        ]


def _write(line: _Line) -> Write:
    at = line.object_ref
    return Write(f"{line.verb} {at.resource}{'/' + at.subresource if at.subresource else ''}", at.name)


def split(writes: Iterable[Write]) -> tuple[Counter[str], int]:
    """Counts by verb and resource, and apart from them the number of Events."""
    every = Counter(write.what for write in writes)
    events = sum(count for what, count in every.items() if what.endswith(" events"))
    return Counter({what: count for what, count in every.items() if not what.endswith(" events")}), events


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid: int) -> float:
    """Peak resident set of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def busy() -> float:
    """CPU seconds that the whole machine has spent so far."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS
