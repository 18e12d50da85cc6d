"""The harness of `make bench-tools`: what it asks of each tool, what it takes for a failure, and what it prints."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.perf import tools, tools_build, tools_clock, tools_ours, tools_report
from tests.perf.tools_arms import PLAIN, Arm, Subject, arms
from tests.perf.tools_build import Built
from tests.perf.tools_clock import Block

from optimodel import recipes
from optimodel.api.spec import Shape
from optimodel.recipes import search


@pytest.mark.parametrize("subject", ["embedding", "classifier"])
def test_every_variant_asks_for_something_legal(subject: Subject, tmp_path: Path) -> None:
    found = arms(subject)
    assert found[0].name == PLAIN and len({arm.name for arm in found}) == len(found)
    for arm in found:
        if "olive.json" in arm.files:
            assert json.loads(arm.files["olive.json"])["passes"]
        if "model.yaml" in arm.files:
            job = tools_ours.job(arm.files["model.yaml"], tmp_path)
            assert not recipes.check(job.task, job.steps, job.gates, job.data)
            assert not search.check(job.auto, job.task, job.steps, job.gates, job.data)
        if "quantize.py" in arm.files:
            compile(arm.files["quantize.py"], arm.name, "exec")
        assert "{task}" not in str(arm) and "{cpu}" not in str(arm)


def built(folder: Path, script: str, budget: float = 60.0) -> Built:
    """What comes of a tool that is this script."""
    sources = folder / "sources"
    sources.mkdir()
    for name in tools_build.KEPT:
        (sources / name).touch()
    arm = Arm("tool", "worker", ("python tool.py",), "out/model.onnx", {"tool.py": script})
    return tools_build.build(arm, sources, folder / "place", budget)


def test_a_graph_has_its_size_and_its_cost(tmp_path: Path) -> None:
    script = "import pathlib; pathlib.Path('out').mkdir(); pathlib.Path('out/model.onnx').write_bytes(bytes(2_000_000))"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as small:  # a child begins with its parent's peak
        found = small.submit(built, tmp_path, f"kept = b'x' * (200 << 20)\n{script}").result()
    assert (found.megabytes, found.failure) == (2.0, "")
    assert 200 <= found.peak_mib <= 400 and 0 < found.cpu_seconds <= found.seconds + 1


def test_an_exit_code_of_zero_without_a_graph_is_a_failure_with_its_cause(tmp_path: Path) -> None:
    found = built(tmp_path, "print('ValueError: no such pass'); print('done')")
    assert found.failure == "exit code 0, and no out/model.onnx: ValueError: no such pass"


def test_a_tool_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    child = "import time, pathlib; time.sleep(3); pathlib.Path('late').touch()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    found = built(tmp_path, script, budget=1.0)
    assert found.failure == "out of time" and found.seconds < 3
    with pytest.raises(TimeoutError):
        _await(tmp_path / "place" / "late", 3.0)


def _await(path: Path, seconds: float) -> None:
    import time

    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)


def graph(path: Path, outputs: list[str]) -> Path:
    """ids → each output, which is the ids as floats times its place."""
    of = onnx.helper
    ids = of.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    made = [of.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "sequence"]) for name in outputs]
    nodes = [of.make_node("Cast", ["input_ids"], ["floats"], to=onnx.TensorProto.FLOAT)]
    scales = []
    for place, name in enumerate(outputs):
        scales.append(onnx.numpy_helper.from_array(np.float32(place), f"scale_{name}"))
        nodes.append(of.make_node("Mul", ["floats", f"scale_{name}"], [name]))
    model = of.make_model(
        of.make_graph(nodes, "g", [ids], made, scales), opset_imports=[of.make_opsetid("", 20)], ir_version=10
    )
    onnx.save(model, path)
    return path


def test_a_graph_of_a_tool_keeps_the_one_output_that_is_compared(tmp_path: Path) -> None:
    like = tmp_path / "like"
    like.mkdir()
    (like / "model.json").write_text(json.dumps({"output": "logits"}))
    (like / "tokenizer.json").write_text("{}")
    out = tools.adopt(graph(tmp_path / "tool.onnx", ["pooled", "logits"]), like, tmp_path / "out")
    kept = onnx.load(out / "model.onnx").graph
    assert [value.name for value in kept.output] == ["logits"]
    assert [node.op_type for node in kept.node] == ["Cast", "Mul"], "what only the other output takes is gone"


def test_a_block_tells_its_runs_and_what_they_cost(tmp_path: Path) -> None:
    from optimodel.worker.inference.answers import session

    found = tools_clock.block(session(graph(tmp_path / "g.onnx", ["logits"]), 1), Shape(2, 8))
    assert (found.batch, found.tokens) == (2, 8)
    assert len(found.ms) == len(found.cpu_ms) >= tools_clock.MIN_RUNS and sum(found.ms) >= 500
    assert 0.0 <= found.foreign <= 1.0


def test_blocks_with_foreign_load_are_dropped_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def block(ms: float, foreign: float) -> Block:
        return Block(1, 32, (ms, ms, ms), (ms, ms, ms), foreign)

    blocks = (block(2.0, 0.01), block(4.0, 0.01), block(90.0, 0.5))
    arm = Arm("ours", "worker", ("kubectl apply -f model.yaml",), "g", {"model.yaml": "task: x\n\n"})
    row = tools_report.Row(arm, Built(3.0, 2.0, 100, 22.8), (0.99, 0.98, 0.97), 0.94, 0.96, blocks)
    failed = [tools_report.Row(arm, Built(1.0, 1.0, 1, failure="no such pass"))]
    tools_report.print_all("classifier", [row], failed, 0.05)
    told = capsys.readouterr().out
    assert "| ours | 22.8 | 94.0 | 0.9900 | 0.9800 | 0.9700 | 0.9600 | 3 (2) | 100 | 2 |" in told
    assert "| ours | 3.00 / 4.00 (2.00 to 4.00) | – | – | – |" in told
    assert "1 of 3 blocks dropped" in told
    assert "failed after 1 s: ours: no such pass" in told
