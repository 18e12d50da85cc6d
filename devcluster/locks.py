"""Resolve ``requirements/*.in`` into hash-locked ``requirements/*.txt`` that name no package index."""

from __future__ import annotations

import os
import subprocess

from devcluster.paths import REPO

ORDER = {
    "base": [],
    "dev": ["base"],
    "worker": ["base"],
    "triton": [],
    "cluster": [],
    "bench-optimum": [],
    "bench-olive": [],
}
OPTIONS = ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header"]
TARGET = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36"]


def main() -> None:
    """Compile every lock; versions already locked stay unless the ``.in`` file rules them out."""
    folder = REPO / "requirements"
    for name, constraints in ORDER.items():
        command = [str(REPO / ".venv" / "bin" / "uv"), "pip", "compile", "--quiet", *OPTIONS, *TARGET]
        for other in constraints:
            command += ["-c", f"{other}.txt"]
        command += [f"{name}.in", "-o", f"{name}.txt"]
        subprocess.run(command, check=True, cwd=folder, env={"UV_SYSTEM_CERTS": "1", **os.environ})


if __name__ == "__main__":
    main()
