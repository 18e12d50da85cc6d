"""Models of images, on tiny ones: what is served sees what transformers sees, and every step works on them."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from arro3.core import Array, DataType, Field, Table, struct_array
from arro3.io import write_parquet
from PIL import Image
from tests import inputs
from tests.worker import pictures, tiny
from tests.worker.lessons import noted
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from optimodel.adapters.inference import compare
from optimodel.api.contract import Tensor
from optimodel.api.sources import PVC, Dataset
from optimodel.api.spec import Batching, Gate, Shape
from optimodel.api.steps import QAT, Distill, FineTune, Prune, Quantize, Recover, Step, Training
from optimodel.backends import pixels
from optimodel.plan.types import ProbeTarget
from optimodel.worker import steps
from optimodel.worker.data import dataset
from optimodel.worker.data.rows import IMAGES, Row
from optimodel.worker.errors import Failure
from optimodel.worker.evidence.evaluate import batch_invariance, golden
from optimodel.worker.inference.answers import Answerer, cosines
from optimodel.worker.report import Report
from optimodel.worker.report.page import page
from optimodel.worker.source import images
from optimodel.worker.steps import distill, finetune, prune, qat
from optimodel.worker.training import families

TASK = "ImageClassification"
LONG, SHORT = (Training(epochs=epochs, batch_size=16, learning_rate="0.003") for epochs in (8, 3))
PHOTO = np.random.default_rng(1).integers(0, 256, (37, 61, 3), dtype=np.uint8)


def saved(form="PNG", mode="RGB", values=PHOTO, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).convert(mode).save(out, form, **options)
    return out.getvalue()


def refused(reason, action):
    with pytest.raises(Failure) as caught:
        action()
    assert caught.value.reason == reason and caught.value.message.endswith(".")
    return caught.value.message


PROCESSORS = {
    "exact": {"size": {"height": 16, "width": 16}},
    "cropped": {
        "size": {"shortest_edge": 20},
        "do_center_crop": True,
        "crop_size": {"height": 16, "width": 16},
        "resample": 3,
    },
    "cropped beyond the edge": {
        "size": {"height": 11, "width": 13},
        "do_center_crop": True,
        "crop_size": {"height": 16, "width": 16},
    },
    "only cropped": {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 16, "width": 16}},
    "not normalised": {"size": {"height": 16, "width": 16}, "do_normalize": False, "resample": 1},
    "its own mean": {"size": {"height": 16, "width": 16}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7]},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixel_values_are_those_of_transformers(name, tmp_path):
    ViTImageProcessorPil(**PROCESSORS[name]).save_pretrained(tmp_path)
    settings = images.load_processor(tmp_path, {"image_size": 16})
    theirs = AutoImageProcessor.from_pretrained(tmp_path)
    files = [saved("JPEG", quality=80), *(saved(mode=mode) for mode in ("RGB", "L", "RGBA", "P", "1"))]
    files += [saved(values=PHOTO[:, :9]), saved(values=PHOTO[:1, :1]), saved("JPEG", "CMYK")]
    for data in files:
        wanted = theirs(Image.open(io.BytesIO(data)).convert("RGB"), return_tensors="np")["pixel_values"]
        for sent in (data, base64.b64encode(data), base64.encodebytes(data).decode()):
            np.testing.assert_allclose(pixels.encode([sent], settings), wanted, atol=1e-6)


def header(width, height):
    """A PNG that says how large it is, and has next to nothing in it."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99)))
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD = {
    "words": (b"a picture of a cat", "neither PNG nor JPEG"),
    "gif": (saved("GIF"), "neither PNG nor JPEG"),
    "cut off png": (saved()[:900], "cannot be read"),
    "cut off jpeg": (saved("JPEG")[:-200], "cannot be read"),
    "only its name": (b"\x89PNG", "cannot be read"),
    "16 bits": (saved(values=PHOTO[..., 0].astype(np.uint16), mode="I;16"), "8 bits a channel"),
    "bomb": (header(9_000, 9_000), "9000 x 9000 pixels"),
    "bomb that Pillow knows": (header(60_000, 60_000), "decompression bomb"),
    "large": (saved() + bytes(pixels.MAX_IMAGE_BYTES), "more than 8 MiB"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_refused_by_its_row_and_by_its_request(name, tmp_path):
    data, says = BAD[name]
    with pytest.raises(pixels.BadImage, match=says):
        pixels.opened(pixels.decode(data))
    rows = [{"image": images.text(saved())}, {"image": images.text(data)}]
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = refused("DataInvalid", lambda: dataset.load(Dataset("d", pvc=PVC("c", "rows.jsonl")), {}, tmp_path, IMAGES))
    assert "'d', line 2: the image is refused" in said and says in said


def test_an_image_may_not_grow_beyond_bounds_on_its_way():
    narrow = Image.new("RGB", (1, 60_000))
    settings = {"resize": (224,), "resample": 2, "crop": True, "width": 224, "height": 224}
    with pytest.raises(pixels.BadImage, match="224 x 13440000 pixels"):
        pixels.pixels(narrow, settings)


def load(folder, name, data, **fields):
    (folder / "d").mkdir(exist_ok=True)
    (folder / "d" / name).write_bytes(data)
    return dataset.load(Dataset("d", pvc=PVC("claim", name), **fields), {}, folder, IMAGES)


def parquet(files, name="image"):
    """As hubs write it: a column of structs, and the number of the label."""
    binary, string = DataType.binary(), DataType.string()
    columns = Array([data for data, _ in files], binary), Array([f"{n}.png" for n in range(len(files))], string)
    pictured = struct_array(columns, fields=[Field("bytes", binary), Field("path", string)])
    numbers = Array([pictures.LABELS.index(label) for _, label in files], DataType.int64())
    out = io.BytesIO()
    write_parquet(Table.from_pydict({name: pictured, "label": numbers, "text": columns[1]}), out)
    return out.getvalue()


def test_rows_of_parquet_json_lines_and_csv_hold_the_same_images(tmp_path):
    files = pictures.files(5)
    wanted = [Row(images.text(data), label) for data, label in files]
    numbered = [Row(row.text, pictures.LABELS.index(row.label)) for row in wanted]
    assert load(tmp_path, "a.parquet", parquet(files)) == numbered
    assert load(tmp_path, "b.parquet", parquet(files, "img"), text_field="img") == numbered
    lines = "".join(json.dumps(fields) + "\n" for fields in pictures.fields(5))
    assert load(tmp_path, "a.jsonl", lines.encode()) == wanted
    table = "image,label\n" + "".join(f"{row.text},{row.label}\n" for row in wanted)
    assert load(tmp_path, "a.csv", table.encode()) == wanted
    broken = parquet([*files, (files[0][0][:60], "dot")])
    assert "row 6: the image is refused" in refused("DataInvalid", lambda: load(tmp_path, "c.parquet", broken))
    for row in ({"image": ""}, {"picture": "x"}, {"image": 3}, {"image": lines, "label": 0.5}):
        said = refused("DataInvalid", lambda row=row: load(tmp_path, "d.jsonl", json.dumps(row).encode()))
        assert "line 1" in said


@pytest.mark.parametrize(
    ("reason", "says", "change"),
    [
        ("ProcessorMissing", "is not there", None),
        ("ProcessorMissing", "transformers reads", "{"),
        ("ProcessorMismatch", "3 x 32 x 32; config.json says 3 x 16 x 16", {"size": {"height": 32, "width": 32}}),
        ("ProcessorUnsupported", "different sizes", {"size": {"shortest_edge": 16}}),
        ("ProcessorUnsupported", "pads", {"do_pad": True, "pad_size": {"height": 16, "width": 16}}),
        ("ProcessorUnsupported", "deviation", {"image_std": [0.5, 0.0, 0.5]}),
        (
            "ProcessorUnsupported",
            "differ",
            {"image_processor_type": "MobileViTImageProcessor", "do_center_crop": False, "do_flip_channel_order": True},
        ),
    ],
)
def test_a_processor_that_is_broken_or_does_more_is_refused(reason, says, change, tmp_path):
    source = tiny.save_images(tmp_path / "source", pictures.LABELS)
    path = source / images.FILE
    known = json.loads(path.read_text())
    path.unlink()
    if change is not None:
        path.write_text(change if isinstance(change, str) else json.dumps(known | change))
    assert says in refused(reason, lambda: images.load_processor(source, {"image_size": 16}))


def expected(folder, *files):
    """Scores of each file by transformers itself."""
    processor, model = (
        AutoImageProcessor.from_pretrained(folder),
        AutoModelForImageClassification.from_pretrained(folder),
    )
    with torch.no_grad():
        given = processor([Image.open(io.BytesIO(data)).convert("RGB") for data in files], return_tensors="pt")
        return model.eval()(**given).logits.softmax(-1).numpy()


@pytest.fixture(scope="module", params=["vit", "deit"])
def graph(request, tmp_path_factory):
    """A folder with a tiny model, `source`, and its `graph`."""
    made = tmp_path_factory.mktemp(request.param)
    tiny.save_images(made / "source", pictures.LABELS, request.param)
    steps.run(Step("graph", "Export"), made / "source", made / "graph", tiny.context(TASK, made))
    return made


def test_the_graph_answers_images_as_transformers_does(graph):
    answerer = Answerer(graph / "graph", 1, Batching())
    for data in (saved(), saved("JPEG"), saved(mode="L")):
        np.testing.assert_allclose(answerer.alone(images.text(data)), expected(graph / "source", data)[0], atol=2e-5)
    assert answerer.public(answerer.run(answerer.front.encode([row.text for row in pictures.rows(5)])))[
        "SCORES"
    ].shape == (5, 3)
    assert batch_invariance(answerer) > 0.99999
    assert sorted(path.name for path in (graph / "graph").iterdir()) == ["model.json", "model.onnx"]


METHODS = {
    "dynamic": (Quantize("Dynamic"), 0.65),
    "static": (Quantize("Static", data="train"), 0.7),
    "4 bits": (Quantize("WeightOnly", bits=4), 0.6),
    "gptq": (Quantize("GPTQ", bits=4, data="train"), 0.6),
    "fp8": (Quantize("FP8", data="train"), 0.6),
    "fp16": (Quantize("Float16"), 0.6),
    "bf16": (Quantize("BFloat16", exclude=("Head",)), 0.6),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_makes_the_graph_smaller_and_keeps_its_answers(name, graph, tmp_path, unproven):
    settings, share = METHODS[name]
    device = "TensorRT" if settings.method == "FP8" else None
    context = tiny.context(TASK, tmp_path, {"train": pictures.rows(24)}, device)
    steps.run(Step("small", "Quantize", quantize=settings), graph / "graph", tmp_path / "small", context)
    before, after = (Answerer(folder, 1, Batching(), device) for folder in (graph / "graph", tmp_path / "small"))
    asked = [row.text for row in pictures.rows(20, seed=2)]
    assert cosines([before.alone(text) for text in asked], [after.alone(text) for text in asked]).min() > 0.98
    sizes = [(folder / "model.onnx").stat().st_size for folder in (graph / "graph", tmp_path / "small")]
    assert sizes[1] < share * sizes[0]


def judged(remembered, folder):
    """What the operator says of the answer that an artifact gives to what another remembers."""
    scores = Answerer(folder, 1, Batching()).alone(remembered.text)
    head, tolerance = remembered.head, remembered.tolerance
    target = ProbeTarget("u", "", "m", remembered.text, "SCORES", head, tolerance, golden_places=remembered.places)
    return compare({"outputs": [{"name": "SCORES", "data": scores.tolist()}]}, target)


@pytest.mark.parametrize("sure", [0.1, 1.0])
def test_of_a_thousand_labels_those_are_remembered_that_tell_one_model_from_another(sure, tmp_path, unproven):
    """The first eight are near zero in every model. Int8 is rounded otherwise on another CPU, by no more than it was from fp32."""
    found = []
    for number in range(3):
        folder = tmp_path / str(number)
        tiny.save_images(folder / "source", [f"label {label}" for label in range(1000)])
        model = ViTForImageClassification.from_pretrained(folder / "source")
        with torch.no_grad():
            model.classifier.weight.normal_(0, sure, generator=torch.Generator().manual_seed(number))
        model.save_pretrained(folder / "source")
        context = tiny.context(TASK, tmp_path)
        steps.run(Step("graph", "Export"), folder / "source", folder / "graph", context)
        steps.run(Step("int8", "Quantize", quantize=Quantize()), folder / "graph", folder / "int8", context)
        found.append((golden(Answerer(folder / "int8", 1, Batching())), folder))
    for remembered, folder in found:
        assert len(remembered.head) == 8
        assert judged(remembered, folder / "int8").ok and judged(remembered, folder / "graph").ok
        assert not any(judged(remembered, other / "int8").ok for _, other in found if other != folder)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A tiny ViT without a head that has learnt from nothing, through a whole Job; its folder and result."""
    made = tmp_path_factory.mktemp("learnt")
    (made / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pictures.fields(300)))
    tiny.save_images(made / "tiny")
    adapt = FineTune("d/train", freeze_embeddings=False, training=LONG)
    wanted = (Step("adapt", "FineTune", fine_tune=adapt), Step("graph", "Export"))
    small = Step("small", "Quantize", quantize=Quantize("Static", data="d/train"))
    gates = (
        Gate("right", "Accuracy", data="d/test", min="0.9"),
        Gate("alike", "CosineMean", data="d/test", min="0.99"),
    )
    changes = {"task": TASK, "gates": gates, "data": (inputs.dataset(made, split=inputs.PARTS),)}
    shapes = (Shape(1, 16), Shape(4, 16), Shape(4, 512))
    job = inputs.job(made, *wanted, small, shapes=shapes, **changes)
    result, store = inputs.run(job, made / "work")
    return made, result, store


def test_a_job_learns_to_label_images_and_serves_them_in_int8(learnt):
    _, result, store = learnt
    assert result.outcome == "Succeeded", result.message
    artifact, figures = result.artifact, result.figures
    assert float(figures.accuracy) > 0.9 and figures.samples == 120
    assert artifact.inputs == (Tensor("IMAGE", "BYTES", (1,)),)
    assert artifact.outputs == (Tensor("SCORES", "FP32", (3,)), Tensor("LABEL", "BYTES", (1,)))
    assert artifact.max_batch_size == 0, "static scales depend on no neighbour"
    assert len(artifact.golden.text) < 300 and pixels.opened(base64.b64decode(artifact.golden.text)).size == (8, 8)
    report = store.read(result.report, Report)
    assert [shape["batchSize"] for shape in report.details["latency"]] == [1, 4], "each batch size once"
    assert "batch × tokens" not in page(report)


@pytest.fixture(scope="module")
def teacher(learnt):
    made, _, _ = learnt
    return next((made / "work" / "steps").glob("*/config.json")).parent


def accuracy(folder):
    files, labels = zip(*pictures.files(60, seed=9), strict=True)
    found = expected(folder, *files).argmax(-1)
    return np.mean([pictures.LABELS[number] == label for number, label in zip(found, labels, strict=True)])


TRAINERS = {
    "head": (finetune, FineTune("train", method="Head", training=SHORT)),
    "lora": (finetune, FineTune("train", method="LoRA", training=SHORT)),
    "student": (distill, Distill("train", keep_layers=(1,), training=SHORT)),
    "qat": (qat, QAT("train", training=Training(epochs=1))),
    "heads": (prune, Prune("Heads", keep="0.5", data="train")),
    "neurons": (prune, Prune("FFN", keep="0.25", data="train", recover=Recover("train", training=SHORT))),
    "layers": (prune, Prune("Layers", keep="0.5", data="train", recover=Recover("train", "LoRA", training=SHORT))),
    "zeros": (prune, Prune("TwoFour", recover=Recover("train", training=SHORT))),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_every_step_that_trains_or_cuts_works_on_images(name, teacher, tmp_path, unproven):
    step, settings = TRAINERS[name]
    context, figures = noted(tiny.context(TASK, tmp_path, {"train": pictures.rows(150, seed=4)}))
    out = tmp_path / "out"
    out.mkdir()
    step.run(settings, teacher, out, context)
    assert accuracy(out) > (0.5 if name == "heads" else 0.85)
    assert (out / images.FILE).read_bytes() == (teacher / images.FILE).read_bytes()
    if name in ("heads", "neurons", "layers"):
        assert figures["parameters"]["after"] < figures["parameters"]["before"]


def test_patches_and_positions_stay_unless_they_are_to_learn(teacher, tmp_path, unproven):
    for frozen in (True, False):
        out = tmp_path / str(frozen)
        out.mkdir()
        settings = FineTune("train", freeze_embeddings=frozen, training=Training(epochs=1))
        finetune.run(settings, teacher, out, tiny.context(TASK, tmp_path, {"train": pictures.rows(32)}))
        before, after = (AutoModelForImageClassification.from_pretrained(folder) for folder in (teacher, out))
        pairs = zip(before.vit.embeddings.parameters(), after.vit.embeddings.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == frozen
        assert not torch.equal(before.classifier.weight, after.classifier.weight)


def test_a_layer_without_biases_can_lose_its_heads(tmp_path):
    model = AutoModelForImageClassification.from_pretrained(tiny.save_images(tmp_path / "source", pictures.LABELS))
    config = type(model.config)(**model.config.to_dict() | {"qkv_bias": False})
    model = type(model)(config).eval()
    given = torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        for layer in families.layers(model):
            families.keep_heads(model, layer, [1, 3])
        fewer = model(given).logits
        families.expand(model)
        assert torch.allclose(model(given).logits, fewer, atol=1e-6)
