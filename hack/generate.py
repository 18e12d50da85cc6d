"""Files that follow from others: the chart's copy of the CRDs, the rendered manifests, and the API reference.

`python3 -m hack.generate` writes them; with `--check` it writes nothing and fails if one has drifted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from devcluster.binaries import binary

REPO = Path(__file__).resolve().parents[1]
CRDS = REPO / "crds"
CHART = REPO / "charts" / "optimodel"
NAMESPACE = """apiVersion: v1
kind: Namespace
metadata:
  name: optimodel-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
BANNER = "# Rendered from charts/optimodel by `make generate`; do not edit.\n"
KUBERNETES = "1.35.4"


def render(*flags: str) -> str:
    """What Helm renders from the chart."""
    command = [str(binary("helm")), "template", "optimodel", str(CHART), "--namespace=optimodel-system"]
    command += [f"--kube-version={KUBERNETES}", *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def files() -> dict[Path, str]:
    """Every generated file and its text. The CRDs come first: the rendering reads the chart's copies."""
    found = {CHART / "files" / "crds" / path.name: path.read_text() for path in sorted(CRDS.glob("*.yaml"))}
    found[REPO / "docs" / "reference" / "api.md"] = reference()
    return found


def rendered() -> dict[Path, str]:
    """The manifests; read the chart's copies of the CRDs."""
    folder = REPO / "manifests"
    runtime = yaml.safe_load(render("--show-only=templates/runtime.yaml"))
    del runtime["metadata"]["annotations"]
    install = render("--set=runtime.create=false,recipes.install=false")
    recipes = list(yaml.safe_load_all(render("--show-only=templates/recipes.yaml")))
    for recipe in recipes:
        del recipe["metadata"]["annotations"]
    return {
        folder / "install.yaml": f"{BANNER}{NAMESPACE}{install}",
        folder / "runtime.yaml": BANNER + yaml.safe_dump(runtime, sort_keys=False),
        folder / "recipes.yaml": BANNER + yaml.safe_dump_all(recipes, sort_keys=False),
    }


def reference() -> str:
    """The API reference in Markdown."""
    order = ["optimizedmodels", "modelrevisions", "clusteroptimizationrecipes", "optimizationrecipes"]
    order += ["clustertritonruntimes", "tritonruntimes"]
    lines = [
        "# API reference",
        "",
        "Generated from `crds/` by `make generate`. Group `optimodel.dev`, version `v1alpha1`.",
        "",
    ]
    for plural in order:
        crd = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())["spec"]
        schema = crd["versions"][0]["schema"]["openAPIV3Schema"]
        names = crd["names"]
        lines += [
            f"## {names['kind']}",
            "",
            f"{schema['description']} {crd['scope']}; short name `{names['shortNames'][0]}`.",
            "",
        ]
        lines += [f"- {rule['message']}" for rule in schema.get("x-kubernetes-validations", ())] + [""]
        for part in ("spec", "status"):
            if part in schema["properties"]:
                lines += [
                    f"### {names['kind']} {part}",
                    "",
                    "| Field | Type | Default | Meaning |",
                    "|---|---|---|---|",
                ]
                lines += [*rows(schema["properties"][part], part), ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def rows(node: dict[str, Any], path: str) -> Iterator[str]:
    """Table rows of the fields below `node`."""
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}"
        mark = " **required**" if name in node.get("required", ()) else ""
        yield f"| `{here}` | {kind(child)}{mark} | {default(child)} | {meaning(child)} |"
        yield from rows(child.get("items", child), here + ("[]" if "items" in child else ""))


def kind(node: dict[str, Any]) -> str:
    """The type in words."""
    if "enum" in node:
        return " \\| ".join(f"`{v}`" for v in node["enum"])
    if node["type"] == "array":
        return f"list of {kind(node['items'])}, at most {node['maxItems']}"
    if "additionalProperties" in node:
        return f"map, at most {node['maxProperties']}"
    if "minimum" in node or "maximum" in node:
        return f"{node['type']}, {node.get('minimum', '…')} to {node.get('maximum', '…')}"
    return str(node["type"])


def default(node: dict[str, Any]) -> str:
    """The default as YAML; blank where there is none or it is an empty object."""
    value = node.get("default")
    return (
        ""
        if value in (None, {})
        else f"`{yaml.safe_dump(value, default_flow_style=True).strip().removesuffix('...').strip()}`"
    )


def meaning(node: dict[str, Any]) -> str:
    """The description and the rules."""
    found = [node.get("description", ""), *(f"Rule: {r['message']}." for r in node.get("x-kubernetes-validations", ()))]
    return " ".join(found).replace("|", "\\|").replace("\n", " ")


def write(wanted: dict[Path, str], check: bool) -> list[str]:
    """Write what differs; return the names of what differed."""
    drifted = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    for path in drifted if not check else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    return [str(p.relative_to(REPO)) for p in drifted]


def main() -> int:
    """Generate, or check with `--check`."""
    check = "--check" in sys.argv
    drifted = write(files(), check) + write(rendered(), check)
    if check and drifted:
        print(f"out of date, run `make generate`: {', '.join(drifted)}", file=sys.stderr)
    return 1 if check and drifted else 0


if __name__ == "__main__":
    raise SystemExit(main())
