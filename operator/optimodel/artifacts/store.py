"""The store itself: publish a folder atomically, fetch it verified, remember what steps made, remove what nobody names."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError

from .errors import ArtifactMissing, DigestMismatch, ObjectMissing, translated
from .manifest import MAX_MANIFEST_BYTES, NAME, File, Manifest, hex_of, parse, safe, scan

T = TypeVar("T")
_CHUNK = 1 << 20
_PART = 8 << 20


class StepEntry(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a step made of its input; `input` and `output` are digests, `notes` a JSON object of figures for reports."""

    type: str
    input: str
    output: str
    weights_bytes: int = 0
    notes: str = ""


def _baselines(source: str, steps: Mapping[str, StepEntry]) -> list[str]:
    """Exports of an intermediate that others were compared with. None while another kind of step reads it."""
    readers = [e for e in steps.values() if e.input == source]
    return sorted({e.output for e in readers}) if all(e.type == "Export" for e in readers) else []


class Store:
    """The part of an object store that belongs to one namespace. Every method raises `StoreError` for what goes wrong.

    A manifest is written last, and what is there counts only with all its files, so an artifact is there whole or not at all; two
    writers of the same bytes agree.
    """

    def __init__(self, backend: Any, namespace: str, label: str) -> None:
        self._backend = backend
        self._root = safe(namespace)
        self.label = label

    def _key(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _read(self, key: str, limit: int = MAX_MANIFEST_BYTES) -> bytes:
        with translated(f"{self.label}/{key}"):
            answer = obstore.get(self._backend, key)
            if answer.meta["size"] > limit:
                raise DigestMismatch(f"{self.label}/{key} is larger than {limit} bytes, so it is none of ours.")
            return bytes(answer.bytes())

    def _create(self, key: str, data: bytes) -> bool:
        """Write an object unless it is there; whether we wrote it."""
        with translated(f"{self.label}/{key}"):
            try:
                obstore.put(self._backend, key, data, mode="create")
            except AlreadyExistsError:
                return False
        return True

    # Artifacts

    def publish(self, folder: Path) -> Manifest:
        """Store a folder under its digest and read every byte back before the manifest makes it visible."""
        manifest = scan(folder)
        home = self._key("artifacts", hex_of(manifest.digest))
        if not self.exists(manifest.digest):
            for path, file in manifest.files.items():
                with translated(f"{self.label}/{home}/{path}"):
                    obstore.put(self._backend, f"{home}/{path}", folder / path)
                self._download(f"{home}/{path}", file, None)
            with translated(f"{self.label}/{home}/{NAME}"):
                obstore.put(self._backend, f"{home}/{NAME}", manifest.encoded)
        return manifest

    def exists(self, digest: str) -> bool:
        """Whether the artifact is there: its manifest, and every file in its size (the bytes are checked when it is fetched). One that
        is damaged is not there, so that it is made again."""
        try:
            files = self.manifest(digest).files
        except (ArtifactMissing, DigestMismatch):
            return False
        home = self._key("artifacts", hex_of(digest))
        there = {meta["path"]: meta["size"] for meta in self._found(home)}
        return all(there.get(f"{home}/{path}") == file.bytes for path, file in files.items())

    def manifest(self, digest: str) -> Manifest:
        """The artifact's manifest, checked against the digest."""
        try:
            data = self._read(self._key("artifacts", hex_of(digest), NAME))
        except ObjectMissing as error:
            message = f"Artifact {digest} is not in {self.label}. Restore it, or make it again by the action retry."
            raise ArtifactMissing(message) from error
        return parse(data, digest)

    def fetch(self, digest: str, into: Path) -> Manifest:
        """Download an artifact into the new folder `into`, every byte verified; the folder appears whole or not at all."""
        manifest = self.manifest(digest)
        home = self._key("artifacts", hex_of(digest))
        into.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=into.parent))
        try:
            for path, file in manifest.files.items():
                target = partial / path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._download(f"{home}/{path}", file, target)
            (partial / NAME).write_bytes(manifest.encoded)
            partial.chmod(0o755)
            partial.rename(into)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return manifest

    def _download(self, key: str, file: File, target: Path | None) -> None:
        """Stream an object through its hash, into `target` if given. Raises `DigestMismatch`."""
        found, size = hashlib.sha256(), 0
        out = target.open("wb") if target else None
        try:
            with translated(f"{self.label}/{key}"):
                for chunk in obstore.get(self._backend, key).stream(min_chunk_size=_CHUNK):
                    found.update(chunk)
                    size += len(chunk)
                    if size > file.bytes:
                        break
                    if out:
                        out.write(chunk)
        except ObjectMissing as error:
            message = f"{self.label}/{key} is missing from a published artifact. Restore it, or make it again by the action retry."
            raise ArtifactMissing(message) from error
        finally:
            if out:
                out.close()
        if (found.hexdigest(), size) != (file.sha256, file.bytes):
            raise DigestMismatch(
                f"{self.label}/{key} has {size} bytes or a digest other than published ({file.bytes} bytes, "
                f"sha256 {file.sha256[:12]}…): truncated or tampered with. Remove it, and make it again by the action retry."
            )

    # Small documents

    def read(self, key: str, type: type[T]) -> T | None:
        """A JSON document, or None where it is absent or of another kind."""
        try:
            return msgspec.json.decode(self._read(self._key(safe(key))), type=type)
        except (ObjectMissing, msgspec.DecodeError):
            return None

    def write(self, key: str, value: Any) -> None:
        """Write a JSON document, replacing an older one."""
        place = self._key(safe(key))
        with translated(f"{self.label}/{place}"):
            obstore.put(self._backend, place, msgspec.json.encode(value))

    # Streams

    def upload(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write an object of any size, replacing an older one: a reader sees the one or the other, whole."""
        place = self._key(safe(key))
        with translated(f"{self.label}/{place}"):
            obstore.put(self._backend, place, iter(chunks), chunk_size=_PART)

    def download(self, key: str) -> Iterator[bytes]:
        """The chunks of an object."""
        place = self._key(safe(key))
        with translated(f"{self.label}/{place}"):
            yield from (bytes(chunk) for chunk in obstore.get(self._backend, place).stream(min_chunk_size=_CHUNK))

    def discard(self, key: str) -> None:
        """Remove an object, if it is there."""
        self._delete([self._key(safe(key))])

    def discard_older(self, prefix: str, age: timedelta) -> None:
        """Remove the objects under a prefix that nobody has written for `age`."""
        place, before = self._key(safe(prefix)), datetime.now(UTC) - age
        self._delete(meta["path"] for meta in self._found(place) if meta["last_modified"] < before)

    # What steps made

    def step(self, key: str) -> StepEntry | None:
        """What the step with this key made, if its output is still there."""
        entry = self.read(f"steps/{key}.json", StepEntry)
        return entry if entry and self.exists(entry.output) else None

    def remember(self, key: str, entry: StepEntry) -> StepEntry:
        """Record a step's output. The first writer wins: the entry that stands is returned."""
        if self._create(self._key("steps", f"{key}.json"), msgspec.json.encode(entry)):
            return entry
        standing = self.step(key)
        if standing is None:
            self.write(f"steps/{key}.json", entry)
        return standing or entry

    def mark_published(self, digest: str) -> None:
        """Tell an artifact that is served from an intermediate result."""
        self._create(self._key("published", f"{hex_of(digest)}.json"), b"{}")

    # Removal

    def remove(self, digests: Iterable[str]) -> list[str]:
        """Remove artifacts, the intermediates that only they needed, and the exports of those that were only compared with; the
        digests whose bytes went."""
        steps = self._steps()
        pending, gone = list(digests), []
        for digest in pending:
            with translated(f"{self.label}/published"):
                self._delete([self._key("published", f"{hex_of(digest)}.json")])
        published = {f"sha256:{Path(k).stem}" for k in self._list(self._key("published"))}
        while pending:
            digest = pending.pop()
            if digest in published or any(e.input == digest for e in steps.values()):
                continue
            made = {key: e for key, e in steps.items() if e.output == digest}
            self._delete([*made, *self._files(digest)])
            steps = {key: e for key, e in steps.items() if key not in made}
            gone.append(digest)
            for source in {e.input for e in made.values()}:
                made_of_source = any(e.output == source for e in steps.values())
                left = _baselines(source, steps) or ([source] if made_of_source else [])
                pending += [each for each in left if each not in pending]
        return gone

    def _files(self, digest: str) -> list[str]:
        """The artifact's objects, the manifest first: what is half removed is not there."""
        keys = self._list(self._key("artifacts", hex_of(digest)))
        return sorted(keys, key=lambda key: (not key.endswith(f"/{NAME}"), key))

    def _steps(self) -> dict[str, StepEntry]:
        found = {}
        for key in self._list(self._key("steps")):
            try:
                found[key] = msgspec.json.decode(self._read(key), type=StepEntry)
            except (msgspec.DecodeError, ObjectMissing):
                continue
        return found

    def _list(self, prefix: str) -> list[str]:
        return [meta["path"] for meta in self._found(prefix)]

    def _found(self, prefix: str) -> list[Any]:
        """Path, size and time of every object under a prefix."""
        with translated(f"{self.label}/{prefix}"):
            return [meta for batch in obstore.list(self._backend, prefix=f"{prefix}/") for meta in batch]

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                with translated(f"{self.label}/{key}"):
                    obstore.delete(self._backend, key)
            except ObjectMissing:
                continue
