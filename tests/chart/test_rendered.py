"""What the chart renders: restricted pods, no wildcards, no Secrets, and an environment that the operator understands."""

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from devcluster.binaries import binary
from hack.generate import files, render, rendered, write

from optimodel.adapters.kinds import WATCHED
from optimodel.api.spec import TritonRuntimeSpec
from optimodel.settings import Settings

REPO = Path(__file__).parents[2]
Object = dict[str, Any]
LIBRARY = {p.stem for p in (REPO / "charts" / "optimodel" / "files" / "recipes").glob("*.yaml")}


def objects(*flags: str) -> list[Object]:
    return [d for d in yaml.safe_load_all(render(*flags)) if d]


def only(found: list[Object], kind: str) -> Object:
    (one,) = [o for o in found if o["kind"] == kind]
    return one


def rules(found: list[Object]) -> list[Object]:
    return [rule for o in found if o["kind"] in ("Role", "ClusterRole") for rule in o.get("rules", ())]


def operator_rules(found: list[Object]) -> list[Object]:
    return rules([o for o in found if o["metadata"]["name"] in ("optimodel-operator", "optimodel-leader")])


def environment(found: list[Object]) -> dict[str, str]:
    (container,) = only(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {e["name"]: e.get("value", "from the pod") for e in container["env"]}


def test_operator_meets_the_restricted_standard() -> None:
    pod = only(objects(), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert [list(v) for v in pod["volumes"]] == [["name", "emptyDir"]]


def test_a_runtime_for_gpus_is_made_where_it_is_wanted() -> None:
    def runtimes(*flags: str) -> list[Object]:
        return [o for o in objects(*flags) if o["kind"] == "ClusterTritonRuntime"]

    assert [o["metadata"]["name"] for o in runtimes()] == ["default"]
    wanted = ("--set=runtime.gpu.create=true", "--set=runtime.gpu.resource=nvidia.com/mig-1g.10gb")
    found = {o["metadata"]["name"]: o for o in runtimes(*wanted, "--set=images.tritonGpu=team/triton:1")}
    spec = msgspec.convert(found["triton-gpu"]["spec"], TritonRuntimeSpec)
    assert (spec.image, spec.accelerators) == ("team/triton:1", ("CUDA", "TensorRT"))
    assert spec.accelerator_resource == "nvidia.com/mig-1g.10gb"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        runtimes(*wanted)
    assert "images.tritonGpu: name an image" in str(caught.value.stderr)


@pytest.mark.parametrize("flags", [(), ("--set=watchNamespaces={team-a,team-b}",)])
def test_no_wildcards_and_no_secrets(flags: tuple[str, ...]) -> None:
    found = rules(objects(*flags))
    assert found
    words = {w for rule in found for part in ("apiGroups", "resources", "verbs") for w in rule[part]}
    assert not {w for w in words if "*" in w}
    assert not words & {"secrets", "pods/exec", "escalate", "bind", "impersonate", "serviceaccounts/token"}
    assert not {"webhook" for w in words if "webhook" in w}


@pytest.mark.parametrize("flags", [(), ("--set=watchNamespaces={team-a}",)])
def test_every_watched_kind_may_be_watched(flags: tuple[str, ...]) -> None:
    allowed = {
        (group, resource)
        for rule in operator_rules(objects(*flags))
        if {"get", "list", "watch"} <= set(rule["verbs"])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert {(k.group, k.plural) for k in WATCHED} <= allowed


def test_the_operator_reads_its_environment() -> None:
    env = environment(objects("--set=watchNamespaces={team-a,team-b}", "--set=networkPolicy.gatewayNamespace=edge"))
    settings = Settings.read(env)
    assert settings.namespaces == ("team-a", "team-b")
    assert settings.health_port == 8081
    assert settings.platform.network_policy
    assert settings.platform.gateway_namespace == "edge"
    assert settings.platform.worker_image == "optimodel/worker:0.1.0"
    assert settings.platform.operator_image == "optimodel/operator:0.1.0"
    assert settings.platform.worker_images == {}


def test_the_operator_reads_the_images_that_steps_may_name() -> None:
    flags = "--set=images.workers.gpu=team/worker-gpu:1,images.workers.big=team/worker@sha256:2"
    found = Settings.read(environment(objects(flags))).platform
    assert found.worker_images == {"gpu": "team/worker-gpu:1", "big": "team/worker@sha256:2"}
    assert found.worker_image == "optimodel/worker:0.1.0"
    assert Settings.read(environment(objects("--set=images.workers=null"))).platform.worker_images == {}
    for bad in ("gpu=x", '{"gpu": ""}', '{"gpu": 1}'):
        with pytest.raises(ValueError, match="OPTIMODEL_WORKER_IMAGES must be a JSON object"):
            Settings.read(environment(objects()) | {"OPTIMODEL_WORKER_IMAGES": bad})


def test_every_variable_is_known_to_the_operator() -> None:
    text = "".join(p.read_text() for p in (REPO / "operator" / "optimodel").rglob("*.py"))
    assert [name for name in environment(objects()) if name.removeprefix("OPTIMODEL_") not in text] == []


def test_images_are_values() -> None:
    found = objects("--set=images.operator=a/b@sha256:1,images.triton=c/d:2")
    (container,) = only(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "a/b@sha256:1"
    assert only(found, "ClusterTritonRuntime")["spec"]["image"] == "c/d:2"


def test_crds_stay_when_the_release_goes() -> None:
    crds = [o for o in objects() if o["kind"] == "CustomResourceDefinition"]
    assert len(crds) == 6
    assert all(c["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for c in crds)
    assert not [o for o in objects("--set=crds.install=false") if o["kind"] == "CustomResourceDefinition"]


@pytest.mark.parametrize(
    "flag",
    [
        "replicas=3",
        "networkPolicy.gatewayNamespace=",
        "images.operater=x",
        "images.workers.GPU=x",
        "images.workers.gpu=",
        "operator.logLevel=LOUD",
    ],
)
def test_bad_values_are_refused(flag: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(f"--set={flag}")
    assert flag.partition("=")[0].split(".")[-1] in refused.value.stderr


def test_generated_files_have_not_drifted() -> None:
    assert write(files(), check=True) + write(rendered(), check=True) == []


def test_recipes_come_in_a_hook_unless_left_out() -> None:
    kind = "ClusterOptimizationRecipe"
    assert [o for o in objects("--set=recipes.install=false") if o["kind"] == kind] == []
    found = [o["metadata"] for o in objects() if o["kind"] == kind]
    assert {m["name"] for m in found} == LIBRARY
    assert {m["annotations"]["helm.sh/hook"] for m in found} == {"post-install,post-upgrade"}
    assert len({m["annotations"]["optimodel.dev/chart-sum"] for m in found}) == len(LIBRARY)


def test_kubeconform_knows_the_samples(tmp_path: Path) -> None:
    for path in (REPO / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())["spec"]
        schema = crd["versions"][0]["schema"]["openAPIV3Schema"]
        (tmp_path / f"{crd['names']['singular']}_v1alpha1.json").write_text(json.dumps(closed(schema)))
    location = f"{tmp_path}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"
    command = [str(binary("kubeconform")), "-strict", "-summary", f"-schema-location={location}"]
    files = [*(REPO / "manifests" / "samples").glob("*.yaml"), REPO / "manifests" / "recipes.yaml"]
    documents = sum(len([d for d in yaml.safe_load_all(f.read_text()) if d]) for f in files)
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Valid: {documents}, Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


def closed(node: Object) -> Object:
    """The schema with unknown fields refused, as the API server's field validation refuses them."""
    node = dict(node)
    if "properties" in node:
        node["properties"] = {name: closed(child) for name, child in node["properties"].items()}
        node["additionalProperties"] = False
    if "items" in node:
        node["items"] = closed(node["items"])
    return node
