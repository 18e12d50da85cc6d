"""Jobs that a real API server and its Job controller take: some steps each, or several processes held by a queue."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from devcluster.apiserver import ApiServer
from tests.integration.process import REAL, Cluster, Operator, eventually
from tests.perf.stages import result

from optimodel.api import contract
from optimodel.api.contract import JobInput, Pins, Progress, Result, StepProgress, encode

S3 = {"url": "s3://bucket/place"}
GPU = {"spec": {"nodeSelector": {"pool": "gpu"}}, "resources": {"limits": {"nvidia.com/gpu": "1"}}}
FIRST = "127.79.1.2"
"""Address of the first process."""
Start = Callable[..., Operator]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ApiServer(controllers=True) as api:
        found = Cluster(api)
        runtime = {
            "apiVersion": "optimodel.dev/v1alpha1",
            "kind": "ClusterTritonRuntime",
            "metadata": {"name": "default"},
        }
        found.kubectl("create", "-f", "-", text=json.dumps(runtime | {"spec": {"image": "triton:1"}}))
        found.kubectl("wait", "--for=create", "--timeout=30s", "serviceaccount/default")
        yield found


@pytest.fixture
def start(cluster: Cluster, tmp_path: Path) -> Iterator[Start]:
    """Starts an operator; each is the Lease's holder of before, as a container that restarts is."""
    started: list[Operator] = []

    def run() -> Operator:
        env = {"OPTIMODEL_NETWORK_POLICY": "true", "OPTIMODEL_WORKER_IMAGES": '{"small": "worker-small:1"}'}
        started.append(Operator(cluster, tmp_path / "operator.log", "pod-uid", program=REAL, **env))
        return started[-1]

    yield run
    for operator in started:
        operator.end(signal.SIGKILL)
    print((tmp_path / "operator.log").read_text()[-6000:])


def create(cluster: Cluster, name: str, **optimization: Any) -> None:
    steps = [
        {"name": "adapt", "type": "FineTune", "fineTune": {"data": "d"}},
        {"name": "graph", "type": "Export"},
    ]
    spec = {"task": "TextClassification", "source": {"s3": S3}, "artifacts": {"s3": S3}}
    spec |= {
        "data": [{"name": "d", "s3": {"url": "s3://bucket/d.jsonl"}}],
        "optimization": {"steps": steps} | optimization,
    }
    kind = {"apiVersion": "optimodel.dev/v1alpha1", "kind": "OptimizedModel"}
    metadata = {"name": name, "namespace": "default"}
    cluster.kubectl("create", "-f", "-", text=json.dumps({**kind, "metadata": metadata, "spec": spec}))


def of(cluster: Cluster, kind: str, name: str) -> list[dict[str, Any]]:
    """What there is of an object that optimizes it, the oldest first."""
    found = [o for o in cluster.list(kind) if o["metadata"].get("labels", {}).get("optimodel.dev/model") == name]
    mine = [o for o in found if o["metadata"]["labels"]["optimodel.dev/component"] == "optimize"]
    return sorted(mine, key=lambda o: (o["metadata"]["creationTimestamp"], o["metadata"]["name"]))


def pods(cluster: Cluster, job: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """The Job's pods by index, once they are made."""

    def made() -> list[dict[str, Any]]:
        return [p for p in cluster.list("pods") if p["metadata"]["labels"].get("job-name") == job["metadata"]["name"]]

    eventually(lambda: len(made()) == count, 30, "the Job controller makes the pods")
    return sorted(made(), key=lambda p: str(p["metadata"]["name"]))


def told(pod: dict[str, Any]) -> JobInput:
    env = {e["name"]: e.get("value", "") for e in pod["spec"]["containers"][0]["env"]}
    return msgspec.json.decode(env[contract.JOB_ENV], type=JobInput)


def play(cluster: Cluster, pod: dict[str, Any], phase: str, state: dict[str, Any], address: str = "") -> None:
    """What the kubelet would say of a pod."""
    container = {"name": "worker", "image": "x", "imageID": "x", "ready": False, "restartCount": 0, "state": state}
    status = {"phase": phase, "containerStatuses": [container]} | ({"podIP": address} if address else {})
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", "-p", patch)


def end(cluster: Cluster, pod: dict[str, Any], left: Result) -> None:
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z"}
    play(cluster, pod, "Succeeded", {"terminated": {"exitCode": 0, "message": encode(left), **times}})


def status(cluster: Cluster, name: str) -> dict[str, Any]:
    return next(o for o in cluster.list("optimizedmodels") if o["metadata"]["name"] == name).get("status", {})


def reason(cluster: Cluster, name: str, type: str) -> str:
    return next((c["reason"] for c in status(cluster, name).get("conditions", ()) if c["type"] == type), "")


@contextmanager
def page(progress: Progress) -> Iterator[None]:
    """The progress page of a worker, at the address of the first process."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = encode(progress).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer((FIRST, contract.PROGRESS_PORT), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_two_jobs_in_turn_and_a_kill_between_them(cluster: Cluster, start: Start) -> None:
    rest = {"workerImage": "small", "resources": {"limits": {"memory": "3Gi"}}}
    create(cluster, "parts", podTemplates=[{"steps": ["adapt"], **GPU}, rest])
    operator = start()
    eventually(lambda: of(cluster, "jobs", "parts"), 30, "the first Job")
    (first,) = of(cluster, "jobs", "parts")
    (pod,) = pods(cluster, first)
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"} and told(pod).until == "adapt"
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert pod["spec"]["containers"][0]["image"] == "worker:1"
    operator.end(signal.SIGKILL)
    steps = tuple(StepProgress(n, "Done", 100, "9.0") for n in ("Fetch", "adapt"))
    left = tuple(StepProgress(n, "Pending") for n in ("graph", "Evaluate", "Publish"))
    end(
        cluster,
        pod,
        Result(
            "Succeeded",
            "StepsDone",
            "step adapt is done",
            steps=(*steps, *left),
            pins=Pins("sha256:s", "sha256:d", "adapt"),
        ),
    )
    cluster.kubectl("wait", "--for=condition=Complete", "--timeout=30s", f"job/{first['metadata']['name']}")

    start()
    eventually(lambda: len(of(cluster, "jobs", "parts")) == 2, 40, "the second Job, and the first one's log is kept")
    second = next(j for j in of(cluster, "jobs", "parts") if j["metadata"]["name"] != first["metadata"]["name"])
    (pod,) = pods(cluster, second)
    assert "nodeSelector" not in pod["spec"] and pod["spec"]["containers"][0]["resources"]["limits"] == {
        "memory": "3Gi"
    }
    assert pod["spec"]["containers"][0]["image"] == "worker-small:1"
    assert (told(pod).until, told(pod).pinned_source, told(pod).pinned_data) == (None, "sha256:s", "sha256:d")
    found = status(cluster, "parts")
    assert found["attempt"]["pins"] == {"source": "sha256:s", "data": "sha256:d", "step": "adapt"}
    assert [s["state"] for s in found["steps"]] == ["Done"] * 2 + ["Pending"] * 3
    cached = [StepProgress(n, "Cached", 100) for n in ("Fetch", "adapt")]
    done = [StepProgress(n, "Done", 100, "1.0") for n in ("graph", "Evaluate", "Publish")]
    end(cluster, pod, msgspec.structs.replace(result(), steps=(*cached, *done)))
    eventually(lambda: reason(cluster, "parts", "Optimized") == "Optimized", 30)
    assert [s["seconds"] for s in status(cluster, "parts")["steps"]] == ["9.0"] * 2 + ["1.0"] * 3


def test_a_queue_lets_the_processes_of_a_job_go_and_the_first_is_followed(cluster: Cluster, start: Start) -> None:
    create(cluster, "peers", processes=2, queueName="team")
    start()
    eventually(lambda: reason(cluster, "peers", "Ready") == "Queued", 30)
    (job,) = of(cluster, "jobs", "peers")
    name = job["metadata"]["name"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team" and job["spec"]["suspend"] is True
    (service,) = of(cluster, "services", "peers")
    assert service["spec"]["clusterIP"] == "None" and service["metadata"]["name"] == "peers-workers"
    policies = {p["metadata"]["name"]: p["spec"] for p in cluster.list("networkpolicies")}
    assert policies["peers-workers"]["ingress"] == [
        {"from": [{"podSelector": policies["peers-workers"]["podSelector"]}]}
    ]
    cluster.kubectl("patch", "job", name, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    first, other = pods(cluster, job, 2)
    for index, pod in enumerate((first, other)):
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (f"{name}-{index}", "peers-workers")
        assert policies["peers-workers"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert told(pod).processes == 2
    running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    progress = Progress("Optimize", (StepProgress("Fetch", "Done", 100), StepProgress("adapt", "Running", 10)))
    with page(progress):
        play(cluster, other, "Running", running, "127.79.1.3")
        play(cluster, first, "Running", running, FIRST)
        seen = {"name": "adapt", "state": "Running"}
        eventually(lambda: seen.items() <= status(cluster, "peers")["steps"][1].items(), 30, "the first one's page")
    end(cluster, first, result())
    eventually(
        lambda: reason(cluster, "peers", "Optimized") == "Optimized",
        30,
        "the other runs, and its end is not waited for",
    )
    (job,) = of(cluster, "jobs", "peers")
    met = {c["type"]: c.get("reason") for c in job["status"]["conditions"]}
    assert met["SuccessCriteriaMet"] == "SuccessPolicy" and job["spec"]["suspend"] is False


def message(cluster: Cluster, name: str, type: str) -> str:
    return next((c["message"] for c in status(cluster, name).get("conditions", ()) if c["type"] == type), "")


def test_what_is_never_taken_stalls_and_pods_that_are_not_let_in_are_explained(cluster: Cluster, start: Start) -> None:
    create(cluster, "greedy", podTemplate={"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})
    create(cluster, "orphan", podTemplate={"spec": {"serviceAccountName": "absent"}})
    start()
    eventually(lambda: reason(cluster, "greedy", "Stalled") == "SpecInvalid", 30)
    told = message(cluster, "greedy", "Stalled")
    assert "must be less than or equal to cpu limit" in told and "podTemplate" in told

    eventually(
        lambda: 'serviceaccount "absent" not found' in message(cluster, "orphan", "Ready"), 60, "the Job's own words"
    )
    assert reason(cluster, "orphan", "Ready") == "PodNotCreated" and not reason(cluster, "orphan", "Stalled")
    sent = [write for write in cluster.writes().elements() if "jobs/greedy" in write]
    assert len(sent) == 1 and of(cluster, "jobs", "greedy") == [], sent

    spec = {"spec": {"optimization": {"podTemplate": {"resources": {"requests": {"cpu": "1"}}}}}}
    cluster.kubectl("patch", "om", "greedy", "--type=merge", "-p", json.dumps(spec))
    eventually(lambda: len(of(cluster, "jobs", "greedy")) == 1, 30, "a Job of the corrected spec")
    eventually(lambda: not reason(cluster, "greedy", "Stalled"), 30)
