"""Bring a source into an empty folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import obstore

from optimodel.api.contract import SOURCE_MOUNT, credential_env
from optimodel.api.sources import PVC, S3, Source
from optimodel.artifacts import UnsafePath, open_prefix
from optimodel.artifacts.errors import translated
from optimodel.artifacts.manifest import safe

from ..claims import inside
from ..errors import Failure, naming
from . import hub
from .checks import Listing, choose

Report = Callable[[int, str], None]
"""Percent and a word about it."""


def fetch(
    source: Source,
    into: Path,
    environ: Mapping[str, str],
    report: Report,
    mount: Path = Path(SOURCE_MOUNT),
    role: str = "source",
) -> None:
    """List the source, refuse what is unsafe, and copy what is needed into the new folder `into`, with the credentials of the
    role. Raises `Failure`."""
    into.mkdir(parents=True)
    if source.s3 is not None:
        with naming("Source"):
            _fetch_s3(source.s3, into, environ, report, role)
    elif source.pvc is not None:
        _fetch_pvc(source.pvc, into, mount, report)
    elif source.hugging_face is not None:
        hub.fetch(source.hugging_face, into, environ.get(credential_env(role)["HF_TOKEN"], ""), report)
    else:
        raise Failure("SourceInvalid", "spec.source names no source. Give it one of huggingFace, s3 and pvc.")


def _fetch_s3(s3: S3, into: Path, environ: Mapping[str, str], report: Report, role: str) -> None:
    store = open_prefix(s3, role, environ)
    with translated(s3.url):
        listing = {meta["path"]: meta["size"] for batch in obstore.list(store) for meta in batch}
    wanted = choose(listing)
    done, total = 0, max(1, sum(listing[name] for name in wanted))
    for name in wanted:
        with translated(f"{s3.url.rstrip('/')}/{name}"), _create(into, name).open("wb") as out:
            for chunk in obstore.get(store, name).stream(min_chunk_size=4 << 20):
                out.write(chunk)
                done += len(chunk)
                report(100 * done // total, name)
        if (into / name).stat().st_size != listing[name]:
            raise Failure("SourceTruncated", f"{name} arrived shorter than it was listed; this is retried.", world=True)


def _fetch_pvc(pvc: PVC, into: Path, mount: Path, report: Report) -> None:
    try:
        folder = mount / safe(pvc.path.strip("/")) if pvc.path.strip("/") else mount
    except UnsafePath as error:
        raise Failure("UnsafePath", str(error)) from error
    place = f"claim {pvc.claim_name}, path {pvc.path!r}"
    try:
        if not folder.is_dir():
            raise Failure(
                "SourceNotFound", f"{place}: there is no such folder. Correct the path or put it there.", world=True
            )
        for number, name in enumerate(wanted := choose(_list(folder, mount))):
            report(100 * number // len(wanted), name)
            shutil.copyfile(folder / name, _create(into, name))
    except PermissionError as error:
        raise Failure(
            "SourceAccessDenied", f"{place}: the files are not readable for the worker's user.", world=True
        ) from error
    except OSError as error:
        raise Failure("SourceUnreachable", f"{place}: {error.strerror}. This is retried.", world=True) from error


def _list(folder: Path, mount: Path) -> Listing:
    found = {}
    for path in folder.rglob("*"):
        if inside(path, mount).is_file():
            found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found


def _create(into: Path, name: str) -> Path:
    target = into / name
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
