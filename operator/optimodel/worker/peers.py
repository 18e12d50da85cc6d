"""The processes of one Job that train together (torch.distributed over gloo).

The first runs the Job. The others wait until it calls them to a step, and run that step beside it on the same input; all hold the
same weights after every optimizer step, and the first saves them. Its store of keys is where all meet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from io import BufferedWriter, RawIOBase
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec

from optimodel.api import contract
from optimodel.api.steps import Step

from .board import log
from .errors import Failure

PATIENCE = timedelta(minutes=30)
"""A process that does not appear, or says nothing, for so long counts as lost: another may be fetching a large model."""
FAREWELL_S = 10
CHUNK = 4 << 20
"""Bytes of a file that travel at once."""
_END = "end"


class Call(msgspec.Struct, frozen=True):
    """What the first process asks of the others: run a step, which a search may have made up, on an input, which is the source itself
    or a stored artifact, with other models of these digests."""

    step: Step
    input: str
    is_source: bool
    models: dict[str, str] = {}


class Peers:
    """The processes of a Job from within one of them. Of a single one, everything here does nothing. `sharded` = each holds a part
    of what they train."""

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None, *, sharded: bool = False) -> None:
        self.rank, self.size, self.sharded = rank, size, sharded
        self._store, self._calls = store, 0

    # The conversation

    def call(self, call: Call) -> None:
        """From the first: have all the others run a step. Returns once they are there. Raises `Failure`."""
        if self.size > 1:
            self._tell(msgspec.json.encode(call).decode())
            self._gather()

    def calls(self) -> Iterator[Call]:
        """To the others: one step after another, until the first has no more. Raises `Failure`."""
        while True:
            with self.watching():
                self._store.wait([f"call-{self._calls}"], timedelta(days=7))
                said = self._store.get(f"call-{self._calls}").decode()
            self._calls += 1
            if said == _END:
                self._store.add("gone", 1)
                return
            self._gather()
            yield msgspec.json.decode(said, type=Call)

    def end(self) -> None:
        """From the first: there are no more steps. Waits a little for those that listen."""
        if self.size == 1:
            return
        self._tell(_END)
        deadline = time.monotonic() + FAREWELL_S
        while self._store.add("gone", 0) < self.size - 1 and time.monotonic() < deadline:
            time.sleep(0.05)

    def _tell(self, text: str) -> None:
        self._store.set(f"call-{self._calls}", text)
        self._calls += 1

    def _gather(self) -> None:
        import torch
        import torch.distributed as dist

        if dist.is_initialized():
            return
        log(f"process {self.rank} of {self.size} waits for the others")
        with self.watching():
            self._store.set_timeout(PATIENCE)
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.size, timeout=PATIENCE)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around what the processes do together: that another is gone becomes a `Failure`. Its own end tells why."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_network(error):
                raise
            raise Failure("PeerLost", _LOST, world=True) from error

    # The work

    def seed(self, seed: int) -> int:
        """A seed for what should differ between processes; the first keeps the one given."""
        return seed + 1_000_003 * self.rank

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        if self.size == 1:
            return value
        import torch

        total = torch.tensor([value], dtype=torch.float64)
        torch.distributed.all_reduce(total)
        return float(total) / self.size

    def first(self, data: bytes) -> bytes:
        """What the first process has. Plain bytes: an object would come as a pickle, which can run code."""
        if self.size == 1:
            return data
        import torch

        length = torch.tensor([len(data)])
        torch.distributed.broadcast(length, 0)
        found = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.rank == 0 and data else None
        found = torch.empty(int(length), dtype=torch.uint8) if found is None else found
        torch.distributed.broadcast(found, 0)
        return bytes(found.numpy())

    def share(self, path: Path) -> None:
        """Give the others the file of the first process, if it has one."""
        if self.size == 1 or not self.first(b"file" if path.exists() else b""):
            return
        if self.rank:
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb" if self.rank else "rb") as file:
            while data := self.first(b"" if self.rank else file.read(CHUNK)):
                if self.rank:
                    file.write(data)

    @contextmanager
    def outlet(self) -> Iterator[BinaryIO]:
        """What the block writes into the stream is what the first process reads from this one's `inlet`."""
        with BufferedWriter(_Outlet(), CHUNK) as stream:
            yield stream
        _send(bytearray())

    def inlet(self, rank: int, stream: IO[bytes]) -> None:
        """To the first: carry what another process says through its `outlet` into the stream."""
        import torch

        length = torch.tensor([1])
        while int(length):
            torch.distributed.recv(length, rank)
            data = torch.empty(int(length), dtype=torch.uint8)
            if len(data):
                torch.distributed.recv(data, rank)
                stream.write(data.numpy().data)


class _Outlet(RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytearray(data[:CHUNK])  # of more, the buffer offers the rest again
        _send(part)
        return len(part)


def _send(data: bytearray) -> None:
    import torch

    torch.distributed.send(torch.tensor([len(data)]), 0)
    if data:
        torch.distributed.send(torch.frombuffer(data, dtype=torch.uint8), 0)


ALONE = Peers()

_LOST = (
    "Another process of the Job is gone, so the training stopped. The next attempt goes on from its checkpoint; see the "
    "Job's other pods for why."
)


def join(size: int, environ: Mapping[str, str], *, sharded: bool = False) -> Peers:
    """This process among `size`, by the environment that an indexed Job gives it. Raises `Failure`."""
    if size == 1:
        return ALONE
    from torch.distributed import TCPStore

    rank = int(environ[contract.INDEX_ENV])
    host, _, port = environ[contract.RENDEZVOUS_ENV].rpartition(":")
    if rank == 0:
        store = TCPStore("localhost", int(port), is_master=True, wait_for_workers=False)
        return Peers(0, size, store, sharded=sharded)
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            store = TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=10))
            return Peers(rank, size, store, sharded=sharded)
        except RuntimeError as error:  # not resolved yet, or not listening yet
            if time.monotonic() > deadline:
                raise Failure("PeerLost", _LOST, world=True) from error
            time.sleep(1)


def _is_network(error: RuntimeError) -> bool:
    """Whether a connection, and not a computation, failed: gloo's own errors have no type of their own."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo" in str(error).lower() or "connection" in str(error).lower()
