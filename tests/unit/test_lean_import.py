"""The operator's process stays small: it never meets the worker's libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OPERATOR = Path(__file__).resolve().parents[2] / "operator"


def printed(code: str) -> list[str]:
    """Words that a fresh interpreter prints."""
    environ = {"PYTHONPATH": str(OPERATOR)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_operator_loads_no_model_library() -> None:
    heavy = ("torch", "transformers", "numpy", "onnx", "onnxruntime", "tritonclient", "google.protobuf")
    assert printed(f"import sys, optimodel.app; print(*(m for m in {heavy!r} if m in sys.modules))") == []


def test_the_worker_starts_no_thread_before_it_can_be_told_to_stop() -> None:
    """A thread that a library starts without the mask of `on_terminate` would take SIGTERM by its default."""
    assert printed("import os, optimodel.worker.__main__; print(len(os.listdir('/proc/self/task')))") == ["1"]


def test_the_source_root_is_no_package() -> None:
    assert not (OPERATOR / "__init__.py").exists(), "it would shadow the standard library's operator"
