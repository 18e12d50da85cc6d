"""The words keep up with the code: links resolve, every reason is explained and exists, every make target is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PACKAGE = REPO / "operator" / "optimodel"
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md"), *(REPO / "charts").rglob("*.md")])
CONDITIONS = REPO / "docs" / "reference" / "conditions.md"

ROOMS = ("plan", "rollout", "recipes", "worker", "artifacts")
"""Where reasons come from."""
ARGUMENT = {
    "Condition": 2,
    "JobState": 1,
    "Problem": 0,
    "Refusal": 0,
    "Result": 1,
    "Trouble": 0,
    "_failed": 0,
    "back": 0,
    "fail": 1,
    "tell": 0,
}
"""Position of the reason in calls that carry one. `Failure` differs between plan and worker."""
STATUSES = ("True", "False", "Unknown")
FOREIGN = frozenset(
    (
        "CreateContainerConfigError",
        "CreateContainerError",
        "DeadlineExceeded",
        "BitShift",
        "BitwiseAnd",
        "DequantizeLinear",
        "DisruptionTarget",
        "ErrImageNeverPull",
        "ErrImagePull",
        "FailureTarget",
        "FailedCreate",
        "ReplicaFailure",
        "AutoModel",
        "AutoModelForImageClassification",
        "AutoModelForSequenceClassification",
        "AutoModelForTokenClassification",
        "ImagePullBackOff",
        "InvalidAccessKeyId",
        "InvalidImageName",
        "MatMul",
        "NoSuchBucket",
        "OpTypesToExcludeOutputQuantization",
        "PodScheduled",
        "QuantizeLinear",
        "RegistryUnavailable",
        "ResolvedRefs",
        "SignatureDoesNotMatch",
        "StoreError",
        "SuccessCriteriaMet",
        "TensorrtExecutionProvider",
        "WordLevel",
        "WordPiece",
    )
)
"""Words of the kubelet, the Job controller, gateways, S3, model files and ONNX Runtime that our code knows and never says; and a
base class."""
HUMPS = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+")
WORD = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)*")


def literals(node: ast.AST | None) -> Iterator[str]:
    """Strings that an expression can be: a literal, or both arms of a conditional."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def at_a_reasons_place(tree: ast.AST, room: str) -> Iterator[str]:
    """Literals in calls that carry a reason, and in tuples like `("False", reason, message)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            place = (1 if room == "plan" else 0) if name == "Failure" else ARGUMENT.get(name)
            if place is not None and len(node.args) > place:
                yield from literals(node.args[place])
        elif isinstance(node, ast.Tuple):
            marks = [
                i
                for i, x in enumerate(node.elts[:2])
                if isinstance(x, (ast.Constant, ast.IfExp)) and set(literals(x)) & set(STATUSES)
            ]
            if marks and len(node.elts) > marks[0] + 2:
                yield from literals(node.elts[marks[0] + 1])


def vocabulary() -> set[str]:
    """Words of the API that are no reasons: kinds, types, phases, metrics, names of classes."""
    found = set()
    for path in (*(PACKAGE / "api").glob("*.py"), PACKAGE / "adapters" / "kinds.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def trees() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            yield room, ast.parse(path.read_text())


def classes(tree: ast.AST) -> set[str]:
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def store_errors() -> set[str]:
    """The class names of store errors are reasons."""
    found, known = set(), {"StoreError"}
    for path in sorted((PACKAGE / "artifacts").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and {getattr(b, "id", "") for b in node.bases} & (known | found):
                found.add(node.name)
    return found


def named_after_roles() -> set[str]:
    """`naming(role)` puts the role before a common ending."""
    tree = ast.parse((PACKAGE / "worker" / "errors.py").read_text())
    table = next(
        n.value for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "_NAMES"
    )
    assert isinstance(table, ast.Dict)
    endings = {word for value in table.values for word in literals(value)}
    return {role + ending for role in ("Source", "Data") for ending in endings}


def reasons() -> set[str]:
    """Every reason that the code can give. Any word of two humps counts, unless it is known to be something else."""
    found, made = store_errors() | named_after_roles(), set(classes_everywhere())
    others = vocabulary() | FOREIGN | made
    for room, tree in trees():
        found |= set(at_a_reasons_place(tree, room))
        words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        found |= {w for w in words if HUMPS.fullmatch(w)} - others
    endings = {"AccessDenied", "NotFound", "Unreachable"}
    return {w for w in found if w not in endings | {"Normal", "Warning"}}


def classes_everywhere() -> Iterator[str]:
    for _, tree in trees():
        yield from classes(tree)


def documented() -> set[str]:
    """Reasons in the first column of the tables below the one of conditions."""
    text = CONDITIONS.read_text().partition("## Progress")[2]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {word for cell in cells for word in re.findall(r"`([A-Za-z]+)`", cell)}


def test_every_reason_is_explained() -> None:
    missing = reasons() - documented()
    assert not missing, f"explain in {CONDITIONS.name} (or add to FOREIGN what another system says): {sorted(missing)}"


def test_every_explained_reason_exists() -> None:
    gone = documented() - reasons()
    assert not gone, f"the code never says {sorted(gone)}"


def test_every_condition_is_explained() -> None:
    tree = ast.parse((PACKAGE / "api" / "conditions.py").read_text())
    types = {
        n.value.value
        for n in tree.body
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant) and isinstance(n.value.value, str)
    }
    assert "Ready" in types
    text = CONDITIONS.read_text().partition("## Progress")[0]
    assert {t for t in types if f"`{t}`" not in text} == set()


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(found), f"{target}: no such heading"


def test_named_make_targets_exist() -> None:
    makefile = (REPO / "Makefile").read_text()
    targets = {word for line in re.findall(r"^([\w %-]+):(?!=)", makefile, re.M) for word in line.split()}
    patterns = [re.compile(re.escape(t).replace("%", ".+")) for t in targets]
    for page in PAGES:
        for named in re.findall(
            r"\bmake (?:-s )?([a-z][a-z0-9-]*)",
            " ".join(re.findall(r"`[^`\n]*`|^    .*$|^make .*$", page.read_text(), re.M)),
        ):
            assert any(p.fullmatch(named) for p in patterns), f"{page.name}: make {named} is no target"


def test_every_decision_is_listed() -> None:
    index = (REPO / "docs" / "adr" / "README.md").read_text()
    assert [p.name for p in sorted((REPO / "docs" / "adr").glob("0*.md")) if p.name not in index] == []
