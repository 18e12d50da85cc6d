"""`python -m demo.run`: from nothing to a canary that answers, on the real MiniLM-L6 encoder. `python -m demo.run clean` removes it.

Every promise is checked; the exit code is 1 when one is not kept.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import obstore
from devcluster import cluster
from devcluster.paths import REPO
from tests import assets

from demo import artifact, clients, stage
from optimodel.cli import main as cli
from optimodel.cli import view

NAMESPACE, NAME = "demo", "minilm"
HTTP, GRPC = "minilm.demo.example.com", "grpc.minilm.demo.example.com"
SENTENCES = 400
QUESTIONS = 100
TOLERANCE = 1e-3
Obj = dict[str, Any]

OPENING = """
A cluster, the images, the chart; then MiniLM-L6 is compressed, proved and served, a coarser version is refused, and a second
one comes in through a canary. About 5 minutes, or about 35 where the cluster's programs must be built first. Every promise is
checked as it goes. To look on from another shell: eval "$(make -s cluster-env)"; kubectl get om -A -w"""

CLOSING = f"""
It is yours now:
  eval "$(make -s cluster-env)"                      kubectl on the PATH, KUBECONFIG, addresses and keys
  kubectl get om,mrev -n {NAMESPACE}
  PYTHONPATH=operator .venv/bin/python -m optimodel.cli status {NAME} -n {NAMESPACE}
  curl -H "Host: {HTTP}" $OPTIMODEL_GATEWAY/v2/models/{NAME}/infer -d \\
    '{{"inputs":[{{"name":"TEXT","datatype":"BYTES","shape":[1,1],"data":["hello"]}}]}}'
Take it away with: make demo-clean, make cluster-down"""


class Broken(Exception):
    """A promise that was not kept."""


def promise(kept: bool, text: str) -> None:
    """Print a promise with its verdict. Raises `Broken`."""
    print(f"  [{'ok' if kept else 'BROKEN'}] {text}", flush=True)
    if not kept:
        raise Broken(text)


@contextmanager
def phase(title: str, times: list[tuple[str, float]]) -> Iterator[None]:
    """A headline before and the time after."""
    print(f"\n== {title}", flush=True)
    begun = time.monotonic()
    yield
    times.append((title, time.monotonic() - begun))
    print(f"   {times[-1][1]:.1f} s", flush=True)


def model(per_channel: bool = True, refresh: str = "") -> Obj:
    """The OptimizedModel: MiniLM-L6 to int8, two gates, autoscaling, a canary of three steps."""
    steps: list[Obj] = [
        {"name": "export", "type": "Export"},
        {"name": "int8", "type": "Quantize", "quantize": {"method": "Dynamic", "bits": 8, "perChannel": per_channel}},
    ]
    gates = [
        {"name": "meaning", "metric": "CosineMean", "data": "held-out", "min": "0.985"},
        {"name": "size", "metric": "SizeRatio", "max": "0.27"},
    ]
    requests = {"requests": {"cpu": "200m", "memory": "384Mi"}, "limits": {"memory": "1Gi"}}
    scaling = {"minReplicas": 1, "maxReplicas": 2, "targetCpuUtilization": 80}
    router = {"parentRefs": [stage.GATEWAY], "hostnames": {"http": [HTTP], "grpc": [GRPC]}}
    canary = [
        {"name": "first", "weight": 10, "minDuration": "8s"},
        {"name": "half", "weight": 50, "minDuration": "8s"},
        {"name": "go", "approval": "Required"},
    ]
    return {
        "apiVersion": "optimodel.dev/v1alpha1",
        "kind": "OptimizedModel",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "task": "TextEmbedding",
            "source": {"s3": stage.s3("demo/source/minilm")} | ({"refresh": refresh} if refresh else {}),
            "artifacts": {"s3": stage.s3("demo/artifacts"), "deletionPolicy": "Delete"},
            "data": [{"name": "held-out", "s3": stage.s3("demo/data/held-out.jsonl")}],
            "optimization": {"steps": steps, "gates": gates},
            "serving": {"autoscaling": scaling, "resources": requests},
            "rollout": {"router": router, "steps": canary},
        },
    }


def upload() -> list[str]:
    """Put the encoder and held-out sentences into the store; the sentences."""
    size = stage.upload(assets.minilm(), "demo/source/minilm")
    print(f"  all-MiniLM-L6-v2: {size / 1e6:.1f} MB")
    texts = [text for _, text in assets.trec()]
    held_out = texts[:: max(1, len(texts) // SENTENCES)][:SENTENCES]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in held_out)
    obstore.put(stage.bucket("demo/data"), "held-out.jsonl", lines.encode())
    promise(len(held_out) >= 300, f"{len(held_out)} held-out sentences")
    return held_out


def follow(
    kubectl: stage.Kubectl, done: Callable[[Obj], bool], seconds: float, seen: dict[str, str] | None = None
) -> Obj:
    """Print what changes until `done`; the object then. `seen` = what was printed of it before. Raises `Broken` when it
    stalls, TimeoutError when it is late."""
    seen = {} if seen is None else seen
    begun = time.monotonic()

    def look() -> Obj | None:
        found = kubectl.get("optimizedmodel", NAMESPACE, NAME) or {"metadata": {"generation": 0}}
        for line in view.changes(seen, found):
            print(f"  {time.monotonic() - begun:6.1f} s  {line}", flush=True)
        if view.is_stalled(found) and not done(found):
            raise Broken(f"the model is stalled: {view.condition(found, 'Stalled')['message']}")
        return found if done(found) else None

    return stage.until(look, seconds, "the model did not get there")


def figures(kubectl: stage.Kubectl, om: Obj) -> None:
    """The before/after table, and its promises."""
    print(*(f"  {line}" for line in view.table(om)), sep="\n")
    f, found = om["status"]["figures"], artifact.of(kubectl, NAMESPACE, f"{NAME}-{om['status']['revision']}")
    ratio = found["weightsBytes"] / found["sourceWeightsBytes"]
    pulled = f"{found['bytes'] / 1e6:.1f} MB are pulled in all ({found['bytes'] / found['sourceWeightsBytes']:.3f})"
    promise(
        ratio <= 0.27,
        f"served weights {ratio:.4f} of the fp32 safetensors ({found['weightsBytes'] / 1e6:.1f} MB); {pulled}",
    )
    promise(
        float(f["cosineMean"]) >= 0.985 and f["samples"] >= 200, f"cosine {f['cosineMean']} on {f['samples']} sentences"
    )
    spread = f"blocks from {f['speedupLow']} to {f['speedupHigh']}: a busy machine spreads them"
    promise(float(f["speedupHigh"]) > 1, f"p50 speed-up {f['speedup']} ({spread})")


def compare(kubectl: stage.Kubectl, texts: list[str]) -> None:
    """Answers through the gateway, over HTTP and gRPC, against the artifact's own."""

    async def ask() -> tuple[list[list[float]], list[list[float]]]:
        url = stage.gateway()
        async with clients.Http(url, NAME, HTTP) as http, clients.Grpc(url, NAME, GRPC) as grpc:
            return await clients.ask_all(http, texts), await clients.ask_all(grpc, texts)

    om = kubectl.get("optimizedmodel", NAMESPACE, NAME)
    assert om
    found = artifact.of(kubectl, NAMESPACE, f"{NAME}-{om['status']['stableRevision']}")
    own = artifact.answers(NAMESPACE, om["spec"]["artifacts"]["s3"], found["digest"], texts)
    for way, got in zip(("HTTP", "gRPC"), asyncio.run(ask()), strict=True):
        worst = max(clients.distance(a, b) for a, b in zip(got, own, strict=True))
        promise(worst <= TOLERANCE, f"{len(got)} answers over {way} equal the artifact's own to {worst:.1e}")


def refused(kubectl: stage.Kubectl) -> None:
    """A version that is compressed too coarsely: its gate stops it, and nobody's traffic moves."""
    old = (kubectl.get("optimizedmodel", NAMESPACE, NAME) or {})["status"]["stableRevision"]
    kubectl.apply(model(per_channel=False))
    om = follow(kubectl, view.is_stalled, 600)
    verdicts = {g["name"]: g["verdict"] for g in om["status"]["gates"]}
    promise(verdicts == {"meaning": "Fail", "size": "Pass"}, f"the gates say {verdicts}")
    promise(view.weights(om) == {old: 100}, f"revision {old} keeps all traffic")


def weight(kubectl: stage.Kubectl) -> None:
    """A second version through the canary, the approval given by the command line."""

    def awaits(om: Obj) -> bool:
        return bool((om.get("status", {}).get("rollout") or {}).get("phase") == "AwaitingApproval")

    old = (kubectl.get("optimizedmodel", NAMESPACE, NAME) or {})["status"]["stableRevision"]
    kubectl.apply(model(refresh="2"))
    seen: dict[str, str] = {}
    om = follow(kubectl, awaits, 600, seen)
    shares = view.weights(om)
    promise(shares.get(old) == 50 and sum(shares.values()) == 100, f"traffic before the approval: {shares}")
    print("  $ kubectl optimodel approve", NAME)
    promise(cli(["approve", NAME, "-n", NAMESPACE]) == 0, "the rollout was approved")
    om = follow(kubectl, view.is_ready, 300, seen)
    new = om["status"]["stableRevision"]
    promise(new != old and view.weights(om) == {new: 100}, f"revision {new} takes all traffic")
    gone = ("deployment", NAMESPACE, f"{NAME}-{old}")
    stage.until(lambda: kubectl.get(*gone) is None, 120, f"deployment {gone[2]} is still there")
    promise(True, f"the pods of revision {old} are gone")


def run() -> int:
    """The whole demonstration; the exit code."""
    times: list[tuple[str, float]] = []
    print(OPENING, flush=True)
    try:
        _run(times)
    except (Broken, TimeoutError, RuntimeError) as error:
        print(f"\nnot as promised: {error}", file=sys.stderr)
        return 1
    print("\n" + "\n".join(f"{seconds:8.1f} s  {title}" for title, seconds in times))
    print(f"{sum(seconds for _, seconds in times):8.1f} s  in all\n{CLOSING}")
    return 0


def _run(times: list[tuple[str, float]]) -> None:
    with phase("cluster", times):
        cluster.up()
    with phase("images", times):
        subprocess.run(["make", "-s", "images"], cwd=REPO, check=True)
    kubectl = stage.Kubectl(stage.kubeconfig())
    with phase("chart", times):
        stage.install(kubectl)
    with phase("model and held-out text into the store", times):
        if kubectl.get("optimizedmodel", NAMESPACE, NAME):
            print("  removing the last demonstration")
            clean()
        stage.tenant(kubectl, NAMESPACE)
        texts = upload()
    with phase("kubectl apply: optimized, proved, served", times):
        kubectl.apply(model())
        om = follow(kubectl, view.is_ready, 1200)
    figures(kubectl, om)
    with phase(f"{QUESTIONS} answers through the gateway", times):
        compare(kubectl, texts[:QUESTIONS])
    with phase("a version that misses its gate", times):
        refused(kubectl)
    with phase("a second version through the canary", times):
        weight(kubectl)
    print(kubectl("get", "optimizedmodels", "-n", NAMESPACE))


def clean() -> int:
    """Remove the demonstration's namespace, and with it everything it made in the cluster."""
    kubectl = stage.Kubectl(stage.kubeconfig())
    kubectl("delete", "optimizedmodel", NAME, "-n", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    print(
        f"Namespace {NAMESPACE} is gone. The operator with its kinds and recipes, and the model and text in the store, stay for the"
    )
    print("next demonstration: make cluster-down takes all of it away.")
    return 0


if __name__ == "__main__":
    import os

    os.environ["KUBECONFIG"] = str(stage.kubeconfig())
    sys.exit(clean() if sys.argv[1:] == ["clean"] else run())
