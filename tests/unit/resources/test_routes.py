"""Routes as the gateway gets them, and as they are read back."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from optimodel.api.spec import Hostnames, ParentRef, Router
from optimodel.resources import routes

ROUTER = Router(
    parent_refs=(ParentRef("gw", "edge", "web"), ParentRef("inner")),
    hostnames=Hostnames(http=("m.example",), grpc=("grpc.m.example",)),
)
COMMON: dict[str, Any] = {
    "namespace": "team",
    "model": "m",
    "router": ROUTER,
    "owner": [{"kind": "OptimizedModel", "name": "m", "uid": "u"}],
}


def stored(route: dict[str, Any], generation: int = 3, observed: int = 3) -> dict[str, Any]:
    """The route as it comes back, accepted by every parent at generation `observed`."""
    found = copy.deepcopy(route)
    found["metadata"]["generation"] = generation
    good = [{"type": t, "status": "True", "observedGeneration": observed} for t in ("Accepted", "ResolvedRefs")]
    found["status"] = {
        "parents": [
            {"parentRef": r, "controllerName": "x", "conditions": copy.deepcopy(good)}
            for r in found["spec"]["parentRefs"]
        ]
    }
    return found


def both(**weights: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two routes, every revision named."""
    return (
        stored(routes.route("HTTPRoute", **COMMON, weights=weights, named=weights)),
        stored(routes.route("GRPCRoute", **COMMON, weights=weights, named=weights)),
    )


def test_header_rules_come_first_and_the_last_rule_splits() -> None:
    http = routes.route("HTTPRoute", **COMMON, weights={"b": 10, "a": 90}, named=("b", "a"))
    rules = http["spec"]["rules"]
    path = {"path": {"type": "PathPrefix", "value": "/"}}
    assert [r["matches"][0].get("headers", [{}])[0].get("value") for r in rules] == ["a", "b", None]
    assert rules[2]["matches"] == [path]
    assert [(b["name"], b["port"], b["weight"]) for b in rules[2]["backendRefs"]] == [
        ("m-a", 8000, 90),
        ("m-b", 8000, 10),
    ]
    assert http["spec"]["hostnames"] == ["m.example"]
    assert http["metadata"]["ownerReferences"] == COMMON["owner"]


def test_grpc_route_goes_to_the_grpc_port_under_its_own_hostname() -> None:
    grpc = routes.route("GRPCRoute", **COMMON, weights={"a": 100}, named=("a",))
    assert {b["port"] for r in grpc["spec"]["rules"] for b in r["backendRefs"]} == {8001}
    assert grpc["spec"]["hostnames"] == ["grpc.m.example"]
    assert "matches" not in grpc["spec"]["rules"][-1]


def test_order_of_the_input_does_not_matter() -> None:
    one = routes.route("HTTPRoute", **COMMON, weights={"a": 90, "b": 10}, named=("a", "b"))
    assert one == routes.route("HTTPRoute", **COMMON, weights={"b": 10, "a": 90}, named=["b", "a"])


def test_a_candidate_at_weight_zero_is_named_but_has_no_share() -> None:
    http = stored(routes.route("HTTPRoute", **COMMON, weights={"a": 100, "b": 0}, named=("a", "b")))
    assert routes.read(http) == ({"a": 100}, frozenset({"a", "b"}), True)


def test_what_was_written_is_read_back() -> None:
    assert routes.read(*both(a=90, b=10)) == ({"a": 90, "b": 10}, frozenset({"a", "b"}), True)
    assert routes.read() == ({}, frozenset(), False)


def test_routes_that_disagree_are_not_accepted() -> None:
    http, _ = both(a=90, b=10)
    _, grpc = both(a=50, b=50)
    assert routes.read(http, grpc)[2] is False


def test_a_foreign_backend_is_seen() -> None:
    http, _ = both(a=100)
    http["spec"]["rules"][-1]["backendRefs"].append({"name": "intruder", "port": 80})
    assert routes.read(http)[0] == {"a": 100, "intruder": 1}


@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs"])
def test_every_parent_must_say_yes_to_both_questions(kind: str) -> None:
    http, grpc = both(a=100)
    parent = grpc["status"]["parents"][1]
    next(c for c in parent["conditions"] if c["type"] == kind)["status"] = "False"
    assert routes.accepted(http)
    assert not routes.accepted(grpc)
    assert routes.read(http, grpc)[2] is False


def test_an_answer_for_an_older_generation_or_from_another_parent_does_not_count() -> None:
    plain = routes.route("HTTPRoute", **COMMON, weights={"a": 100}, named=("a",))
    assert not routes.accepted(stored(plain, generation=4, observed=3))
    silent = stored(plain)
    silent["status"]["parents"].pop()
    assert not routes.accepted(silent)
    assert not routes.accepted(plain)


def test_defaults_that_the_server_fills_in_do_not_hide_a_parent() -> None:
    http = stored(routes.route("HTTPRoute", **COMMON, weights={"a": 100}, named=("a",)))
    http["status"]["parents"][1]["parentRef"] = {"name": "inner", "namespace": "team"}
    assert routes.accepted(http)
