"""Which quantization is made for which device, and what the refusals say."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from optimodel import recipes
from optimodel.api.sources import S3, Dataset
from optimodel.api.spec import Target
from optimodel.api.steps import Export, Quantize, Step
from optimodel.recipes.devices import METHODS
from optimodel.recipes.settings import CALIBRATED

CPU, CUDA, TENSORRT = Target(), Target("GPU"), Target("GPU", "TensorRT")
DATA = Dataset("d", s3=S3("s3://data/rows.jsonl"))
FITTING = {
    "Dynamic": (CPU,),
    "Static": (CPU,),
    "WeightOnly": (CPU, CUDA),
    "GPTQ": (CPU, CUDA),
    "AWQ": (CPU, CUDA),
    "FP8": (CUDA, TENSORRT),
    "Float16": (CPU, CUDA, TENSORRT),
    "BFloat16": (CPU, CUDA, TENSORRT),
}


def problems(target: Target, *more: Step) -> tuple[recipes.Problem, ...]:
    return recipes.check("TextEmbedding", (Step("graph", "Export", export=Export()), *more), (), (DATA,), target)


def quantize(method: str) -> Step:
    return Step("q", "Quantize", quantize=Quantize(method, data="d" if method in CALIBRATED else None))  # type: ignore[arg-type]


def test_every_method_has_its_devices() -> None:
    assert set(METHODS) == set(FITTING) == set(get_args(get_type_hints(Quantize)["method"]))


@pytest.mark.parametrize("target", [CPU, CUDA, TENSORRT], ids=["CPU", "CUDA", "TensorRT"])
@pytest.mark.parametrize("method", FITTING)
def test_a_method_is_refused_where_it_makes_nothing(method: str, target: Target) -> None:
    found = problems(target, quantize(method))
    assert [p.reason for p in found] == ([] if target in FITTING[method] else ["DeviceNotSupported"])
    for problem in found:
        alternatives = problem.message.partition("Use ")[2].partition(", or a target")[0].split(", ")
        assert alternatives, problem.message
        assert all(not problems(target, quantize(other)) for other in alternatives), "what it advises is legal"


@pytest.mark.parametrize("target", [CPU, CUDA, TENSORRT], ids=["CPU", "CUDA", "TensorRT"])
def test_a_graph_as_it_is_runs_everywhere(target: Target) -> None:
    assert problems(target) == ()


def test_tensorrt_on_a_cpu_is_refused_by_name() -> None:
    (found,) = problems(Target(accelerator="TensorRT"))
    assert found.reason == "AcceleratorNotForDevice"
    assert "TensorRT" in found.message and "Set target.device to GPU" in found.message


def test_a_model_that_writes_text_is_for_a_cpu() -> None:
    steps = (Step("graph", "Export", export=Export()),)
    assert recipes.check("TextGeneration", steps, (), (), CPU) == ()
    assert [p.reason for p in recipes.check("TextGeneration", steps, (), (), CUDA)] == ["DeviceNotSupported"]
