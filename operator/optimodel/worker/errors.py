"""One exception for everything a Job refuses or cannot do: a reason, a message with the way out, and who can mend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optimodel.api.contract import ExitCode
from optimodel.artifacts import ObjectMissing, StoreAccessDenied, StoreError, StoreUnreachable
from optimodel.artifacts.errors import BucketMissing


class Failure(Exception):
    """Ends the Job. `reason` is CamelCase; `world` = the world may mend it (retried), else only a new spec helps."""

    def __init__(self, reason: str, message: str, *, world: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = ExitCode.WORLD if world else ExitCode.SPEC


_NAMES: dict[type[StoreError], str] = {
    StoreAccessDenied: "AccessDenied",
    BucketMissing: "NotFound",
    ObjectMissing: "NotFound",
    StoreUnreachable: "Unreachable",
}


@contextmanager
def naming(role: str) -> Iterator[None]:
    """Turn errors of an object store that plays another role (`Source`, `Data`) into failures named after that role."""
    try:
        yield
    except StoreError as error:
        reason = next((role + name for kind, name in _NAMES.items() if isinstance(error, kind)), error.reason)
        raise Failure(reason, str(error), world=error.world) from error


@contextmanager
def about(what: str) -> Iterator[None]:
    """Say of failures what they are about, where it is not the source."""
    try:
        yield
    except Failure as failure:
        world = failure.code == ExitCode.WORLD
        raise Failure(failure.reason, f"{what}: {failure.message}", world=world) from failure
