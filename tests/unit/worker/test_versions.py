"""Versions of tools, as an image with other builds of them has them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from optimodel.worker.versions import version


def install(site: Path, name: str, number: str) -> None:
    """As far as anybody asks for its version."""
    told = site / f"{name.replace('-', '_')}-{number}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")


def test_another_build_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PackageNotFoundError, match="onnxruntime"):
        version("onnxruntime")
    install(tmp_path, "onnxruntime-gpu", "1.99.0")
    monkeypatch.syspath_prepend(tmp_path)
    assert version("onnxruntime") == "1.99.0 (onnxruntime-gpu)"
    install(tmp_path, "onnxruntime", "1.98.0")
    assert version("onnxruntime") == "1.98.0"
