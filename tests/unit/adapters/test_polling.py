"""Pods that answer, answer wrongly, too much, too late or not at all: a real HTTP server."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from optimodel.adapters import inference, progress
from optimodel.adapters.polling import PodHttp, Poller, Unknown
from optimodel.plan.types import ProbeResult, ProbeTarget, ProgressTarget


class Pod:
    """A Triton pod whose scores can be set."""

    def __init__(self) -> None:
        self.scores: list[float] = [0.0, 0.0]
        self.loaded = False
        self.asked: list[object] = []
        self.told: dict[str, object] = {}

    async def ready(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.loaded else 400)

    async def infer(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        return web.json_response({"outputs": [{"name": "SCORES", "data": self.scores}]})

    async def page(self, request: web.Request) -> web.Response:
        return web.json_response({"phase": "Fetch", "steps": [{"name": "export", "state": "Pending"} | self.told]})


@pytest.fixture
async def http() -> AsyncIterator[PodHttp]:
    http = PodHttp()
    yield http
    await http.close()


@pytest.fixture
async def pod() -> AsyncIterator[tuple[Pod, str]]:
    pod, app = Pod(), web.Application()

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("/progress")

    async def huge(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 20_000)

    app.add_routes(
        [
            web.get("/v2/models/m/versions/1/ready", pod.ready),
            web.post("/v2/models/m/infer", pod.infer),
            web.get("/progress", pod.page),
            web.get("/elsewhere", elsewhere),
            web.get("/huge", huge),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield pod, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def target(url: str) -> ProbeTarget:
    return ProbeTarget("uid", url, "m", "a question", "SCORES", ("0.25", "0.75"), "0.01")


async def test_a_probe_goes_from_not_loaded_through_a_wrong_answer_to_the_golden_one(
    http: PodHttp, pod: tuple[Pod, str]
) -> None:
    asker = inference.Inference(http)
    served, url = pod
    assert "not ready" in (await asker.ask(target(url))).message
    served.loaded = True
    wrong = await asker.ask(target(url))
    assert not wrong.ok
    assert "value 0 of SCORES is 0.0, the artifact's is 0.25" in wrong.message
    served.scores = [0.255, 0.745, 9.0]
    assert await asker.ask(target(url)) == ProbeResult(True)
    assert served.asked[-1]["inputs"][0]["data"] == ["a question"]  # type: ignore[index]
    await asker.ask(dataclasses.replace(target(url), max_tokens=3))
    assert [given["data"] for given in served.asked[-1]["inputs"]] == [["a question"], [3]]  # type: ignore[index]
    await asker.ask(dataclasses.replace(target(url), input="IMAGE"))
    assert served.asked[-1]["inputs"][0]["name"] == "IMAGE"  # type: ignore[index]


async def test_a_wide_answer_is_read_and_one_beyond_all_bounds_says_so(http: PodHttp, pod: tuple[Pod, str]) -> None:
    """A thousand scores as Triton writes them are over 20 kB; of no answer at all nothing would be told."""
    asker = inference.Inference(http)
    served, url = pod
    served.loaded, served.scores = True, [0.25, 0.75, *[0.00012345678901234567] * 1000]
    assert await asker.ask(target(url)) == ProbeResult(True)
    served.scores *= 60
    found = await asker.ask(target(url))
    assert not found.ok
    assert "SCORES takes over 1048576 bytes" in found.message


async def test_values_are_judged_where_they_stand(http: PodHttp, pod: tuple[Pod, str]) -> None:
    asker = inference.Inference(http)
    served, url = pod
    wanted = dataclasses.replace(target(url), golden_head=("0.9", "0.05"), golden_places=(700, 3), tolerance="0.45")
    served.loaded, served.scores = True, [0.0001] * 1000
    assert "value 700 of SCORES is 0.0001, the artifact's is 0.9 ± 0.45" in (await asker.ask(wanted)).message
    served.scores[700] = 0.7
    assert await asker.ask(wanted) == ProbeResult(True)
    served.scores = [0.9, 0.05]
    assert "has 2 values, 701 expected" in (await asker.ask(wanted)).message


@pytest.mark.parametrize("path", ["/elsewhere", "/huge", "/none"])
async def test_a_page_that_is_no_page_is_unknown(http: PodHttp, pod: tuple[Pod, str], path: str) -> None:
    with pytest.raises(Unknown):
        await progress.Pages(http).ask(ProgressTarget("uid", pod[1] + path))


@pytest.mark.parametrize(
    "told",
    [
        {"percent": 400},
        {"percent": -1},
        {"seconds": "1" * 40},
        {"seconds": "²"},
        {"seconds": "soon"},
        {"bytes": 10**30},
    ],
    ids=str,
)
async def test_a_page_that_no_status_could_hold_is_unknown(
    http: PodHttp, pod: tuple[Pod, str], told: dict[str, object]
) -> None:
    page, at = progress.Pages(http), ProgressTarget("uid", pod[1] + "/progress")
    pod[0].told = {"percent": 100, "seconds": "12.5"}
    assert (await page.ask(at)).steps[0].seconds == "12.5"
    pod[0].told = told
    with pytest.raises(Unknown):
        await page.ask(at)


async def test_a_name_instead_of_an_address_is_not_asked(http: PodHttp) -> None:
    with pytest.raises(Unknown, match="not an address"):
        await http.call("GET", "http://localhost:1/progress")


async def test_the_poller_tells_results_until_they_are_right_and_forgets_what_nobody_wants(
    http: PodHttp, pod: tuple[Pod, str]
) -> None:
    served, url = pod
    told: list[object] = []
    poller: Poller[ProbeTarget, ProbeResult] = Poller(
        inference.Inference(http).ask,
        lambda r: None if r and r.ok else 0.01,
        lambda key, uid, result: told.append(result),
    )
    running = asyncio.create_task(poller.run())
    poller.want("key", (target(url),))
    served.loaded, served.scores = True, [0.25, 0.75]
    async with asyncio.timeout(5):
        while ProbeResult(True) not in told:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    asked = len(served.asked)
    poller.want("key", (target(url),))
    poller.want("key", ())
    assert told[-1] is None
    assert len(served.asked) == asked
    running.cancel()
