"""Reads what the API server said to a controller that could not make a pod: of a Job, only Events tell it."""

from __future__ import annotations

from typing import Protocol

from ..errors import ApiError
from ..machinery.store import Obj
from ..plan.types import ComplaintTarget
from .polling import Unknown

INTERVAL = 30.0
"""Seconds between looks."""

REASON = "FailedCreate"


class Events(Protocol):
    """What is asked of the API server (`adapters.kube.Kube`)."""

    async def events(self, namespace: str, uid: str, reason: str) -> list[Obj]: ...


class Complaints:
    """The newest complaint about an object's pods."""

    def __init__(self, api: Events) -> None:
        self._api = api

    async def ask(self, target: ComplaintTarget) -> str:
        """Its words; raises Unknown when there are none to read."""
        try:
            found = await self._api.events(target.namespace, target.uid, REASON)
        except ApiError as error:
            raise Unknown(str(error)) from error
        told = [event for event in found if event.get("message")]
        if not told:
            raise Unknown(f"no Event {REASON}")
        return str(max(told, key=_when)["message"])


def _when(event: Obj) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp", ""))


def pause(result: str | None) -> float | None:
    """Look again as long as it is wanted: the cause may become another."""
    return INTERVAL
