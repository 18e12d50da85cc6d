"""What `make bench-tools` compares: each tool with the settings that its own documents recommend, as a person would write them.

optimum-onnx: the guides "Export a model to ONNX", "Optimization" and "Quantization" of its documentation, and the docstrings of
`AutoQuantizationConfig`. Olive: `olive optimize --help`, the reference of its passes, and its BERT examples for the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

Subject = Literal["embedding", "classifier"]
TASKS: Mapping[Subject, str] = {"embedding": "feature-extraction", "classifier": "text-classification"}
KINDS: Mapping[Subject, str] = {"embedding": "TextEmbedding", "classifier": "TextClassification"}
FLOORS: Mapping[Subject, str] = {
    "embedding": "{name: alike, metric: CosineP5, data: questions/test, min: '0.98'}",
    "classifier": "{name: right, metric: Accuracy, data: questions/test, maxDrop: '0.02'}",
}
"""What `auto` must hold with its whole interval; Olive's search is given the accuracy as a point."""
PLAIN = "fp32, plain"


@dataclass(frozen=True)
class Arm:
    """One variant. `files` are what a person writes and `commands` what they type, in a folder that holds `model/`, `train.jsonl`
    and `validation.jsonl`; `graph` is the file that comes of it. Braces hold the task of the tool."""

    name: str
    site: str
    commands: tuple[str, ...]
    graph: str
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> int:
        """Lines that a person writes."""
        written = [*self.commands, *(line for text in self.files.values() for line in text.splitlines())]
        return sum(bool(line.strip()) for line in written)


def instructions() -> str:
    """The flag by which optimum's guide would have this CPU named."""
    flags = set(
        next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    )
    known = {"avx512_vnni": "avx512_vnni", "avx512f": "avx512"}
    return next((name for flag, name in known.items() if flag in flags), "avx2")


def arms(subject: Subject) -> tuple[Arm, ...]:
    """Every variant, the plain one first."""
    words = {"{task}": TASKS[subject], "{cpu}": instructions(), "{kind}": KINDS[subject], "{floor}": FLOORS[subject]}

    def filled(text: str) -> str:
        for name, word in words.items():
            text = text.replace(name, word)
        return text

    return tuple(
        replace(
            arm,
            commands=tuple(map(filled, arm.commands)),
            files={name: filled(text) for name, text in arm.files.items()},
        )
        for arm in (*_ours(), *_optimum(), *_olive(subject))
    )


# optimum-onnx

EXPORT = "optimum-cli export onnx --model model --task {task} --library transformers fp32"
SEVEN_BITS = """\
from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer

config = AutoQuantizationConfig.avx512(is_static=False, per_channel=True)
config.reduce_range = True
ORTQuantizer.from_pretrained("fp32").quantize(save_dir="int8", quantization_config=config)
"""
STATIC = """\
from datasets import load_dataset
from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer
from optimum.onnxruntime.configuration import AutoCalibrationConfig
from optimum.onnxruntime.preprocessors import QuantizationPreprocessor
from optimum.onnxruntime.preprocessors.passes import ExcludeGeLUNodes, ExcludeLayerNormNodes, ExcludeNodeAfter
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("model")
rows = load_dataset("json", data_files="train.jsonl", split="train").shuffle(seed=0).select(range(256))
encode = lambda row: tokenizer(row["text"], padding="max_length", max_length=64, truncation=True)
data = rows.map(encode, remove_columns=rows.column_names)
quantizer = ORTQuantizer.from_pretrained("fp32")
config = AutoQuantizationConfig.{cpu}(is_static=True, per_channel=True)
config.reduce_range = True
ranges = quantizer.fit(
    dataset=data,
    calibration_config=AutoCalibrationConfig.minmax(data),
    operators_to_quantize=config.operators_to_quantize,
)
passes = QuantizationPreprocessor()
passes.register_pass(ExcludeLayerNormNodes())
passes.register_pass(ExcludeGeLUNodes())
passes.register_pass(ExcludeNodeAfter("Add", "Softmax"))
quantizer.quantize(
    save_dir="int8", calibration_tensors_range=ranges, quantization_config=config, preprocessor=passes
)
"""


def _optimum() -> tuple[Arm, ...]:
    def arm(name: str, graph: str, *commands: str, script: str = "") -> Arm:
        files = {"quantize.py": script} if script else {}
        return Arm(f"optimum {name}", "bench-optimum", (EXPORT, *commands), graph, files)

    quantize = "optimum-cli onnxruntime quantize --onnx_model fp32 -o int8 --{cpu} --per_channel"
    optimize = "optimum-cli onnxruntime optimize --onnx_model fp32 -o o2 -O2"
    run = "python quantize.py"
    return (
        arm("fp32", "fp32/model.onnx"),
        arm("fp32 -O2", "o2/model_optimized.onnx", optimize),
        arm("dynamic int8", "int8/model_quantized.onnx", quantize),
        arm("dynamic int8, 7 bits", "int8/model_quantized.onnx", run, script=SEVEN_BITS),
        arm("static int8", "int8/model_quantized.onnx", run, script=STATIC),
    )


# Olive

HEAD = """\
{
  "input_model": {"type": "HfModel", "model_path": "model", "task": "{task}"},
  "systems": {"local": {"type": "LocalSystem", "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}]}},
  "host": "local", "target": "local", "output_dir": "out", "cache_dir": "cache", "no_artifacts": true,
"""
DATA = """\
  "data_configs": [%s
  ],
"""
SOURCE = """
    {"name": "%s", "type": "HuggingfaceContainer",
     "load_dataset_config": {"data_name": "json", "data_files": "%s.jsonl", "split": "train"},
     "pre_process_data_config": {"input_cols": ["text"], "label_col": "label",
                                 "max_length": 64, "padding": "max_length", "max_samples": 256},
     "dataloader_config": {"batch_size": 1}}"""
DYNAMO = '"export": {"type": "OnnxConversion", "use_dynamo_exporter": true}'
FUSED = """\
"export": {"type": "OnnxConversion", "use_dynamo_exporter": false, "target_opset": 18},
    "fuse": {"type": "OrtTransformersOptimization", "model_type": "bert", "num_heads": 12, "hidden_size": 384, "opt_level": 0}"""
DYNAMIC = '"int8": {"type": "OnnxDynamicQuantization", "per_channel": true, "reduce_range": true}'
CALIBRATED = """\
"int8": {"type": "OnnxStaticQuantization", "data_config": "train", "per_channel": true, "reduce_range": true, "activation_type": "uint8"}"""
ROUNDED = '"int4": {"type": "OnnxBlockWiseRtnQuantization", "bits": 4, "block_size": 32, "accuracy_level": 4}'
SEARCHED = """\
"int8": {"type": "OnnxDynamicQuantization", "per_channel": "SEARCHABLE_VALUES", "reduce_range": "SEARCHABLE_VALUES"}"""
SEARCH = """\
  "evaluators": {"both": {"metrics": [
    {"name": "accuracy", "type": "accuracy", "backend": "torch_metrics", "data_config": "validation", "sub_types": [
      {"name": "accuracy_score", "priority": 1, "metric_config": {"task": "multiclass", "num_classes": 6},
       "goal": {"type": "max-degradation", "value": 0.02}}]},
    {"name": "latency", "type": "latency", "data_config": "validation", "sub_types": [{"name": "avg", "priority": 2}]}]}},
  "evaluator": "both",
  "search_strategy": {"execution_order": "joint", "sampler": "tpe", "max_samples": 8, "seed": 0},
"""


def _olive(subject: Subject) -> tuple[Arm, ...]:
    def arm(name: str, *passes: str, more: str = "") -> Arm:
        config = HEAD + more + '  "passes": {\n    ' + ",\n    ".join(passes) + "\n  }\n}\n"
        command = "olive run --config olive.json"
        return Arm(f"Olive {name}", "bench-olive", (command,), "out/model.onnx", {"olive.json": config})

    def optimize(precision: str) -> Arm:
        command = f"olive optimize -m model -t {{task}} --precision {precision} --exporter dynamo_exporter -o out"
        return Arm(f"Olive optimize {precision}", "bench-olive", (command,), "out/model.onnx")

    train = DATA % (SOURCE % ("train", "train"))
    both = DATA % (SOURCE % ("train", "train") + "," + SOURCE % ("validation", "validation"))
    return (
        optimize("fp32"),
        optimize("int8"),
        arm("dynamic int8", DYNAMO, DYNAMIC),
        arm("dynamic int8, fused", FUSED, DYNAMIC),
        arm("static int8", DYNAMO, CALIBRATED, more=train),
        arm("static int8, fused", FUSED, CALIBRATED, more=train),
        arm("4 bits", DYNAMO, ROUNDED),
        *([arm("search", FUSED, SEARCHED, more=both + SEARCH)] if subject == "classifier" else []),
    )


# Ours

SPEC = """\
task: {kind}
data:
  - name: questions
    s3: {url: s3://data/questions.jsonl}
    split: {parts: [{name: train, percent: 60}, {name: validation, percent: 20}, {name: test, percent: 20}]}
optimization:
  target: {shapes: [{batchSize: 1, sequenceLength: 32}]}
"""
GPTQ = """\
  steps:
    - {name: graph, type: Export}
    - {name: int4, type: Quantize, quantize: {method: GPTQ, bits: 4, data: questions/train}}
"""
AUTO = """\
  steps: [{name: graph, type: Export}]
  auto: {objective: Latency, validation: questions/validation, train: questions/train, trials: 8, timeout: 10m}
  gates: [{floor}]
"""


def _ours() -> tuple[Arm, ...]:
    def arm(name: str, text: str) -> Arm:
        files = {"model.yaml": SPEC + text}
        return Arm(name, "worker", ("kubectl apply -f model.yaml",), "out/model.onnx", files)

    return (
        arm(PLAIN, "  steps: [{name: graph, type: Export}]\n"),
        arm("ours cpu-int8", "  recipeRef: {name: cpu-int8}\n"),
        arm(
            "ours cpu-int8-invariant",
            "  recipeRef: {name: cpu-int8-invariant}\n  parameters: {data: questions/train}\n",
        ),
        arm("ours cpu-small", "  recipeRef: {name: cpu-small}\n"),
        arm("ours 4 bits, GPTQ", GPTQ),
        arm("ours auto", AUTO),
    )
