"""The operator's process stays small: it never meets the worker's libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OPERATOR = Path(__file__).resolve().parents[2] / "operator"


def test_the_operator_loads_no_model_library() -> None:
    heavy = ("torch", "transformers", "numpy", "onnx", "onnxruntime", "tritonclient", "google.protobuf")
    code = f"import sys, optimodel.app; print(*(m for m in {heavy!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(OPERATOR)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_source_root_is_no_package() -> None:
    assert not (OPERATOR / "__init__.py").exists(), "it would shadow the standard library's operator"
