"""Models that take long to answer: how long their pods' probes wait for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from optimodel.api.contract import Figures, Golden
from optimodel.plan.decide import decide
from optimodel.snapshot import take

from .world import PLATFORM, World, result


def triton(w: World) -> dict[str, Any]:
    (name,) = w.names("Deployment")
    (found,) = w.get("Deployment", name)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def served(p50: str, tokens: int = 0, places: tuple[int, ...] = ()) -> World:
    w = World()
    w.settle()
    found = result(figures=Figures(p50_ms=p50))
    assert found.artifact is not None
    golden = Golden("hello", "TOKENS" if tokens else "EMBEDDING", ("1", "2"), max_tokens=tokens, places=places)
    w.end_job(msgspec.structs.replace(found, artifact=msgspec.structs.replace(found.artifact, golden=golden)))
    return w


@pytest.mark.parametrize(
    ("p50", "tokens", "seconds"),
    [
        ("", 0, 5),
        ("12.5", 0, 5),
        ("500", 0, 5),
        ("501", 0, 10),
        ("4200", 0, 40),
        ("999999999", 0, 40),
        ("100", 2, 10),
        ("nan", 0, 5),
        ("soon", 0, 5),
    ],
)
def test_a_probe_waits_as_long_as_the_measured_latency_asks_for(p50: str, tokens: int, seconds: int) -> None:
    w = served(p50, tokens)
    pod = triton(w)
    found = {kind: pod[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    assert {probe["timeoutSeconds"] for probe in found.values()} == {seconds}
    assert found["startup"]["periodSeconds"] == 1, "nobody waits for a model that answers at once"
    assert found["readiness"]["periodSeconds"] == seconds, "a probe stays a small share of what a pod does"
    assert found["liveness"]["periodSeconds"] == max(20, seconds)
    told = None if seconds == 5 else [{"name": "OPTIMODEL_PROBE_SECONDS", "value": str(seconds - 1)}]
    assert pod.get("env") == told, "not by an argument, which the script of a pod that was made before would not know"
    w.start_pods(answers=None)
    seen = take(w.store, "a", "m", PLATFORM, w.now)
    assert seen is not None
    assert [target.seconds for target in decide(seen).probes] == [seconds]


def test_the_operator_asks_for_the_places_that_the_job_remembered() -> None:
    w = served("12.5", places=(7, 640))
    w.start_pods(answers=None)
    seen = take(w.store, "a", "m", PLATFORM, w.now)
    assert seen is not None
    assert [(target.golden_head, target.golden_places) for target in decide(seen).probes] == [(("1", "2"), (7, 640))]
