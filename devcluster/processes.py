"""Background processes with pid files: each in a session of its own, stopped only while the pid is still theirs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def start_time(pid: int) -> str | None:
    """Return the kernel's start time of a process in clock ticks since boot, or None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


class Process:
    """A daemon known by its pid file, which holds pid and start time: a reused pid is never taken for ours."""

    def __init__(self, name: str, folder: Path, logs: Path) -> None:
        self.name = name
        self.file = folder / f"{name}.pid"
        self.log = logs / f"{name}.log"

    @property
    def pid(self) -> int | None:
        """The pid while the process that was started still runs, else None."""
        try:
            pid, started = self.file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if start_time(int(pid)) == started else None

    def start(self, command: list[str], env: dict[str, str] | None = None) -> None:
        """Start the command unless it runs already; its output is appended to the log."""
        if self.pid:
            return
        for folder in (self.file.parent, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, **(env or {})},
            )
        self.file.write_text(f"{child.pid} {start_time(child.pid)}\n")
        CHILDREN[child.pid] = child

    def stop(self, grace: float = 10.0, sign: signal.Signals = signal.SIGTERM) -> None:
        """Send ``sign``, wait up to ``grace`` seconds, then SIGKILL; remove the pid file."""
        pid = self.pid
        if pid:
            signal_quietly(pid, sign)
            if not wait_until(lambda: reap(pid) or not self.pid, grace, 0.02):
                signal_quietly(pid, signal.SIGKILL)
                wait_until(lambda: reap(pid) or not self.pid, 5, 0.02)
        self.file.unlink(missing_ok=True)

    def tail(self, lines: int = 15) -> str:
        """Return the end of the log, for error messages."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"


CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def reap(pid: int) -> bool:
    """Collect a child of this very process; return True once it has ended."""
    child = CHILDREN.get(pid)
    if child is None or child.poll() is None:
        return False
    del CHILDREN[pid]
    return True


def signal_quietly(pid: int, sign: signal.Signals) -> None:
    """Send a signal; a process that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def wait_until(done: Callable[[], object], seconds: float, every: float = 0.1) -> bool:
    """Call ``done`` until it is true or the time is over; return whether it became true."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def all_processes() -> Iterator[tuple[int, int, list[str]]]:
    """Yield (pid, parent pid, command line) of every process."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(entry.name), parent, command


def descendants(roots: set[int]) -> set[int]:
    """Return the pids below the given ones, the given ones included."""
    family, found = {pid: parent for pid, parent, _ in all_processes()}, set(roots)
    while True:
        more = {pid for pid, parent in family.items() if parent in found} - found
        if not more:
            return found
        found |= more
