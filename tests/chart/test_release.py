"""A release on a real API server: install, upgrade and removal with living objects, and what the operator may do."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from devcluster.apiserver import ApiServer
from devcluster.binaries import binary

REPO = Path(__file__).parents[2]
CHART = str(REPO / "charts" / "optimodel")
SYSTEM = "optimodel-system"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:optimodel"


class Cluster:
    """kubectl and helm on an API server of its own."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api

    def command(self, program: str, *arguments: str) -> list[str]:
        return [str(binary(program)), f"--kubeconfig={self.api.kubeconfig}", *arguments]

    def run(self, program: str, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = self.command(program, *arguments)
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)

    def must(self, program: str, *arguments: str, text: str | None = None) -> str:
        done = self.run(program, *arguments, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.must("kubectl", *arguments, text=text)

    def helm(self, *arguments: str) -> str:
        return self.must("helm", *arguments, f"--namespace={SYSTEM}")

    def may(self, verb: str, resource: str, namespace: str = "team-a") -> bool:
        done = self.run("kubectl", "auth", "can-i", verb, resource, f"--as={ACCOUNT}", f"--namespace={namespace}")
        return done.stdout.strip() == "yes"


def check(api: ApiServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The chart's check of the API server, with no more rights than the operator's account."""
    account = api.user(ACCOUNT, "system:serviceaccounts")
    env = os.environ | {"KUBECONFIG": str(account), "PYTHONPATH": str(REPO / "operator")}
    command = [sys.executable, "-m", "optimodel.apicheck", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def play(cluster: Cluster) -> None:
    """Run the Job of the first install: there is no kubelet here."""
    of = ("-n", SYSTEM, "optimodel-api-check")
    cluster.kubectl("wait", "--for=create", "--timeout=60s", *of[:2], "job/optimodel-api-check")
    job = json.loads(cluster.kubectl("get", "job", *of, "-o", "json"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "optimodel.apicheck"]
    ended = check(cluster.api)
    assert ended.returncode == 0, ended.stderr
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")
    ]
    status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}
    cluster.kubectl("patch", "job", *of, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A first install on one of several API servers, which serve a kind only some time after its CRD."""
    with ApiServer(servers=2) as api:
        cluster = Cluster(api)
        for name in (SYSTEM, "team-a"):
            cluster.kubectl("create", "namespace", name)
        cluster.kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted")
        command = cluster.command("helm", "install", "optimodel", CHART, f"--namespace={SYSTEM}", "--timeout=100s")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as helm:
            try:
                play(cluster)
            finally:
                said, _ = helm.communicate(timeout=120)
        assert helm.returncode == 0, said
        yield cluster


def runtime_image(cluster: Cluster) -> str:
    return cluster.kubectl("get", "ctrt", "default", "-o", "jsonpath={.spec.image}")


def test_living_objects_survive_upgrade_removal_and_return(cluster: Cluster) -> None:
    sample = (REPO / "manifests" / "samples" / "embedding-canary.yaml").read_text()
    cluster.kubectl("apply", "--server-side", "-f", "-", text=sample)
    uid = cluster.kubectl("get", "om", "minilm", "-n", "team-a", "-o", "jsonpath={.metadata.uid}")
    runtime = cluster.kubectl("get", "ctrt", "default", "-o", "jsonpath={.metadata.uid}")

    assert "cpu-int8" in cluster.kubectl("get", "corec", "-o", "name")
    told = cluster.helm("upgrade", "optimodel", CHART, "--set=images.triton=triton:next")
    assert "this release ships triton:next" in told
    assert runtime_image(cluster) == "optimodel/triton:0.1.0"
    assert cluster.kubectl("get", "ctrt", "default", "-o", "jsonpath={.metadata.uid}") == runtime

    cluster.helm("uninstall", "optimodel")
    assert cluster.run("kubectl", "get", "deployment", "optimodel", "-n", SYSTEM).returncode != 0
    assert cluster.kubectl("get", "om", "minilm", "-n", "team-a", "-o", "jsonpath={.metadata.uid}") == uid
    assert runtime_image(cluster) == "optimodel/triton:0.1.0"
    assert "cpu-int8" in cluster.kubectl("get", "corec", "-o", "name")

    cluster.helm("install", "optimodel", CHART, "--set=images.triton=triton:next")
    assert runtime_image(cluster) == "triton:next"
    assert cluster.kubectl("get", "om", "minilm", "-n", "team-a", "-o", "jsonpath={.metadata.uid}") == uid


def test_an_upgrade_brings_the_schema_along(cluster: Cluster, tmp_path: Path) -> None:
    name = "optimizedmodels.optimodel.dev"
    chart = tmp_path / "optimodel"
    shutil.copytree(CHART, chart)
    path = chart / "files" / "crds" / "optimizedmodels.yaml"
    crd = yaml.safe_load(path.read_text())
    crd["spec"]["versions"][0]["additionalPrinterColumns"].append(
        {"name": "Task", "type": "string", "jsonPath": ".spec.task"}
    )
    path.write_text(yaml.safe_dump(crd))
    cluster.helm("upgrade", "optimodel", str(chart))
    columns = cluster.kubectl("get", "crd", name, "-o", "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}")
    assert columns.split()[-1] == "Task"
    cluster.helm("upgrade", "optimodel", CHART)


def recipe(cluster: Cluster, name: str, path: str) -> str:
    return cluster.kubectl("get", "corec", name, "-o", f"jsonpath={{{path}}}")


def test_an_upgrade_brings_the_recipes_that_the_chart_changed_and_leaves_the_others(
    cluster: Cluster, tmp_path: Path
) -> None:
    chart = tmp_path / "optimodel"
    shutil.copytree(CHART, chart)
    path = chart / "files" / "recipes" / "cpu-int8.yaml"
    document = yaml.safe_load(path.read_text())
    document["spec"]["description"] = "Better."
    path.write_text(yaml.safe_dump(document))
    before = recipe(cluster, "cpu-small", ".metadata.uid")
    cluster.helm("upgrade", "optimodel", str(chart))
    assert recipe(cluster, "cpu-int8", ".spec.description") == "Better."
    again = recipe(cluster, "cpu-int8", ".metadata.uid")
    cluster.helm("upgrade", "optimodel", str(chart))
    assert recipe(cluster, "cpu-int8", ".metadata.uid") == again
    assert recipe(cluster, "cpu-small", ".metadata.uid") == before
    cluster.helm("upgrade", "optimodel", CHART)
    assert recipe(cluster, "cpu-int8", ".spec.description") != "Better."


ALLOWED = [
    ("patch", "optimizedmodels.optimodel.dev"), ("patch", "optimizedmodels.optimodel.dev/status"),
    ("create", "modelrevisions.optimodel.dev"), ("create", "jobs.batch"), ("patch", "deployments.apps"),
    ("delete", "services"), ("create", "events"), ("watch", "pods"), ("delete", "horizontalpodautoscalers.autoscaling"),
    ("create", "networkpolicies.networking.k8s.io"), ("list", "namespaces"),
    ("watch", "customresourcedefinitions.apiextensions.k8s.io"), ("watch", "clustertritonruntimes.optimodel.dev"),
    ("list", "optimizationrecipes.optimodel.dev"), ("watch", "clusteroptimizationrecipes.optimodel.dev"),
]  # fmt: skip
DENIED = [
    ("get", "secrets"), ("list", "secrets"), ("create", "pods"), ("create", "pods/exec"), ("delete", "optimizedmodels.optimodel.dev"),
    ("patch", "clusteroptimizationrecipes.optimodel.dev"), ("patch", "optimizationrecipes.optimodel.dev"),
    ("create", "roles.rbac.authorization.k8s.io"), ("patch", "nodes"), ("delete", "namespaces"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"), ("create", "leases.coordination.k8s.io"),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "resource"), ALLOWED)
def test_the_operator_may(cluster: Cluster, verb: str, resource: str) -> None:
    assert cluster.may(verb, resource)


@pytest.mark.parametrize(("verb", "resource"), DENIED)
def test_the_operator_may_not(cluster: Cluster, verb: str, resource: str) -> None:
    assert not cluster.may(verb, resource)


def test_the_operator_may_hold_its_lease(cluster: Cluster) -> None:
    assert cluster.may("create", "leases.coordination.k8s.io", SYSTEM)
    assert cluster.may("update", "leases.coordination.k8s.io/optimodel", SYSTEM)
    assert not cluster.may("update", "leases.coordination.k8s.io/other", SYSTEM)


def test_the_operator_pod_passes_restricted_admission(cluster: Cluster) -> None:
    deployment = json.loads(cluster.kubectl("get", "deployment", "optimodel", "-n", SYSTEM, "-o", "json"))
    template = deployment["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "as-deployed"}, "spec": template["spec"]}
    pod["spec"]["serviceAccountName"] = "optimodel"
    cluster.kubectl("create", "--dry-run=server", "-n", SYSTEM, "-f", "-", text=json.dumps(pod))
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    refused = cluster.run("kubectl", "create", "--dry-run=server", "-n", SYSTEM, "-f", "-", text=json.dumps(pod))
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_plain_manifests_install_without_helm() -> None:
    with ApiServer() as api:
        cluster = Cluster(api)
        missing = check(api, "--seconds=1")
        assert missing.returncode == 1
        assert "does not serve clusteroptimizationrecipes, clustertritonruntimes, " in missing.stderr
        assert "apply the CRDs" in missing.stderr
        manifests = REPO / "manifests"
        cluster.kubectl("apply", "--server-side", "-f", str(manifests / "install.yaml"))
        ended = check(api)
        assert ended.returncode == 0, ended.stderr
        for name in ("runtime.yaml", "recipes.yaml"):
            cluster.kubectl("apply", "--server-side", "-f", str(manifests / name))
        wanted = yaml.safe_load((manifests / "runtime.yaml").read_text())["spec"]["image"]
        assert runtime_image(cluster) == wanted
