"""A model's bytes in a folder, checked, and the digest by which all that is made of them is known: of the source, and of other
models that steps name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from optimodel.api.contract import MODEL_MOUNT, SOURCE_MOUNT
from optimodel.api.sources import Model, Source
from optimodel.api.spec import Task
from optimodel.artifacts.manifest import scan

from ..errors import Failure, about
from .checks import check_folder
from .fetch import Report, fetch


def resolve(
    source: Source,
    task: Task,
    folder: Path,
    environ: Mapping[str, str],
    report: Report,
    *,
    headless: bool,
    pinned: str | None = None,
    role: str = "source",
    mount: Path = Path(SOURCE_MOUNT),
) -> str:
    """Fetch into the new `folder`, and check what arrived; its digest. Raises `Failure`, also for other bytes than are `pinned`."""
    fetch(source, folder, environ, report, mount, role)
    check_folder(folder, task, headless=headless)
    digest = scan(folder).digest
    if pinned not in (None, digest):
        raise Failure(
            "SourceChanged",
            "The source no longer holds the bytes of this revision. Set spec.source.refresh to optimize what it holds now.",
        )
    return digest


class Models:
    """The other models of a Job, by name. Each is resolved once, and those that are pinned are fetched only to be worked with."""

    def __init__(
        self,
        models: Sequence[Model],
        task: Task,
        folder: Path,
        environ: Mapping[str, str],
        pinned: Mapping[str, str],
        mount: Path = Path(MODEL_MOUNT),
    ) -> None:
        self._models, self._task, self._folder = {model.name: model for model in models}, task, folder
        self._environ, self._pinned, self._mount = environ, pinned, mount
        self._digests: dict[str, str] = {}

    def digests(self, names: Sequence[str], report: Report = lambda *_: None) -> dict[str, str]:
        """What these models resolve to. Raises `Failure`."""
        return {name: self._pinned.get(name) or self._resolved(name, report) for name in names}

    def folder(self, name: str) -> Path:
        """The model's files. Raises `Failure`."""
        self._resolved(name, lambda *_: None)
        return self._folder / name

    def _resolved(self, name: str, report: Report) -> str:
        if name not in self._digests:
            with about(f"Model {name!r} of spec.models"):
                self._digests[name] = resolve(
                    self._models[name].source,
                    self._task,
                    self._folder / name,
                    self._environ,
                    report,
                    headless=True,
                    pinned=self._pinned.get(name),
                    role=f"model-{name}",
                    mount=self._mount / name,
                )
        return self._digests[name]
