"""The newest of each, never one that is gone."""

from typing import Any

from hypothesis import given
from hypothesis.strategies import integers, lists, permutations

from optimodel.machinery.store import Store


def pod(name: str = "p", uid: str = "u1", version: int = 1, owner: str = "", **more: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(version), "labels": {"owner": owner}}
    return {"kind": "Pod", "metadata": {**meta, **more}}


def new() -> Store:
    def owner(kind: str, obj: dict[str, Any]) -> list[Any]:
        name = obj["metadata"]["labels"]["owner"]
        return [(kind, obj["metadata"]["namespace"], name)] if name else []

    return Store({"owner": owner})


def test_an_older_or_equal_version_is_refused() -> None:
    store = new()
    assert store.put("Pod", pod(version=10))
    assert not store.put("Pod", pod(version=10))
    assert not store.put("Pod", pod(version=9))
    assert store.version("Pod", "n", "p") == 10


def test_versions_are_compared_as_numbers() -> None:
    store = new()
    store.put("Pod", pod(version=9))
    assert store.put("Pod", pod(version=10))


def test_a_deleted_uid_never_returns_and_its_successor_stays() -> None:
    store = new()
    store.put("Pod", pod(version=5))
    store.remove("Pod", pod(version=7))
    assert not store.put("Pod", pod(version=99))
    assert store.get("Pod", "n", "p") is None
    assert store.put("Pod", pod(uid="u2", version=8))
    assert not store.remove("Pod", pod(uid="u1"))
    assert store.get("Pod", "n", "p")["metadata"]["uid"] == "u2"


def test_the_index_follows_a_label_that_moves_and_an_object_that_goes() -> None:
    store = new()
    store.put("Pod", pod(version=1, owner="a"))
    store.put("Pod", pod(version=2, owner="b"))
    assert store.owned("Pod", "n", "a") == []
    assert [p["metadata"]["name"] for p in store.owned("Pod", "n", "b")] == ["p"]
    store.remove("Pod", pod())
    assert store.owned("Pod", "n", "b") == []
    assert len(store) == 0


def test_what_nobody_reads_is_not_kept() -> None:
    store = new()
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "1"}
    store.put("Pod", pod(managedFields=[{}], annotations=annotations))
    kept = store.get("Pod", "n", "p")
    assert "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {"mine": "1"}


def test_a_fact_is_news_only_when_it_changes() -> None:
    store = new()
    assert store.set_fact("Probe", "u", 1)
    assert not store.set_fact("Probe", "u", 1)
    assert store.set_fact("Probe", "u", None)
    assert store.fact("Probe", "u") is None


@given(lists(integers(1, 50), min_size=1, unique=True).flatmap(permutations))
def test_in_any_order_the_newest_version_wins(versions: list[int]) -> None:
    store = new()
    for version in versions:
        store.put("Pod", pod(version=version))
    assert store.version("Pod", "n", "p") == max(versions)


def test_an_object_that_only_lost_our_label_comes_back_with_a_newer_version() -> None:
    store = new()
    store.put("Pod", pod(version=5))
    store.remove("Pod", pod(version=7), forever=False)
    assert not store.put("Pod", pod(version=6))
    assert store.put("Pod", pod(version=8))
