"""Processes that start at once, and die when they are told to: one holds the libraries and forks the others.

`python -m tests.worker.forks` reads orders as lines of JSON and answers each with an exit status, negative for a signal. What
it forks is a process of its own in all but the import of torch, which takes seconds; it computes on one thread.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

INTERVAL = 5
"""Training steps between the checkpoints of a worker whose moments are counted."""


class Order(msgspec.Struct, frozen=True):
    """One process: a worker with this environment, or `proof` = what `steps.verify` is told. `log` is the file that takes
    its words.

    A moment is a word of progress, or the begin or end of a call to a store. With `after` they are counted, each word is in
    the log, and every checkpoint is carried to the store; SIGKILL strikes `late` seconds behind that moment (0 = never).
    """

    log: str
    environ: dict[str, str] = {}
    proof: tuple[str, ...] = ()
    after: int | None = None
    late: float = 0.0


class Server:
    """The process that forks. It begins with the first order, in the environment of now, and ends with the block."""

    def __init__(self) -> None:
        self._environ = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._environ["PYTHONPATH"] = os.pathsep.join(["operator", ".", os.environ.get("PYTHONPATH", "")])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def run(self, order: Order) -> int:
        """Run a process to its end; its exit status."""
        process = self._process = self._process or self._started()
        assert process.stdin and process.stdout
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def _started(self) -> subprocess.Popen[bytes]:
        command, pipe = [sys.executable, "-m", "tests.worker.forks"], subprocess.PIPE
        return subprocess.Popen(command, env=self._environ, stdin=pipe, stdout=pipe)


class Moments:
    """Counts what a worker does, and kills it at the moment that was drawn."""

    def __init__(self, order: Order) -> None:
        self.order, self.count = order, 0

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.order.after:
            threading.Timer(self.order.late, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call between two moments."""

        def counted(*args: Any, **options: Any) -> Any:
            self()
            try:
                return call(*args, **options)
            finally:
                self()

        return counted

    def words(self, percent: Callable[..., None]) -> Callable[..., None]:
        """`Board.percent`, which also tells the log."""

        def told(board: Any, name: str, share: int, message: str = "") -> None:
            percent(board, name, share, message)
            self()
            print(f"{name}: {message} (moment {self.count})", flush=True)

        return told


def verified(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
    """What `technique.verify` asks of a new process, from a fork of the worker."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _verify(command[3:], writing)
    os.close(writing)
    with open(reading) as answer:
        text = answer.read()
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text, text)


def _verify(proof: Sequence[str], out: int) -> None:
    """The forked process of a proof."""
    from optimodel.worker.steps import verify

    _speak(out)
    _leave(lambda: verify.main(*proof))


def _speak(out: int) -> None:
    """Let what is printed go to this file."""
    os.dup2(out, 1)
    os.dup2(out, 2)


def _leave(action: Callable[[], int | None]) -> None:
    """Do it and end the process."""
    status = 1
    try:
        status = action() or 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    os._exit(status)


def _work(order: Order, out: int) -> None:
    """The forked process of a worker."""
    from optimodel.worker import __main__ as worker
    from optimodel.worker.steps import technique

    _speak(out)
    os.environ.update(order.environ)
    technique.subprocess = SimpleNamespace(run=verified)
    if order.after is not None:
        _watch(Moments(order))
    _leave(worker.main)


def _watch(moments: Moments) -> None:
    """Count the moments of this process."""
    import obstore

    from optimodel.worker import board, checkpoints
    from optimodel.worker.training import loop

    for name in ("get", "put", "delete", "list"):
        setattr(obstore, name, moments.around(getattr(obstore, name)))
    board.Board.percent = moments.words(board.Board.percent)
    loop.train.__kwdefaults__["checkpoint_steps"] = INTERVAL
    checkpoints.SHARE = 0


def _load() -> None:
    """Import what a worker imports on its way, and trace something, which fills the tables of the tracer; no thread is started."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    logging.disable(logging.WARNING)
    import peft  # noqa: F401
    import torch
    import transformers.models.bert.modeling_bert  # noqa: F401
    from onnxruntime import quantization  # noqa: F401

    import optimodel.worker.evidence.evaluate
    import optimodel.worker.pipeline  # noqa: F401

    torch.onnx.export(torch.nn.Linear(2, 2).eval(), (torch.zeros(3, 2),), dynamo=True, verbose=False)
    logging.disable(logging.NOTSET)


def main() -> None:
    """Serve orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    _speak(2)  # what libraries print is no answer
    _load()
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if pid == 0:
            out = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            _verify(order.proof, out) if order.proof else _work(order, out)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
