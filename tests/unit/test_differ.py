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
