"""The manifest of a folder: every file with its sha256 and size. Its own sha256 is the folder's digest."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import ArtifactMissing, DigestMismatch, ManifestInvalid, UnsafePath

NAME = "manifest.json"
MAX_FILES = 1000
MAX_MANIFEST_BYTES = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class File:
    """One file's sha256 (hex) and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Relative POSIX path -> file. Every path is inside the folder."""

    files: dict[str, File]

    @property
    def encoded(self) -> bytes:
        """Canonical JSON: what is stored, and what the digest is taken of."""
        files = {path: {"sha256": f.sha256, "bytes": f.bytes} for path, f in self.files.items()}
        return json.dumps({"version": 1, "files": files}, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """`sha256:<hex>`."""
        return "sha256:" + hashlib.sha256(self.encoded).hexdigest()

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(f.bytes for f in self.files.values())


def hex_of(digest: str) -> str:
    """The hex of `sha256:<hex>`. Raises `ManifestInvalid`."""
    scheme, _, text = digest.partition(":")
    if scheme != "sha256" or not _HEX.fullmatch(text):
        raise ManifestInvalid(f"{digest!r} is not a digest of the form sha256:<64 hex digits>.")
    return text


def safe(path: str) -> str:
    """The path itself, if it stays inside its folder on any system. Raises `UnsafePath`."""
    parts = PurePosixPath(path).parts
    bad = not parts or path.startswith("/") or "\\" in path or "\0" in path or ":" in parts[0]
    if bad or any(part in ("..", ".") for part in path.split("/")) or str(PurePosixPath(path)) != path:
        raise UnsafePath(f"The file name {path!r} leaves its folder. Use names inside the folder only.")
    return path


def sha256(path: Path) -> File:
    """Hash one file."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
            size += len(chunk)
    return File(found.hexdigest(), size)


def scan(folder: Path) -> Manifest:
    """The manifest of a folder on disk, `manifest.json` itself left out. Raises `UnsafePath` for links and odd files."""
    files: dict[str, File] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UnsafePath(f"{name!r} is a link or a special file. Use plain files only.")
        if path.is_file() and name != NAME:
            files[safe(name)] = sha256(path)
    return Manifest(files)


def parse(data: bytes, digest: str) -> Manifest:
    """A stored manifest, checked against its digest. Raises `DigestMismatch`, `ManifestInvalid`, `UnsafePath`."""
    if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
        raise DigestMismatch(
            f"The manifest of {digest} has other bytes than were published. Make it again by the action retry."
        )
    try:
        document = json.loads(data)
        files = {safe(p): File(str(f["sha256"]), int(f["bytes"])) for p, f in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestInvalid(f"The manifest of {digest} cannot be read ({type(error).__name__}).") from error
    valid = document.get("version") == 1 and 0 < len(files) <= MAX_FILES
    if not valid or not all(_HEX.fullmatch(f.sha256) and f.bytes >= 0 for f in files.values()):
        raise ManifestInvalid(f"The manifest of {digest} is of a kind that this version does not know.")
    return Manifest(files)


def verify(folder: Path, digest: str) -> Manifest:
    """Check that a folder on disk is exactly the artifact. Raises `DigestMismatch`, `ArtifactMissing`."""
    if not (folder / NAME).is_file():
        raise ArtifactMissing(f"{folder.name}: no {NAME}, so this is not an artifact.")
    wanted = parse((folder / NAME).read_bytes(), digest)
    if scan(folder) != wanted:
        raise DigestMismatch(f"The files of {digest} are not those of its manifest. Fetch the artifact again.")
    return wanted
