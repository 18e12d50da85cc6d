"""The newest checkpoint of a step that is not done lies in the store: a pod's own disk goes with the pod."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain
from pathlib import Path

import msgspec

from optimodel.artifacts import ObjectMissing, Store, StoreError
from optimodel.artifacts.manifest import safe, sha256

from .board import log

SHARE = 20
"""Keeping checkpoints takes at most one part in so many of the time: the next waits so long."""
MAX_BYTES = 4 << 30
"""A larger one is not carried to the store."""
FORGOTTEN = timedelta(days=7)
"""A checkpoint that nobody came back for goes after this time."""
_CHUNK = 1 << 20


class Header(msgspec.Struct, frozen=True):
    """The first line of the object: the file's name, and what its bytes must be."""

    name: str
    sha256: str
    bytes: int


class Checkpoint:
    """One step's place for checkpoints. Losing one costs time and never a result, so nothing here raises `StoreError`."""

    def __init__(self, store: Store, key: str, folder: Path) -> None:
        self.store, self.key, self.folder = store, f"checkpoints/{safe(key)}", folder
        self.stored = False
        self._not_before = 0.0

    def bring(self) -> bool:
        """Put the stored checkpoint into the folder; whether there was a whole one."""
        try:
            self.stored = self._bring()
        except ObjectMissing:
            return False
        except (StoreError, msgspec.DecodeError, ValueError) as error:
            log(f"the stored checkpoint cannot be used, so the step starts anew: {error}")
            self.stored = False
        return self.stored

    def _bring(self) -> bool:
        chunks = self.store.download(self.key)
        head, _, rest = next(chunks, b"").partition(b"\n")
        header = msgspec.json.decode(head, type=Header)
        if len(Path(safe(header.name)).parts) != 1 or header.bytes > MAX_BYTES:
            raise ValueError(f"a file named {header.name!r} of {header.bytes} bytes is none of ours")
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "stored.partial"
        found = hashlib.sha256()
        with partial.open("wb") as out:
            for chunk in chain([rest], chunks):
                found.update(chunk)
                out.write(chunk)
        if found.hexdigest() != header.sha256:
            partial.unlink()
            raise ValueError("its bytes are not those that were kept")
        partial.replace(self.folder / header.name)
        return True

    def due(self, size: int) -> bool:
        """Whether a checkpoint of so many bytes would be kept: it is not too large, and the last one was not a moment ago."""
        return time.monotonic() >= self._not_before and size <= MAX_BYTES

    def keep(self, path: Path) -> None:
        """Carry a checkpoint to the store in place of the last one, if it is due."""
        begun = time.monotonic()
        if not self.due(path.stat().st_size):
            return
        file = sha256(path)
        header = msgspec.json.encode(Header(path.name, file.sha256, file.bytes))
        try:
            self.store.upload(self.key, chain([header + b"\n"], _chunks(path)))
            self.stored = True
        except StoreError as error:
            log(f"the checkpoint was not kept: {error}")
        ended = time.monotonic()
        self._not_before = ended + SHARE * (ended - begun)

    def drop(self) -> None:
        """The step is done, or cannot be: remove its checkpoint, and those that nobody came back for."""
        if self.stored:
            self._remove(lambda: self.store.discard_older("checkpoints", FORGOTTEN))
            self.clear()

    def clear(self) -> None:
        """Remove what a worker left that was killed when the step was done and its checkpoint still there."""
        self._remove(lambda: self.store.discard(self.key))

    def _remove(self, action: Callable[[], None]) -> None:
        try:
            action()
        except StoreError as error:
            log(f"a checkpoint was not removed: {error}")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
