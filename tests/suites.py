"""`python -m tests.suites [NAME...]`: run suites in turn; the last line says how many tests passed and failed.

A cluster that is not up is brought up for the suite that needs it, and taken down at the end, also after a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from devcluster import cluster, node, sites
from devcluster.paths import REPO

SUITES = ("unit", "chart", "integration", "perf", "worker", "triton", "e2e")
NO_TESTS = 5


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
    if suite == "worker":
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


def run(suite: str, folder: Path, totals: Totals) -> int:
    """Run one suite; its exit code."""
    begun, report = time.monotonic(), folder / f"{suite}.xml"
    print(f"\n== tests/{suite}", flush=True)
    if suite == "e2e" and not prepared():
        totals.failed += 1
        return 1
    command = [sys.executable, "-m", "pytest", "-q", f"tests/{suite}", f"--junit-xml={report}"]
    code = subprocess.run(command, cwd=REPO, env=environment(suite)).returncode
    code = 0 if code == NO_TESTS else code
    totals.add(report)
    print(f"== tests/{suite}: exit code {code} after {time.monotonic() - begun:.0f} s", flush=True)
    return code


def main(names: list[str]) -> int:
    """Run the suites named, or all; 0 when every test passed."""
    totals, codes = Totals(), []
    borrowed = cluster.mode() == "given" or node.running()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in names or SUITES:
                codes.append(run(name, Path(folder), totals))
    finally:
        if "e2e" in (names or SUITES) and not borrowed:
            cluster.down()
    print(totals, flush=True)
    return 1 if any(codes) or totals.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
