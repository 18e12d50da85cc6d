"""Reads the progress page of a worker pod."""

from __future__ import annotations

import msgspec

from ..api.contract import Progress
from ..plan.types import ProgressTarget
from .polling import PodHttp, Unknown

INTERVAL = 2.0
"""Seconds between looks."""

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
        if not all(_decimal(step.seconds) for step in page.steps):
            raise Unknown(f"{target.url}: seconds that are no decimals")
        return page


def _decimal(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit()


def pause(result: Progress | None) -> float | None:
    """Look again as long as it is wanted, until the work is done."""
    return None if result is not None and result.phase == "Done" else INTERVAL
