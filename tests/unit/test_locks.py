"""The worker and Triton's image run graphs with one ONNX Runtime: what a Job verified is what is served."""

from __future__ import annotations

import re

import pytest
from devcluster.paths import REPO


def pinned(lock: str, package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (REPO / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE)
    assert found, f"{lock}.txt does not pin {package}"
    return found[1]


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_worker_and_triton_have_the_same(package: str) -> None:
    assert pinned("worker", package) == pinned("triton", package)
