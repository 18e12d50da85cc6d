"""What a controller complains of, as Events tell it."""

from __future__ import annotations

from typing import Any

import pytest

from optimodel.adapters.complaints import Complaints
from optimodel.adapters.polling import Unknown
from optimodel.errors import ApiError, Forbidden
from optimodel.plan.types import ComplaintTarget


class Events:
    """An API server with these Events, or one that refuses to list them."""

    def __init__(self, *found: dict[str, Any], error: ApiError | None = None) -> None:
        self.found, self.error = [{"metadata": {}, **event} for event in found], error

    async def events(self, namespace: str, uid: str, reason: str) -> list[dict[str, Any]]:
        assert (namespace, uid, reason) == ("a", "job", "FailedCreate")
        if self.error:
            raise self.error
        return self.found


async def test_the_newest_complaint_counts() -> None:
    first = {"message": "exceeded quota", "lastTimestamp": "2026-01-01T00:00:10Z"}
    last = {"message": "denied by policy", "lastTimestamp": None, "eventTime": "2026-01-01T00:00:30.000000Z"}
    assert await Complaints(Events(last, first)).ask(ComplaintTarget("job", "a")) == "denied by policy"


@pytest.mark.parametrize("api", [Events(), Events({"message": ""}), Events(error=Forbidden("no right", 403))])
async def test_no_complaint_is_no_news(api: Events) -> None:
    with pytest.raises(Unknown):
        await Complaints(api).ask(ComplaintTarget("job", "a"))
