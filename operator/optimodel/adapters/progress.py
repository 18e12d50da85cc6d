"""Reads the progress page of a worker pod."""

from __future__ import annotations

import msgspec

from ..api.contract import Progress, StepProgress
from ..plan.types import ProgressTarget
from .polling import PodHttp, Unknown

INTERVAL = 2.0
"""Seconds between looks."""

MAX_STEPS = 32

_decode = msgspec.json.Decoder(Progress).decode


class Pages:
    """Progress pages over HTTP."""

    def __init__(self, http: PodHttp) -> None:
        self._http = http

    async def ask(self, target: ProgressTarget) -> Progress:
        """The page; raises Unknown when there is none to read."""
        status, body = await self._http.call("GET", target.url)
        if status != 200:
            raise Unknown(f"{target.url}: status {status}")
        try:
            page = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unknown(f"{target.url}: {error}") from error
        if len(page.steps) > MAX_STEPS or not all(_sane(step) for step in page.steps):
            raise Unknown(f"{target.url}: more than a status can hold")
        return page


def _sane(step: StepProgress) -> bool:
    """Whether a line fits the status: a page is what a pod says, not what we know."""
    return len(step.name) <= 63 and len(step.message) <= 1024 and step.seconds.replace(".", "", 1).isdigit()


def pause(result: Progress | None) -> float | None:
    """Look again as long as it is wanted, until the work is done."""
    return None if result is not None and result.phase == "Done" else INTERVAL
