"""`python -m tests.suites [NAME...]`: run suites; the last line says how many tests passed and failed.

Suites named run in turn. All of them run in two lanes, because one mostly waits and the other mostly computes; what counts
seconds runs alone after them. A cluster that is not up is brought up for the suite that needs it, and taken down at the end,
also after a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from devcluster import cluster, node, sites
from devcluster.paths import REPO

LANES = ("unit", "chart", "integration", "worker-2"), ("worker-1", "triton")
ALONE = ("perf", "e2e")
SECOND = [f"tests/worker/test_{name}.py" for name in ("decoder_training", "kills", "peers", "search")]
"""What the lane that mostly waits takes of the worker's suite, by far the longest, when its own are done."""
PATHS = {"worker-1": ["tests/worker", *(f"--ignore={path}" for path in SECOND)], "worker-2": SECOND}
NO_TESTS = 5
SLOWEST = 8


@dataclass
class Totals:
    """Counts over all suites; an error counts as failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, report: Path) -> None:
        """Add the counts of a JUnit report; a suite that left none failed."""
        if not report.exists():
            self.failed += 1
            return
        for suite in ET.parse(report).getroot().iter("testsuite"):
            count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
            bad = count["failures"] + count["errors"]
            self.failed += bad
            self.skipped += count["skipped"]
            self.passed += count["tests"] - bad - count["skipped"]

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def environment(suite: str) -> dict[str, str]:
    """Variables of a suite; that of the worker gets the worker's libraries."""
    found = dict(os.environ)
    if suite.startswith("worker"):
        found["PYTHONPATH"] = str(sites.site("worker"))
    if suite == "e2e":
        found["KUBECONFIG"] = str(cluster.kubeconfig())
    return found


def prepared() -> bool:
    """Whether the cluster is up and has the images."""
    try:
        cluster.up()
    except SystemExit as error:
        print(error, flush=True)
        return False
    return subprocess.run(["make", "-s", "images"], cwd=REPO).returncode == 0


def run(suite: str, folder: Path, output: IO[str] | None = None) -> int:
    """Run one suite, its words to `output` (None = ours); its exit code."""
    begun = time.monotonic()
    print(f"\n== {suite}", file=output, flush=True)
    if suite == "e2e" and not prepared():
        return 1
    options = ["-q", f"--durations={SLOWEST}", "--durations-min=5", f"--junit-xml={folder / suite}.xml"]
    command = [sys.executable, "-m", "pytest", *PATHS.get(suite, [f"tests/{suite}"]), *options]
    code = subprocess.run(command, cwd=REPO, env=environment(suite), stdout=output, stderr=output).returncode
    code = 0 if code == NO_TESTS else code
    print(f"== {suite}: exit code {code} after {time.monotonic() - begun:.0f} s", file=output, flush=True)
    return code


def beside(suites: Sequence[str], folder: Path) -> tuple[list[int], str]:
    """Run a lane while another has the terminal; its exit codes and its words."""
    with tempfile.TemporaryFile("w+") as output:
        codes = [run(name, folder, output) for name in suites]
        output.seek(0)
        return codes, output.read()


def run_all(folder: Path) -> list[int]:
    """Run every suite; the exit codes."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(beside, LANES[1], folder)
        codes = [run(name, folder) for name in LANES[0]]
        print("\n== the lane beside it", flush=True)
        others, words = other.result()
    print(words, flush=True)
    return codes + others + [run(name, folder) for name in ALONE]


def main(names: list[str]) -> int:
    """Run the suites named, or all; 0 when every test passed."""
    totals = Totals()
    borrowed = cluster.mode() == "given" or node.running()
    try:
        with tempfile.TemporaryDirectory() as path:
            folder = Path(path)
            codes = [run(name, folder) for name in names] if names else run_all(folder)
            for name in names or (*LANES[0], *LANES[1], *ALONE):
                totals.add(folder / f"{name}.xml")
    finally:
        if "e2e" in (names or ALONE) and not borrowed:
            cluster.down()
    print(totals, flush=True)
    return 1 if any(codes) or totals.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
