"""A hostname has one owner, and a cluster may have no routes at all."""

from __future__ import annotations

from optimodel.snapshot import MISSING

from .world import ROUTER, SPEC, World


def at(hostname: str) -> dict[str, object]:
    """A spec's rollout at one HTTP hostname."""
    return {"router": ROUTER | {"hostnames": {"http": [hostname]}}}


def test_a_hostname_of_an_older_object_is_not_taken_while_traffic_goes_on() -> None:
    w = World(SPEC | {"rollout": at("m.example")})
    w.serve()
    older = {"name": "o", "namespace": "b", "generation": 1, "creationTimestamp": "2025-01-01T00:00:00Z"}
    w.put({"kind": "OptimizedModel", "metadata": older, "spec": SPEC | {"rollout": at("o.example")}})
    w.edit(rollout=at("o.example"))
    w.settle()
    assert w.condition("Available") and w.condition("RouteReady", "False", "HostnameConflict")
    assert w.get("HTTPRoute")["spec"]["hostnames"] == ["m.example"]
    w.edit(rollout=at("n.example"))
    w.settle()
    w.accept_routes()
    assert w.condition("Ready") and w.get("HTTPRoute")["spec"]["hostnames"] == ["n.example"]


def test_a_new_object_gets_no_route_at_a_hostname_that_is_taken_and_waits_where_there_are_no_routes() -> None:
    w = World(SPEC)
    w.serve()
    older = {"name": "o", "namespace": "b", "generation": 1, "creationTimestamp": "2025-01-01T00:00:00Z"}
    w.put({"kind": "OptimizedModel", "metadata": older, "spec": SPEC | {"rollout": at("o.example")}})
    w.edit(rollout=at("o.example"))
    w.settle()
    assert w.condition("RouteReady", "False", "HostnameConflict") and w.names("HTTPRoute") == []
    w.store.set_fact(MISSING, "HTTPRoute", True)
    w.edit(rollout=at("m.example"))
    w.settle()
    assert w.condition("RouteReady", "False", "RouterUnavailable") and w.names("HTTPRoute") == []
    w.store.set_fact(MISSING, "HTTPRoute", None)
    w.settle()
    assert w.names("HTTPRoute") == ["m"]
