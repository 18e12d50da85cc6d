"""Bad input: each is told by condition, with a reason, a message and a way out, and mends itself or once corrected.

All bad objects are made at once; each test then looks at its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from demo import artifact, stage
from tests.e2e import hub, kit

from optimodel.cli import main as cli
from optimodel.cli import view

STORE_KEYS = stage.KEYS


def edit(house: kit.House, name: str, source: str, change: Callable[[kit.Obj], Any]) -> kit.Obj:
    """A valid model, changed."""
    document = house.model(name, source)
    change(document["spec"])
    return document


def bad_sources(models: dict[str, Path], scratch: Path) -> None:
    """Folders in the store that no model can be made of."""
    good = models["a"]

    def folder(name: str) -> Path:
        return Path(shutil.copytree(good, scratch / name))

    pickle = folder("pickle")
    (pickle / "model.safetensors").rename(pickle / "pytorch_model.bin")
    custom = folder("auto-map")
    configure(custom, auto_map={"AutoModel": "modeling.Evil"})
    configure(folder("llama"), model_type="llama")
    cut = folder("truncated") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1000])
    for path in scratch.iterdir():
        stage.upload(path, f"{kit.ROOT}/bad/{path.name}")
    lines = "".join(json.dumps({"text": f"sentence number {n}"}) + "\n" for n in range(60))
    obstore.put(stage.bucket(f"{kit.ROOT}/bad"), "held-out.jsonl", lines.encode())


def configure(folder: Path, **changes: Any) -> None:
    """Change a model's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def documents(house: kit.House) -> list[kit.Obj]:
    """Every bad object, in the order in which their workers should get on."""

    def at(**members: Any) -> Callable[[kit.Obj], Any]:
        return lambda spec: spec["source"]["s3"].update(members)

    gates = [
        {"name": "tiny", "metric": "SizeRatio", "max": "0.01"},
        {"name": "meaning", "metric": "CosineMean", "data": "held-out", "min": "0.5"},
    ]
    data = [{"name": "held-out", "s3": stage.s3(f"{kit.ROOT}/bad/held-out.jsonl")}]
    small = {"resources": {"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"memory": "100Mi"}}}

    repo = {"repo": "org/escape", "revision": "main", "endpoint": f"http://hub.{house.namespace}.svc:{hub.PORT}"}
    return [
        edit(house, "no-bucket", "a", at(url="s3://no-such-bucket-here/model")),
        edit(house, "no-key", "bad/later", lambda spec: None),
        edit(house, "no-secret", "a", at(secretRef={"name": "later"})),
        edit(house, "no-claim", "a", lambda spec: spec.update(source={"pvc": {"claimName": "later", "path": "m"}})),
        edit(house, "pickle", "bad/pickle", lambda spec: None),
        edit(house, "auto-map", "bad/auto-map", lambda spec: None),
        edit(house, "traversal", "a", lambda spec: spec.update(source={"huggingFace": repo})),
        edit(house, "truncated", "bad/truncated", lambda spec: None),
        edit(house, "llama", "bad/llama", lambda spec: None),
        edit(house, "gate", "a", lambda spec: (spec["optimization"].update(gates=gates), spec.update(data=data))),
        edit(house, "memory", "b", lambda spec: spec["optimization"].update(podTemplate=small)),
    ]


@pytest.fixture(scope="module")
def bad(shared: kit.House, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> kit.House:
    """The namespace with every bad object in it."""
    bad_sources(models, tmp_path_factory.mktemp("bad"))
    shared.apply(*hub.documents(shared.namespace, stage.images()["operator"]))
    shared.kubectl("wait", "-n", shared.namespace, "--for=condition=Ready", "--timeout=60s", "pod/hub")
    shared.apply(*documents(shared))
    return shared


WORLD = {
    "no-bucket": ("SourceNotFound", "bucket"),
    "no-key": ("SourceNotFound", "no files"),
    "no-secret": ("SecretNotFound", "later"),
    "no-claim": ("ClaimNotFound", "later"),
    "truncated": ("SourceTruncated", "cut off"),
}
SPEC = {
    "pickle": ("PickleWeights", "safe_serialization"),
    "auto-map": ("CustomCodeRefused", "never run"),
    "traversal": ("UnsafePath", "leaves its folder"),
    "llama": ("UnsupportedArchitecture", "bert"),
    "gate": ("GateFailed", "tiny (SizeRatio) Fail"),
    "memory": ("OutOfMemory", "podTemplate.resources"),
}


@pytest.mark.parametrize("name", WORLD)
def test_what_the_world_can_mend_is_told_and_tried_again(bad: kit.House, name: str) -> None:
    reason, words = WORLD[name]
    said = bad.until_condition(name, "Ready", reason, kit.OPTIMIZED_S)
    assert said["status"] == "False" and words in said["message"], said
    assert not view.is_stalled(bad.om(name))


@pytest.mark.parametrize("name", SPEC)
def test_what_only_the_spec_can_mend_is_told_and_waits(bad: kit.House, name: str) -> None:
    reason, words = SPEC[name]
    said = bad.until_condition(name, "Stalled", reason, kit.OPTIMIZED_S)
    assert said["status"] == "True" and words in said["message"], said
    om = bad.om(name)
    assert view.condition(om, "Ready")["reason"] == reason
    jobs = [j for j in bad.names("jobs") if j.startswith(f"{name}-")]
    assert len(jobs) == 1, f"a retry storm: {jobs}"
    assert om["status"]["lastFailure"]["reason"] == reason


def test_a_secret_that_appears_is_enough(bad: kit.House) -> None:
    meta = {"name": "later", "namespace": bad.namespace}
    bad.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": STORE_KEYS})
    bad.wait_ready("no-secret")


def test_a_source_that_appears_is_taken_up_by_retry(bad: kit.House, models: dict[str, Path]) -> None:
    stage.upload(models["a"], f"{kit.ROOT}/bad/later")
    assert cli(["retry", "no-key", "-n", bad.namespace]) == 0
    bad.wait_ready("no-key")


def test_a_corrected_spec_goes_on(bad: kit.House) -> None:
    bad.apply(bad.model("pickle", "a"), bad.model("memory", "b"))
    bad.wait_ready("pickle")
    bad.wait_ready("memory")


def test_tampered_bytes_are_not_served(bad: kit.House) -> None:
    """A byte of the stored graph changes: the next pod refuses it, and the model is served again once it is mended."""
    om = bad.wait_ready("pickle")
    found = artifact.of(bad.kubectl, bad.namespace, f"pickle-{om['status']['stableRevision']}")
    key = f"{kit.ROOT}/artifacts/{bad.namespace}/artifacts/{found['digest'].removeprefix('sha256:')}/model.onnx"
    good = bytes(obstore.get(stage.bucket(), key).bytes())
    obstore.put(stage.bucket(), key, good[:-1] + bytes([good[-1] ^ 1]))
    document = bad.model("tampered", "a")
    bad.apply(document)
    said = bad.until_condition("tampered", "ServingReady", "DigestMismatch", kit.OPTIMIZED_S)
    assert "tampered" in said["message"]
    obstore.put(stage.bucket(), key, good)
    bad.wait_ready("tampered")


def runtime(house: kit.House, name: str, **spec: Any) -> kit.Obj:
    """A TritonRuntime of the namespace."""
    meta = {"name": name, "namespace": house.namespace}
    spec = {"image": stage.images()["triton"], "formats": ["ONNX"]} | spec
    return {"apiVersion": "optimodel.dev/v1alpha1", "kind": "TritonRuntime", "metadata": meta, "spec": spec}


@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("no-image", {"image": "localhost:15000/optimodel/no-such:1"}, "ImagePullFailed"),
        ("no-load", {"args": ["--backend-directory=/nowhere"]}, "ModelLoadFailed"),
    ],
)
def test_a_runtime_that_cannot_serve(bad: kit.House, name: str, wrong: kit.Obj, reason: str) -> None:
    bad.apply(runtime(bad, name, **wrong))
    document = bad.model(name, "a")
    document["spec"]["serving"]["runtimeRef"] = {"kind": "TritonRuntime", "name": name}
    bad.apply(document)
    bad.until_condition(name, "ServingReady", reason, kit.OPTIMIZED_S)
    document["spec"]["serving"]["runtimeRef"] = {"kind": "ClusterTritonRuntime", "name": "default"}
    bad.apply(document)
    bad.wait_ready(name)


def test_the_namespace_goes_in_the_middle(house: kit.House) -> None:
    """The object asks for cleaning, but its namespace goes: nothing may hold it up."""
    document = house.model("halfway", "a")
    document["spec"]["artifacts"]["deletionPolicy"] = "Delete"
    house.apply(document)
    house.until(lambda: house.names("jobs"), 60, "halfway")
    house.kubectl("delete", "namespace", house.namespace, "--timeout=120s")


def test_the_store_is_gone_at_deletion(house: kit.House) -> None:
    document = house.model("homeless", "a")
    document["spec"]["artifacts"]["deletionPolicy"] = "Delete"
    house.apply(document)
    house.wait_ready("homeless")
    house.kubectl("delete", "secret", "store", "-n", house.namespace)
    house.kubectl("delete", "optimizedmodel", "homeless", "-n", house.namespace, "--timeout=120s")
    events = house.kubectl.list("events", house.namespace)
    assert any(e["reason"] == "ArtifactsRetained" and "store" in e["message"] for e in events)
