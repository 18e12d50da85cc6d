"""The Job's data by the names that steps and gates use: each dataset is read once, each part drawn once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from optimodel.api.contract import DATA_MOUNT
from optimodel.api.sources import Dataset
from optimodel.recipes import data as names
from optimodel.recipes import identity

from ..errors import Failure
from . import dataset
from .rows import Reader, Row


class Shelf:
    """Rows by `DATASET` or `DATASET/PART`. Methods raise `Failure`."""

    def __init__(
        self,
        data: Sequence[Dataset],
        environ: Mapping[str, str],
        reader: Reader,
        mount: Path = Path(DATA_MOUNT),
    ) -> None:
        self._data, self._environ, self._mount, self._reader = data, environ, mount, reader
        self._rows: dict[str, list[Row]] = {}

    def rows(self, name: str) -> list[Row]:
        """All rows that the name means."""
        if name not in self._rows:
            try:
                found = names.dataset(name, self._data)
            except KeyError as error:
                known = ", ".join(names.known(self._data)) or "none"
                message = f"No data is named {name!r}; spec.data has: {known}. Add it or name another."
                raise Failure("StepDataUnknown", message) from error
            if part := names.part(name):
                assert found.split is not None
                self._rows[name] = dataset.part(self.rows(found.name), found.split, part, found.name)
            else:
                self._rows[name] = dataset.load(found, self._environ, self._mount, self._reader)
        return self._rows[name]

    def digest(self, used: Iterable[str]) -> str:
        """What the rows of all these names say; empty without a name."""
        found = {name: dataset.digest(self.rows(name)) for name in used}
        return f"sha256:{identity.digest(found, 64)}" if found else ""
