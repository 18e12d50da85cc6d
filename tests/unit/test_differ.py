"""Comparing manifests as the API server would."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimodel.differ import digest, holds, merge_diff

values = st.recursive(
    st.integers(0, 3) | st.sampled_from(["", "x"]),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner) | st.lists(inner, max_size=2),
)
objects = st.dictionaries(st.sampled_from("abcd"), values)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


@given(objects, objects)
def test_a_merge_diff_leads_from_old_to_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, merge_diff(old, new)) == new
    assert merge_diff(new, new) == {}


@given(objects)
def test_an_object_holds_itself_and_any_addition(obj: dict[str, Any]) -> None:
    assert holds(obj, obj)
    assert holds(obj, {**obj, "z": 1})


@given(objects)
def test_the_order_of_keys_does_not_change_the_digest(obj: dict[str, Any]) -> None:
    assert digest(obj) == digest(dict(reversed(obj.items())))


@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        ({"cpu": "1000m"}, {"cpu": "1"}, True),
        ({"memory": "1024Mi"}, {"memory": "1Gi"}, True),
        ({"cpu": 1}, {"cpu": "1"}, True),
        ({"cpu": "2"}, {"cpu": "1"}, False),
        ({"spec": {"replicas": 1}}, {"spec": {"replicas": 1, "paused": False}, "status": {}}, True),
        ({"env": []}, {}, True),
        ({"args": ["a"]}, {"args": ["a", "b"]}, False),
        ([{"name": "a", "x": 1}], [{"name": "side", "x": 0}, {"name": "a", "x": 1, "default": True}], True),
        ([{"name": "a", "x": 1}], [{"name": "a", "x": 2}], False),
        ({"rules": [{"weight": 1}]}, {"rules": [{"weight": 1}, {"weight": 2}]}, False),
        ({"flag": True}, {"flag": 1}, True),
        ({"flag": False}, {}, True),
    ],
)
def test_containment(wanted: Any, live: Any, same: bool) -> None:
    assert holds(wanted, live) is same


POLICY = {"podSelector": {"matchLabels": {"model": "m"}}, "ingress": [{"from": [{"podSelector": {}}]}]}
RULE = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
    "backendRefs": [{"name": "a", "port": 8000, "weight": 100}],
}
ADDED = {
    "a key in a Service's selector": ({"selector": {"a": "b"}}, {"selector": {"a": "b", "app": "hacked"}}),
    "a key in a policy's selector": (POLICY, POLICY | {"podSelector": {"matchLabels": {"model": "m", "x": "y"}}}),
    "a peer of a policy": (POLICY, POLICY | {"ingress": [*POLICY["ingress"], {}]}),
    "everybody in place of no peer": ({"podSelector": {}}, {"podSelector": {"matchLabels": {"x": "y"}}}),
    "a backend": (
        {"rules": [RULE]},
        {"rules": [RULE | {"backendRefs": [*RULE["backendRefs"], {"name": "b", "weight": 900}]}]},
    ),
    "a rule": ({"rules": [RULE]}, {"rules": [RULE, RULE]}),
}


@pytest.mark.parametrize("name", ADDED)
def test_more_is_not_held_where_it_means_something_else(name: str) -> None:
    wanted, live = ADDED[name]
    assert holds(wanted, wanted) and not holds(wanted, live)


def test_defaults_inside_what_is_one_value_are_held() -> None:
    filled = [RULE | {"timeouts": None, "backendRefs": [RULE["backendRefs"][0] | {"group": "", "kind": "Service"}]}]
    assert holds({"rules": [RULE]}, {"rules": filled})
