"""The rendered model repository, read back with Triton's own config format."""

from __future__ import annotations

import base64
import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from optimodel.api.contract import PROBE_SECONDS_ENV
from optimodel.api.spec import Batching
from optimodel.repository import Settings, cpus, interface, lengths, write
from optimodel.repository.layout import describe

EMBEDDING = {
    "version": 1,
    "task": "TextEmbedding",
    "inputs": ["input_ids", "attention_mask", "token_type_ids"],
    "output": "last_hidden_state",
    "pooling": "mean",
    "normalize": True,
    "labels": [],
    "maxLength": 128,
    "padTokenId": 0,
    "hiddenSize": 384,
}
CLASSIFICATION = {
    **EMBEDDING,
    "task": "TextClassification",
    "inputs": ["input_ids", "attention_mask"],
    "output": "logits",
    "labels": ["no", "yes"],
}
WRITING = {
    **EMBEDDING,
    "task": "TextGeneration",
    "output": "logits",
    "eosTokenIds": [2],
    "chat": ["<user>", "<model>"],
}
WORDS = {**CLASSIFICATION, "task": "TokenClassification"}
IMAGE = {"height": 24, "width": 32, "resize": [24, 32], "scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3}
IMAGES = {
    "version": 1,
    "task": "ImageClassification",
    "inputs": ["pixel_values"],
    "output": "logits",
    "labels": ["no", "yes"],
    "image": IMAGE,
}


def artifact(folder: Path, description: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def config(out: Path, model: str) -> Any:
    message = model_config_pb2.ModelConfig()
    return text_format.Parse((out / model / "config.pbtxt").read_text(), message)


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    out = tmp_path / "models"
    write(artifact(tmp_path / "artifact", EMBEDDING), Settings("q", Batching(4, (16, 64, 256)), threads=3), out)
    return out


def test_public_model_takes_text_and_gives_a_vector(rendered: Path) -> None:
    public = config(rendered, "q")
    assert public.platform == "ensemble"
    assert [(t.name, t.data_type, list(t.dims)) for t in public.input] == [("TEXT", model_config_pb2.TYPE_STRING, [1])]
    assert [(t.name, t.data_type, list(t.dims)) for t in public.output] == [
        ("EMBEDDING", model_config_pb2.TYPE_FP32, [384])
    ]
    assert [step.model_name for step in public.ensemble_scheduling.step] == ["q-tokenizer", "q-core", "q-head"]


def test_classification_gives_scores_and_label(tmp_path: Path) -> None:
    out = tmp_path / "models"
    write(artifact(tmp_path / "artifact", CLASSIFICATION), Settings("q", Batching()), out)
    assert [(t.name, list(t.dims)) for t in config(out, "q").output] == [("SCORES", [2]), ("LABEL", [1])]
    assert interface(describe(tmp_path / "artifact"))[1][0].datatype == "FP32"
    assert [t.name for t in config(out, "q-core").input] == ["input_ids", "attention_mask"]


def test_words_are_found_by_the_tokenizer_and_labelled_by_the_head(tmp_path: Path) -> None:
    out = tmp_path / "models"
    write(artifact(tmp_path / "artifact", WORDS), Settings("q", Batching()), out)
    assert [(t.name, list(t.dims)) for t in config(out, "q").output] == [("SCORE", [-1]), ("LABEL", [-1])]
    assert [t.name for t in config(out, "q-tokenizer").output] == ["input_ids", "attention_mask", "word_tokens"]
    assert [(t.name, list(t.dims)) for t in config(out, "q-core").output] == [("logits", [-1, 2])]
    assert [t.name for t in config(out, "q-core").input] == ["input_ids", "attention_mask"]
    assert [t.name for t in config(out, "q-head").input] == ["logits", "word_tokens"]
    steps = config(out, "q").ensemble_scheduling.step
    assert steps[0].output_map["word_tokens"] == steps[2].input_map["word_tokens"] == "word_tokens"
    assert json.loads((out / "probe.json").read_text())["outputs"] == {"SCORE": -1, "LABEL": -1}


def test_what_writes_text_is_one_model_that_runs_its_graph_itself(tmp_path: Path) -> None:
    out = tmp_path / "models"
    write(artifact(tmp_path / "artifact", WRITING), Settings("q", Batching(4), threads=3), out)
    public = config(out, "q")
    assert (public.backend, public.max_batch_size, public.HasField("dynamic_batching")) == ("python", 4, False)
    assert [(t.name, t.optional) for t in public.input] == [
        ("TEXT", False),
        *((name, True) for name in ("MAX_TOKENS", "TEMPERATURE", "TOP_P", "SEED", "STOP", "CHAT")),
    ]
    assert [(t.name, list(t.dims)) for t in public.output] == [
        ("TOKENS", [-1]),
        ("GENERATED", [1]),
        ("FINISH_REASON", [1]),
    ]
    assert [p.name for p in out.iterdir() if p.is_dir()] == ["q"]
    assert (out / "q/1/model.onnx").read_bytes() == b"graph"
    settings = json.loads((out / "q/1/settings.json").read_text())
    assert (settings["threads"], settings["eosTokenIds"], settings["chat"]) == (3, [2], ["<user>", "<model>"])
    (asked,) = json.loads((out / "probe.json").read_text())["inputs"]
    assert asked["name"] == "MAX_TOKENS"


def test_images_go_through_their_processor_in_place_of_a_tokenizer(tmp_path: Path) -> None:
    out, folder = tmp_path / "models", artifact(tmp_path / "artifact", IMAGES)
    (folder / "tokenizer.json").unlink()
    write(folder, Settings("q", Batching(8)), out)
    public, front, core = (config(out, name) for name in ("q", "q-processor", "q-core"))
    assert [(t.name, t.data_type, list(t.dims)) for t in public.input] == [("IMAGE", model_config_pb2.TYPE_STRING, [1])]
    assert [(t.name, list(t.dims)) for t in public.output] == [("SCORES", [2]), ("LABEL", [1])]
    assert [step.model_name for step in public.ensemble_scheduling.step] == ["q-processor", "q-core", "q-head"]
    (between,) = front.output
    assert (between.name, between.data_type, list(between.dims)) == (
        "pixel_values",
        model_config_pb2.TYPE_FP32,
        [3, 24, 32],
    )
    assert [(t.name, t.data_type, list(t.dims)) for t in core.input] == [(between.name, between.data_type, [3, 24, 32])]
    (warmup,) = core.model_warmup
    assert list(warmup.inputs["pixel_values"].dims) == [3, 24, 32]
    settings = json.loads((out / "q-processor/1/settings.json").read_text())
    assert settings["image"] == {**IMAGE, "resample": 2, "crop": False} and settings["output"] == "pixel_values"
    assert (out / "q-processor/1/pixels.py").is_file()
    asked = json.loads((out / "probe.json").read_text())
    assert asked["input"] == "IMAGE" and base64.b64decode(asked["question"]).startswith(b"\x89PNG")


def test_core_batches_without_delay_or_queue_policy(rendered: Path) -> None:
    core = config(rendered, "q-core")
    assert core.backend == "onnxruntime"
    assert core.max_batch_size == 4
    assert core.HasField("dynamic_batching")
    assert not core.dynamic_batching.max_queue_delay_microseconds
    assert "default_queue_policy" not in str(core)
    assert core.parameters["intra_op_thread_count"].string_value == "3"
    assert [list(w.inputs["input_ids"].dims) for w in core.model_warmup] == [[16], [64], [128]]


def test_the_probe_waits_as_long_as_it_is_told(
    rendered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not as long as it would by itself: that would end this suite."""
    script = importlib.util.spec_from_file_location("probe", rendered / "probe.py")
    assert script and script.loader
    probe = importlib.util.module_from_spec(script)
    script.loader.exec_module(probe)
    monkeypatch.setattr(probe, "TIMEOUT_S", 3600.0)
    monkeypatch.setenv(PROBE_SECONDS_ENV, "0.05")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert probe.main([str(silent.getsockname()[1])]) == 1
    assert "timed out" in capsys.readouterr().err


def test_batch_size_one_means_no_batching_anywhere(tmp_path: Path) -> None:
    out = tmp_path / "models"
    write(artifact(tmp_path / "artifact", EMBEDDING), Settings("q", Batching(1)), out)
    assert not config(out, "q-core").HasField("dynamic_batching")
    assert {config(out, name).max_batch_size for name in ("q", "q-tokenizer", "q-core", "q-head")} == {1}


def test_every_model_has_its_version_folder_and_only_models_are_folders(rendered: Path) -> None:
    folders = {p.name for p in rendered.iterdir() if p.is_dir()}
    assert folders == {"q", "q-tokenizer", "q-core", "q-head"}
    assert all((rendered / name / "1").is_dir() for name in folders)
    assert (rendered / "q-core/1/model.onnx").read_bytes() == b"graph"
    assert json.loads((rendered / "q-tokenizer/1/settings.json").read_text())["lengths"] == [16, 64, 128]


def test_rendering_again_replaces_what_was_there(rendered: Path, tmp_path: Path) -> None:
    (rendered / "q-core/1/stale").touch()
    write(tmp_path / "artifact", Settings("q", Batching(2)), rendered)
    assert not (rendered / "q-core/1/stale").exists()
    assert config(rendered, "q-core").max_batch_size == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version"),
        ({"output": "pooler"}, "output"),
        ({"hiddenSize": 0}, "hiddenSize"),
        ({"task": "TextClassification"}, "cannot be answered"),
        ({"output": "logits", "task": "TextClassification"}, "labels"),
        ({"maxLength": 0}, "maxLength"),
        ({"image": IMAGE}, "do not belong together"),
        ({**IMAGES, "image": None}, "do not belong together"),
    ],
)
def test_an_artifact_that_cannot_be_served_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    folder = artifact(tmp_path / "artifact", {**EMBEDDING, **change})
    with pytest.raises(ValueError, match=says):
        write(folder, Settings("q", Batching()), tmp_path / "models")


def test_a_missing_graph_is_refused(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "artifact", EMBEDDING)
    (folder / "model.onnx").unlink()
    with pytest.raises(ValueError, match=r"model\.onnx is missing"):
        write(folder, Settings("q", Batching()), tmp_path / "models")


def test_lengths_end_with_the_models_own_limit() -> None:
    assert lengths((256, 16, 64, 0), 128) == (16, 64, 128)
    assert lengths((), 512) == (512,)


def test_cpus_follow_the_container_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMODEL_CPUS", "7")
    assert cpus() == 7
    monkeypatch.setenv("OPTIMODEL_CPUS", "0")
    assert cpus() >= 1


def test_importing_the_room_loads_nothing_heavy() -> None:
    heavy = "('numpy', 'tritonclient', 'google.protobuf')"
    check = f"import sys, optimodel.repository; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd="operator")
    assert answer.stdout.strip() == "[]"


def test_a_graph_on_a_gpu_computes_in_full_fp32_there(tmp_path: Path) -> None:
    out = tmp_path / "models"
    write(artifact(tmp_path / "artifact", EMBEDDING), Settings("q", Batching(), threads=3, accelerator="CUDA"), out)
    core = config(out, "q-core")
    assert [(g.count, g.kind) for g in core.instance_group] == [(1, model_config_pb2.ModelInstanceGroup.KIND_GPU)]
    (cuda,) = core.optimization.execution_accelerators.gpu_execution_accelerator
    assert (cuda.name, dict(cuda.parameters)) == ("cuda", {"use_tf32": "0"})
    for side in ("q-tokenizer", "q-head"):
        assert config(out, side).instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU


@pytest.mark.parametrize(("half", "precision"), [(False, "FP32"), (True, "FP16")])
def test_tensorrt_builds_one_engine_for_every_shape_that_is_served(tmp_path: Path, half: bool, precision: str) -> None:
    out = tmp_path / "models"
    settings = Settings("q", Batching(4, (16, 64, 256)), threads=3, accelerator="TensorRT", half=half)
    write(artifact(tmp_path / "artifact", CLASSIFICATION), settings, out)
    tensorrt, cuda = config(out, "q-core").optimization.execution_accelerators.gpu_execution_accelerator
    given = dict(tensorrt.parameters)
    assert (tensorrt.name, given["precision_mode"], cuda.name) == ("tensorrt", precision, "cuda")
    assert given["trt_engine_cache_enable"] == "1" and given["trt_engine_cache_path"].startswith("/tmp/")
    assert given["trt_profile_min_shapes"] == "input_ids:1x16,attention_mask:1x16"
    assert given["trt_profile_opt_shapes"] == "input_ids:4x64,attention_mask:4x64"
    assert given["trt_profile_max_shapes"] == "input_ids:4x128,attention_mask:4x128"


def test_tensorrt_builds_one_engine_for_images_of_one_size(tmp_path: Path) -> None:
    out, folder = tmp_path / "models", artifact(tmp_path / "artifact", IMAGES)
    write(folder, Settings("q", Batching(8), accelerator="TensorRT"), out)
    tensorrt, _ = config(out, "q-core").optimization.execution_accelerators.gpu_execution_accelerator
    given = dict(tensorrt.parameters)
    assert given["trt_profile_min_shapes"] == "pixel_values:1x3x24x32"
    assert given["trt_profile_opt_shapes"] == given["trt_profile_max_shapes"] == "pixel_values:8x3x24x32"


def test_a_graph_on_a_cpu_names_no_accelerator(rendered: Path) -> None:
    core = config(rendered, "q-core")
    assert core.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert not core.HasField("optimization")
