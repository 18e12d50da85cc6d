"""The progress page: a board that the pipeline writes and a thread serves at `/progress`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import msgspec

from optimodel.api import contract
from optimodel.api.contract import JobInput, Progress, StepProgress

State = Literal["Pending", "Running", "Done", "Cached", "Failed"]
Phase = Literal["Fetch", "Optimize", "Evaluate", "Publish", "Done"]
SEARCH = "Search"
"""The line of `optimization.auto`. Names of a user's steps have no capitals."""


def lines(job: JobInput) -> list[str]:
    """What a Job will do, as far as is known at its begin: what a search finds follows later, the Export with it."""
    names = [step.name for step in job.steps]
    done = names if job.auto is None else [*names[:-1], SEARCH]
    return ["Fetch", *done, "Evaluate", "Publish"]


class Board:
    """What a Job has done so far. Written by one thread, read by any."""

    def __init__(self, names: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._steps = {name: StepProgress(name, "Pending") for name in names}
        self._began: dict[str, float] = {}
        self._phase: Phase = "Fetch"

    def follow(self, names: Sequence[str]) -> None:
        """Put the steps that a search has found between it and what comes after."""
        with self._lock:
            order = list(self._steps)
            before, after = order[: order.index(SEARCH) + 1], order[order.index("Evaluate") :]
            known = self._steps
            self._steps = {name: known.get(name, StepProgress(name, "Pending")) for name in (*before, *names, *after)}

    def phase(self, phase: Phase) -> None:
        """Enter a phase."""
        self._phase = phase

    def start(self, name: str) -> None:
        """A step begins; its seconds count from here."""
        self._began[name] = time.monotonic()
        self._set(name, "Running")
        log(f"{name}: started")

    def percent(self, name: str, percent: int, message: str = "") -> None:
        """A running step moves."""
        self._set(name, "Running", percent=min(99, percent), message=message)

    def end(self, name: str, state: State, message: str = "", bytes: int = 0) -> None:
        """A step ends as `state`."""
        percent = self._steps[name].percent if state == "Failed" else 100
        self._set(name, state, percent=percent, message=message, bytes=bytes)
        log(f"{name}: {state}{f' ({message})' if message else ''} after {self._steps[name].seconds} s")

    def fail_running(self, message: str) -> None:
        """Whatever runs has failed."""
        for step in self.steps:
            if step.state == "Running":
                self.end(step.name, "Failed", message)

    @property
    def steps(self) -> tuple[StepProgress, ...]:
        with self._lock:
            return tuple(self._steps.values())

    def page(self) -> Progress:
        """The document that is served."""
        return Progress(self._phase, self.steps)

    def _set(self, name: str, state: State, **changes: Any) -> None:
        seconds = f"{time.monotonic() - self._began[name]:.1f}" if name in self._began else "0"
        with self._lock:
            self._steps[name] = msgspec.structs.replace(self._steps[name], state=state, seconds=seconds, **changes)


def serve(board: Board, port: int = contract.PROGRESS_PORT) -> ThreadingHTTPServer:
    """Serve the board from a daemon thread; the server returned knows its port and can be shut down."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != contract.PROGRESS_PATH:
                self.send_error(404)
                return
            body = msgspec.json.encode(board.page())
            with contextlib.suppress(ConnectionError):  # a reader that did not wait asks again
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Polls are not news."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="progress", daemon=True).start()
    return server


def log(text: str) -> None:
    """One line for people, on stdout."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
