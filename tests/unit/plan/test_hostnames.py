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


def older(hostnames: dict[str, list[str]], **parent: str) -> World:
    """A world without hostnames of its own, where another object has been there longer."""
    w = World(SPEC | {"rollout": {"router": ROUTER | {"hostnames": {}}}})
    router = {"parentRefs": [ROUTER["parentRefs"][0] | parent], "hostnames": hostnames}
    meta = {"name": "o", "namespace": "b", "generation": 1, "creationTimestamp": "2025-01-01T00:00:00Z"}
    w.put({"kind": "OptimizedModel", "metadata": meta, "spec": SPEC | {"rollout": {"router": router}}})
    w.serve()
    return w


def test_of_two_objects_that_name_no_hostname_the_older_has_the_gateway() -> None:
    for hostnames in ({}, {"http": []}):
        w = older(hostnames)
        assert not w.condition("Ready") and w.names("HTTPRoute") == []
        assert w.condition("RouteReady", "False", "HostnameConflict") and "Name one in" in w.message("RouteReady")
    w.edit(rollout=at("m.example"))
    w.serve()
    assert w.condition("Ready") and w.names("HTTPRoute") == ["m"]


def test_without_a_hostname_it_takes_what_others_on_the_gateway_do_not_name() -> None:
    for w in (older({"http": ["o.example"]}), older({"grpc": ["o.example"]}), older({}, name="another")):
        assert w.condition("Ready") and "hostnames" not in w.get("HTTPRoute")["spec"]


def test_listeners_of_one_gateway_are_apart_where_both_objects_name_theirs() -> None:
    assert older({}, sectionName="https").condition("RouteReady", "False", "HostnameConflict")
    w = older({}, sectionName="https")
    w.edit(rollout={"router": {"parentRefs": [ROUTER["parentRefs"][0] | {"sectionName": "http"}]}})
    w.serve()
    assert w.condition("Ready")
    w.edit(rollout={"router": {"parentRefs": [ROUTER["parentRefs"][0] | {"sectionName": "https"}]}})
    w.settle()
    assert w.condition("RouteReady", "False", "HostnameConflict")


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
