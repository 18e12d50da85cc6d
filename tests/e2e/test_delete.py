"""A deleted model leaves nothing, and its bytes only where it says so."""

from __future__ import annotations

from demo import stage
from tests.e2e import kit

KINDS = ("modelrevisions", "jobs", "deployments", "services", "pods", "httproutes", "grpcroutes", "networkpolicies")
OWNED = "app.kubernetes.io/managed-by=optimodel"


def stored(house: kit.House) -> list[str]:
    """Artifacts of the namespace."""
    return [k for k in stage.keys(f"{kit.ROOT}/artifacts/{house.namespace}") if k.startswith("artifacts/")]


def left(house: kit.House) -> list[str]:
    """What is still there of our objects."""
    return [f"{kind}/{name}" for kind in KINDS for name in house.names(kind, OWNED)]


def test_deletion_by_policy(house: kit.House) -> None:
    """Two models of one source share an artifact: the bytes go with the last one that asks for it."""
    kept, gone = house.model("kept", "a"), house.model("gone", "a", routed=True)
    gone["spec"]["artifacts"]["deletionPolicy"] = "Delete"
    house.apply(kept)
    house.wait_ready("kept")
    house.apply(gone)
    house.wait_ready("gone")
    assert stored(house)

    house.kubectl("delete", "optimizedmodel", "gone", "-n", house.namespace, "--timeout=120s")
    house.until(lambda: not [x for x in left(house) if "/gone" in x], 120, "kept")
    assert stored(house), "the other model still needs them"

    kept["spec"]["artifacts"]["deletionPolicy"] = "Delete"
    house.apply(kept)
    house.until_om("kept", lambda om: om["metadata"].get("finalizers"), 30)
    house.kubectl("delete", "optimizedmodel", "kept", "-n", house.namespace, "--timeout=120s")
    stage.until(lambda: not left(house), 120, lambda: f"still there: {left(house)}")
    assert stored(house) == []


def test_bytes_are_kept_unless_asked(house: kit.House) -> None:
    """Policy Retain, and the whole namespace goes."""
    house.apply(house.model("retained", "a"))
    house.wait_ready("retained")
    before = stored(house)
    house.kubectl("delete", "namespace", house.namespace, "--timeout=120s")
    assert before and stored(house) == before
