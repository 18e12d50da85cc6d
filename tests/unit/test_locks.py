"""The worker and Triton's image run graphs with one ONNX Runtime: what a Job verified is what is served."""

from __future__ import annotations

import re

import pytest
from devcluster import sites
from devcluster.paths import REPO


def pinned(lock: str, package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (REPO / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE)
    assert found, f"{lock}.txt does not pin {package}"
    return found[1]


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_worker_and_triton_have_the_same(package: str) -> None:
    assert pinned("worker", package) == pinned("triton", package)


@pytest.mark.parametrize("tool", ["bench-optimum", "bench-olive"])
@pytest.mark.parametrize("package", ["torch", "onnx", "onnxruntime", "numpy"])
def test_tools_are_compared_on_the_worker_s_own_libraries(tool: str, package: str) -> None:
    assert pinned(tool, package) == pinned("worker", package)


def test_a_site_beside_another_installs_what_the_other_lacks_and_links_the_rest() -> None:
    lock = "a==1 \\\n    --hash=sha256:aa\nB.c==2 \\\n    --hash=sha256:bb\nd==3 \\\n    --hash=sha256:dd"
    own, shared = sites.divided(lock, "d==3 \\\n    --hash=sha256:dd\na==2 \\\n    --hash=sha256:a2\nB.c==2")
    assert own == "a==1 \\\n    --hash=sha256:aa"
    assert shared == {"b-c", "d"}
