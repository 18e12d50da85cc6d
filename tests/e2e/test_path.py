"""From `kubectl apply` to a first answer, as often as it takes to believe it."""

from __future__ import annotations

import asyncio

from demo import clients
from tests import assets
from tests.e2e import kit

from optimodel.cli import view

OBJECTS = ("one", "two", "three", "four")
ROUTED = ("three", "four")
UPDATES = 4
QUESTIONS = 100


async def test_ready_tells_the_truth(shared: kit.House) -> None:
    """20 of 20 creations and updates: the first question after `kubectl wait` is answered, by the new revision."""
    shared.apply(shared.model("one", "a"))
    await kit.off_loop(shared.wait_ready, "one")
    shared.apply(shared.model("two", "b"))
    await kit.off_loop(shared.wait_ready, "two")
    expected = {source: shared.own_answers(name, [kit.TEXT])[0] for source, name in (("a", "one"), ("b", "two"))}
    assert not kit.near(expected["a"], expected["b"])
    assert kit.near(await shared.answer("one"), expected["a"])
    assert kit.near(await shared.answer("two"), expected["b"])
    counts = await asyncio.gather(*(_walk(shared, name, expected) for name in OBJECTS))
    assert sum(counts) + 2 >= 20


async def _walk(house: kit.House, name: str, expected: dict[str, list[float]]) -> int:
    """Update one object again and again, creating it first where it is missing; how often it told the truth."""
    told = 0
    first = 0 if name in ("three", "four") else 1
    for turn in range(first, UPDATES + 1 + first):
        source = "ab"[(turn + OBJECTS.index(name)) % 2]
        await kit.off_loop(house.apply, house.model(name, source, routed=name in ROUTED))
        om = await kit.off_loop(house.wait_ready, name)
        answer = await _first(house, name)
        assert kit.near(answer, expected[source]), f"{name}, turn {turn}: Ready, but not by the model of {source}"
        ready = view.condition(om, "Ready")
        assert om["status"]["observedGeneration"] == om["metadata"]["generation"] == ready["observedGeneration"]
        told += 1
    return told


async def _first(house: kit.House, name: str) -> list[float]:
    """The first answer after Ready, where its users ask: at the gateway or at the Service."""
    if name not in ROUTED:
        return await house.answer(name)
    async with house.http(name) as client:
        return await client.ask(kit.TEXT)


async def test_answers_equal_the_artifacts_own(shared: kit.House) -> None:
    """100 questions through the gateway over HTTP and gRPC, against ONNX Runtime on the stored bytes."""
    texts = [text for _, text in assets.trec()[:QUESTIONS]]
    own = await kit.off_loop(shared.own_answers, "three", texts)
    async with shared.http("three") as http, shared.grpc("three") as grpc:
        for client in (http, grpc):
            answers = await clients.ask_all(client, texts)
            assert max(clients.distance(a, b) for a, b in zip(answers, own, strict=True)) <= 1e-3


def test_a_kept_revision_needs_no_job(shared: kit.House) -> None:
    """All those updates went back and forth between two revisions: one Job for each object and revision."""
    made = [
        e["objectRef"]["name"] for e in shared.writes(0) if (e["verb"], e["objectRef"]["resource"]) == ("patch", "jobs")
    ]
    assert sorted(name.rsplit("-", 2)[0] for name in made) == sorted(shared.names("modelrevisions"))


async def test_ready_waits_for_the_pods_of_new_serving_settings(shared: kit.House) -> None:
    """And says what keeps them from starting, while those of the old settings serve on."""

    source = shared.om("one")["spec"]["source"]["s3"]["url"].rpartition("/")[2]

    def settings(memory: str, requested: str = "192Mi") -> kit.Obj:
        resources = {"requests": {"cpu": "50m", "memory": requested}, "limits": {"memory": memory}}
        return shared.model("one", source, serving={"resources": resources})

    shared.apply(settings("1000Gi", requested="1000Gi"))
    found = await kit.off_loop(shared.until_condition, "one", "Ready", "Unschedulable")
    om = shared.om("one")
    assert found["observedGeneration"] == om["metadata"]["generation"]
    assert view.condition(om, "Available")["status"] == "True" and await shared.answer("one")
    shared.apply(settings("1100Mi"))
    await kit.off_loop(shared.wait_ready, "one")
    limits = [p["spec"]["containers"][0]["resources"]["limits"]["memory"] for p in shared.pods("one")]
    assert limits == ["1100Mi"]
