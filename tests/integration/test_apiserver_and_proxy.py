"""The API server alone and the fault proxy: what the other integration tests stand on."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from devcluster.apiserver import ApiServer
from devcluster.faultproxy import Call, FaultProxy, Rule


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def proxy(api: ApiServer) -> Iterator[FaultProxy]:
    with FaultProxy(api.kubeconfig, impersonate="tester") as proxy:
        yield proxy


def ask(proxy: FaultProxy, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any], dict[str, str]]:
    request = urllib.request.Request(proxy.url + path, data=json.dumps(body).encode() if body else None)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def configmap(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.parametrize(
    ("method", "path", "query", "call"),
    [
        ("GET", "/api/v1/namespaces/default", {}, Call("get", "namespaces", "", "default")),
        ("GET", "/api/v1/namespaces/a/pods/b/log", {}, Call("get", "pods/log", "a", "b")),
        ("PATCH", "/apis/batch/v1/namespaces/a/jobs/b/status", {}, Call("patch", "jobs.batch/status", "a", "b")),
        ("GET", "/apis/batch/v1/jobs", {"watch": "true"}, Call("watch", "jobs.batch")),
        ("DELETE", "/api/v1/namespaces/a/pods", {}, Call("deletecollection", "pods", "a")),
        ("GET", "/readyz", {}, Call("get", "/readyz")),
    ],
)
def test_requests_are_read_as_the_server_reads_them(method: str, path: str, query: dict[str, str], call: Call) -> None:
    assert Call.parse(method, path, query) == call


def test_status_and_retry_after_are_answered_for_the_wanted_occurrence_only(proxy: FaultProxy) -> None:
    proxy.rules.append(Rule(verb="list", resource="configmaps", status=429, retry_after=3, skip=1))
    codes = [ask(proxy, MAPS)[0] for _ in range(3)]
    assert codes == [200, 429, 200]
    proxy.rules.append(Rule(verb="list", status=429, retry_after=3))
    code, body, headers = ask(proxy, MAPS)
    assert (code, body["reason"], headers["Retry-After"]) == (429, "TooManyRequests", "3")


def test_a_dropped_answer_was_carried_out_and_a_dropped_request_was_not(proxy: FaultProxy) -> None:
    proxy.rules.append(Rule(verb="create", resource="configmaps", drop="after"))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError, urllib.error.URLError)):
        ask(proxy, MAPS, configmap("lost-answer"))
    assert ask(proxy, f"{MAPS}/lost-answer")[0] == 200
    proxy.rules.append(Rule(verb="create", resource="configmaps", drop="before"))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError, urllib.error.URLError)):
        ask(proxy, MAPS, configmap("lost-request"))
    assert ask(proxy, f"{MAPS}/lost-request")[0] == 404


def test_delay_holds_a_request_back(proxy: FaultProxy) -> None:
    proxy.rules.append(Rule(resource="configmaps", delay=0.5))
    begun = time.monotonic()
    assert ask(proxy, MAPS)[0] == 200
    assert time.monotonic() - begun >= 0.5


def test_watches_stream_and_can_be_cut(proxy: FaultProxy) -> None:
    events: list[str] = []
    seen, ended = threading.Event(), threading.Event()

    def watch() -> None:
        try:
            with urllib.request.urlopen(f"{proxy.url}{MAPS}?watch=true", timeout=20) as stream:
                for line in stream:
                    events.append(json.loads(line)["object"]["metadata"]["name"])
                    if "streamed" in events:
                        seen.set()
        except (OSError, http.client.HTTPException):
            pass
        ended.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert ask(proxy, MAPS, configmap("streamed"))[0] == 201
    assert seen.wait(10)
    assert proxy.cut_watches("configmaps") == 1
    assert ended.wait(5)
    thread.join()


def test_a_watch_can_expire(proxy: FaultProxy) -> None:
    proxy.rules.append(Rule(verb="watch", watch_error=410, cut_after=0.2))
    with urllib.request.urlopen(f"{proxy.url}{MAPS}?watch=true&timeoutSeconds=20", timeout=10) as stream:
        last = [json.loads(line) for line in stream][-1]
    assert (last["type"], last["object"]["code"]) == ("ERROR", 410)


def test_the_audit_log_names_the_user_and_the_data_outlive_an_outage(api: ApiServer, proxy: FaultProxy) -> None:
    assert ask(proxy, MAPS, configmap("kept"))[0] == 201
    api.stop()
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(proxy, f"{MAPS}/kept")
    api.start()
    assert ask(proxy, f"{MAPS}/kept")[0] == 200
    entries = [json.loads(line) for line in api.audit_log.read_text().splitlines()]
    created = [e for e in entries if e["verb"] == "create" and e.get("objectRef", {}).get("name") == "kept"]
    assert [e["impersonatedUser"]["username"] for e in created] == ["tester"]
