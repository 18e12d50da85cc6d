"""A real run leaves its report, the page and the card in the store, also when a gate was missed."""

from __future__ import annotations

import msgspec
import pytest
from tests import inputs
from tests.unit.worker.test_report import Page
from tests.worker import jobs, tiny

from optimodel.api.contract import ExitCode
from optimodel.api.spec import Gate
from optimodel.api.steps import Step
from optimodel.worker import report
from optimodel.worker.report import Report

STEPS = (Step("graph", "Export"), Step("int8", "Quantize"))
LABELS = ["place", "<b>book</b>"]


@pytest.mark.timeout(300)
def test_page_and_card_lie_beside_the_report(workers, tmp_path):
    tiny.save("bert", tmp_path / "tiny", LABELS)
    rows = [(LABELS[n % 2], f"what is word{n} of word{n + 7}") for n in range(60)]
    jobs.write_rows(tmp_path / "rows.jsonl", rows)
    (tmp_path / "store").mkdir()
    gates = (Gate("held", "Accuracy", data="rows", max_drop="0.5"),)
    data = (inputs.dataset(tmp_path, "rows"),)
    wanted = inputs.job(tmp_path, *STEPS, model="questions", revision="r1", gates=gates, data=data)
    missed = Gate("tiny", "SizeRatio", max="0.01")
    for evaluation, gates, code in (("e1", wanted.gates, ExitCode.OK), ("e2", (*wanted.gates, missed), ExitCode.GATE)):
        asked = msgspec.structs.replace(wanted, evaluation=evaluation, gates=gates)
        found, result, log = jobs.fork(workers, asked, tmp_path / "work")
        assert found == code, log
        assert result.report == f"reports/r1-{evaluation}.json"
        place = tmp_path / "store" / "team-a" / "reports"
        text, card = ((place / f"r1-{evaluation}.{end}").read_text() for end in ("html", "md"))
        page, verdict = Page(text), "Pass" if code == ExitCode.OK else "Fail"
        assert page.table("gates")["held"][1] == "Pass"
        assert page.table("gates").get("tiny", ["", "Pass"])[1] == verdict
        assert {"graph", "int8"} <= set(page.table("lineage"))
        assert page.table("lineage")["int8"][1] == result.artifact.digest
        assert page.table("steps")["int8"][0] == ("Done" if code == ExitCode.OK else "Cached")
        assert sum(int(row[0]) for row in page.table("labels").values()) == 60
        assert set(page.table("labels")) == set(LABELS) and "<b>" not in text
        assert page.table("versions")["onnxruntime"][0].count(".") == 2
        assert result.artifact.digest in card and "word7" not in text + card
        stored = msgspec.json.decode((place / f"r1-{evaluation}.json").read_bytes(), type=Report)
        assert (report.page(stored), report.card(stored)) == (text, card)
