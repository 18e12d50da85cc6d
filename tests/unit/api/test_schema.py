"""The CRDs' schemas and the operator's types say the same, field by field, in both directions."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as ins
import pytest
import yaml

from optimodel.api import contract, spec, status

CRDS = Path(__file__).parents[3] / "crds"
KINDS = [
    ("optimizedmodels", "spec", spec.OptimizedModelSpec),
    ("optimizedmodels", "status", status.OptimizedModelStatus),
    ("modelrevisions", "spec", spec.ModelRevisionSpec),
    ("modelrevisions", "status", status.ModelRevisionStatus),
    ("tritonruntimes", "spec", spec.TritonRuntimeSpec),
    ("clustertritonruntimes", "spec", spec.TritonRuntimeSpec),
    ("optimizationrecipes", "spec", spec.RecipeSpec),
    ("clusteroptimizationrecipes", "spec", spec.RecipeSpec),
]
STRICTER = {"spec.rollout.router.parentRefs"}
"""Required by the schema although the type has a default."""


def schema(plural: str) -> dict[str, Any]:
    document = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    return document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


KEYWORDS = {
    "type", "format", "description", "enum", "default", "required", "nullable", "pattern", "properties", "additionalProperties",
    "items", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "anyOf",
}  # fmt: skip
"""What a schema may say, `x-kubernetes-` words beside it: the API server drops what it does not know without a word."""


def unknown(node: dict[str, Any], path: str) -> Iterator[str]:
    yield from (f"{path}: {key}" for key in node if key not in KEYWORDS and not key.startswith("x-kubernetes-"))
    for name, child in (node.get("properties") or {}).items():
        yield from unknown(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from unknown(node[name], f"{path}.{name}")


@pytest.mark.parametrize("path", sorted(CRDS.glob("*.yaml")), ids=lambda p: p.stem)
def test_schemas_say_nothing_that_the_api_server_drops(path: Path) -> None:
    assert list(unknown(schema(path.stem), path.stem)) == []


def unwrap(kind: ins.Type) -> ins.Type:
    if isinstance(kind, ins.UnionType):
        (kind,) = [t for t in kind.types if not isinstance(t, ins.NoneType)]
    return kind


def default_of(field: ins.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    return None if field.default is msgspec.NODEFAULT else msgspec.to_builtins(field.default)


def filled(node: dict[str, Any], value: Any) -> Any:
    """The value as the API server stores it: defaults of the schema applied inside."""
    if isinstance(value, dict) and "properties" in node:
        value = dict(value)
        for name, child in node["properties"].items():
            if name not in value and "default" in child:
                value[name] = child["default"]
            if name in value:
                value[name] = filled(child, value[name])
    return [filled(node["items"], v) for v in value] if isinstance(value, list) else value


def differences(node: dict[str, Any], kind: ins.Type, path: str) -> Iterator[str]:
    kind = unwrap(kind)
    if isinstance(kind, ins.LiteralType):
        if set(node.get("enum", ())) != set(kind.values):
            yield f"{path}: enum {node.get('enum')} is not {kind.values}"
        return
    names = {
        ins.StrType: "string",
        ins.BoolType: "boolean",
        ins.IntType: "integer",
        ins.DictType: "object",
        ins.StructType: "object",
        ins.VarTupleType: "array",
        ins.ListType: "array",
    }
    if node.get("type") != names[type(kind)]:
        yield f"{path}: type {node.get('type')} is not {names[type(kind)]}"
    elif isinstance(kind, ins.VarTupleType):
        yield from differences(node["items"], kind.item_type, f"{path}[]")
    elif isinstance(kind, ins.StructType):
        yield from struct_differences(node, kind, path)


def struct_differences(node: dict[str, Any], kind: ins.StructType, path: str) -> Iterator[str]:
    fields = {f.encode_name: f for f in kind.fields}
    properties = node["properties"]
    for name in fields.keys() ^ properties.keys():
        yield f"{path}.{name}: only in the {'types' if name in fields else 'schema'}"
    required = {n for n, f in fields.items() if f.required}
    for name in required ^ set(node.get("required", ())):
        if f"{path}.{name}" not in STRICTER:
            yield f"{path}.{name}: required in one of schema and types only"
    for name in fields.keys() & properties.keys():
        yield from differences(properties[name], fields[name].type, f"{path}.{name}")
        yield from default_differences(properties[name], fields[name], f"{path}.{name}")


def default_differences(node: dict[str, Any], field: ins.Field, path: str) -> Iterator[str]:
    if path.startswith("status"):
        if "default" in node:
            yield f"{path}: a status has no defaults"
        return
    ours, theirs = default_of(field), filled(node, node["default"]) if "default" in node else None
    kind = unwrap(field.type)
    if ours in (None, [], "", ()) and theirs is None:
        return
    ours = msgspec.to_builtins(ours, builtin_types=())
    if isinstance(ours, tuple):
        ours = list(ours)
    if isinstance(kind, ins.StructType):
        ours, theirs = (msgspec.convert(v, kind.cls) for v in (ours, theirs))
    elif isinstance(kind, ins.VarTupleType) and isinstance(kind.item_type, ins.StructType):
        cls = tuple[kind.item_type.cls, ...]  # type: ignore[name-defined]
        ours, theirs = (msgspec.convert(v, cls) for v in (ours, theirs))
    if ours != theirs:
        yield f"{path}: default {theirs!r} is not {ours!r}"


@pytest.mark.parametrize(("plural", "part", "cls"), KINDS)
def test_schema_and_types_agree(plural: str, part: str, cls: type[msgspec.Struct]) -> None:
    assert list(differences(schema(plural)["properties"][part], ins.type_info(cls), part)) == []


def looser(node: dict[str, Any], kind: ins.Type, path: str) -> Iterator[str]:
    """Where a type takes what the schema does not."""
    kind = unwrap(kind)
    if isinstance(kind, ins.StrType) and kind.max_length != node["maxLength"]:
        yield f"{path}: {kind.max_length} is not {node['maxLength']} characters"
    elif isinstance(kind, ins.IntType):
        bits = int(node["format"].removeprefix("int")) - 1
        ours, theirs = (kind.ge, kind.le), (node.get("minimum", -(2**bits)), node.get("maximum", 2**bits - 1))
        if ours != theirs:
            yield f"{path}: {ours} is not {theirs}"
    elif isinstance(kind, ins.VarTupleType):
        if kind.max_length != node["maxItems"]:
            yield f"{path}: {kind.max_length} is not {node['maxItems']} items"
        yield from looser(node["items"], kind.item_type, f"{path}[]")
    elif isinstance(kind, ins.DictType):
        if kind.max_length != node["maxProperties"]:
            yield f"{path}: {kind.max_length} is not {node['maxProperties']} members"
        yield from looser(node["additionalProperties"], kind.value_type, f"{path}[]")
    elif isinstance(kind, ins.StructType):
        for field in kind.fields:
            yield from looser(node["properties"][field.encode_name], field.type, f"{path}.{field.encode_name}")


def test_what_a_worker_tells_is_bounded_as_the_status_that_takes_it() -> None:
    """A termination message and a progress page are the tenant's to write; a status that is refused would block its object."""
    takes = schema("modelrevisions")["properties"]["status"]["properties"]
    own = schema("optimizedmodels")["properties"]["status"]["properties"]
    told = {f.encode_name: f.type for f in ins.type_info(contract.Result).fields}  # type: ignore[attr-defined]
    found = [each for name in takes.keys() & told.keys() for each in looser(takes[name], told[name], name)]
    found += looser(own["attempt"]["properties"]["pins"], told["pins"], "pins")
    found += [x for n in ("component", "reason") for x in looser(own["lastFailure"]["properties"][n], told[n], n)]
    page = {f.encode_name: f.type for f in ins.type_info(contract.Progress).fields}  # type: ignore[attr-defined]
    assert found == [] and list(looser(own["steps"], page["steps"], "page")) == []


def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if word in node:
            yield from walk(node[word], f"{path}[]")


@pytest.mark.parametrize("plural", sorted({k[0] for k in KINDS}))
def test_everything_is_bounded_and_described(plural: str) -> None:
    bare = []
    for path, node in walk(schema(plural)["properties"]["spec"], "spec"):
        bound = {"string": "maxLength", "array": "maxItems"}.get(node.get("type", ""))
        if bound and bound not in node and "enum" not in node:
            bare.append(f"{path}: no {bound}")
        if "additionalProperties" in node and "maxProperties" not in node:
            bare.append(f"{path}: no maxProperties")
        if "x-kubernetes-preserve-unknown-fields" in node:
            bare.append(f"{path}: keeps unknown fields")
        if "description" not in node and not path.endswith("[]"):
            bare.append(f"{path}: no description")
    assert bare == []


MEMBER = re.compile(r"!has\(self\.(\w+)\) \|\| self\.type == ")
KEY = re.compile(r"self\.all\(k, size\(k\) <= (\d+)\)")
EITHER = re.compile(r"!has\(self\.(\w+)\) \|\| !has\(self\.(\w+)\)$")
ONE_OF_TWO = re.compile(r"has\(self\.(\w+)\) != has\(self\.(\w+)\)$")
ONE_OF_THREE = re.compile(
    r"\[has\(self\.(\w+)\), has\(self\.(\w+)\), has\(self\.(\w+)\)\]\.filter\(x, x\)\.size\(\) == 1$"
)
EXCLUSIVE = (EITHER, ONE_OF_TWO, ONE_OF_THREE)
ALONE = re.compile(r"!has\(self\.(\w+)\) \|\| \(.* && !has\(self\.(\w+)\) && !has\(self\.(\w+)\)\)$")


def largest(node: dict[str, Any]) -> int:
    """Characters of the largest JSON text that the schema lets through; a map's keys are bounded by a rule, and of members
    that belong to one `type` each there is one."""
    if "enum" in node:
        return max(len(str(v)) for v in node["enum"]) + 2
    if node.get("type") == "array":
        return 2 + node["maxItems"] * (largest(node["items"]) + 1)
    if "additionalProperties" in node:
        (key,) = [int(n) for rule in node["x-kubernetes-validations"] for n in KEY.findall(rule["rule"])]
        return 2 + node["maxProperties"] * (key + 4 + largest(node["additionalProperties"]))
    if node.get("type") == "object":
        sizes = {name: len(name) + 4 + largest(child) for name, child in node["properties"].items()}
        rules = [rule["rule"] for rule in node.get("x-kubernetes-validations", ())]
        either = [sizes.pop(found[1]) for rule in rules if (found := MEMBER.match(rule))]
        groups = [found.groups() for rule in rules for form in EXCLUSIVE if (found := form.match(rule))]
        exclusive = [max(sizes.pop(name) for name in group) for group in groups]
        alone = [[sizes.pop(name) for name in found.groups()] for rule in rules if (found := ALONE.match(rule))]
        exclusive += [max(one, sum(others)) for one, *others in alone]
        return 2 + sum(sizes.values()) + max(either, default=0) + sum(exclusive)
    return node["maxLength"] + 2 if "maxLength" in node else len(str(node.get("maximum", 10**19)))


def test_no_spec_of_200_kb_can_pass() -> None:
    assert largest(schema("optimizedmodels")["properties"]["spec"]) < 200_000


def durations(text: str) -> set[str]:
    """Fields of an OptimizedModel's spec that take a duration, where this one passes every rule."""
    found = set()
    for path, node in walk(schema("optimizedmodels")["properties"]["spec"], "spec"):
        rules = [rule["rule"] for rule in node.get("x-kubernetes-validations", ()) if "matches" in rule["rule"]]
        patterns = [node.get("pattern", ""), *(word for rule in rules for word in MATCHES.findall(rule))]
        if any("[smh]" in word or "}s)" in word for word in patterns) and all(re.search(w, text) for w in patterns):
            found.add(path)
    return found


MATCHES = re.compile(r'self\.matches\("([^"]+)"\)')


def test_a_duration_may_be_zero_where_zero_means_at_once() -> None:
    at_once = {"spec.rollout.steps[].minDuration", "spec.rollout.drain"}
    needed = {"spec.optimization.timeout", "spec.optimization.auto.timeout", "spec.rollout.progressDeadline"}
    assert durations("10s") == durations("1h30m") == at_once | needed
    assert durations("0s") == durations("0h0m") == at_once


PARAMETER = "|[$][(][a-z0-9]([-a-z0-9]*[a-z0-9])?[)]"


def narrowed(node: Any) -> Any:
    """A recipe's schema with its parameters taken out, and a model's likewise: what is left says the same."""
    if isinstance(node, list):
        return [narrowed(item) for item in node]
    if not isinstance(node, dict):
        return node.replace(PARAMETER, "").removesuffix(", or a parameter") if isinstance(node, str) else node
    dropped = {"maxLength"} | ({"default", "description"} if node.get("type") == "array" else set())
    return {name: narrowed(child) for name, child in node.items() if name not in dropped}


@pytest.mark.parametrize("plural", ["optimizationrecipes", "clusteroptimizationrecipes"])
@pytest.mark.parametrize("field", ["steps", "gates"])
def test_a_recipe_holds_what_a_model_holds(plural: str, field: str) -> None:
    ours = schema(plural)["properties"]["spec"]["properties"][field]
    theirs = schema("optimizedmodels")["properties"]["spec"]["properties"]["optimization"]["properties"][field]
    assert narrowed(ours) == narrowed(theirs)
    assert PARAMETER in str(ours) and PARAMETER not in str(theirs)


@pytest.mark.parametrize("path", sorted(CRDS.glob("*.yaml")), ids=lambda p: p.stem)
def test_crd_files_stay_small(path: Path) -> None:
    assert path.stat().st_size < 100_000
