"""A bad source is refused before anything is loaded, with a reason, a way out, and who can mend it."""

from __future__ import annotations

import json
import os
import struct

import pytest

from optimodel.api.contract import ExitCode
from optimodel.api.sources import PVC, S3, Dataset, Source
from optimodel.worker.data import dataset
from optimodel.worker.data.rows import sample
from optimodel.worker.errors import Failure
from optimodel.worker.source import check_folder, choose, fetch, head, weight_bytes

CONFIG = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 10}


def safetensors(size=16):
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "models" / "good"
    made.mkdir(parents=True)
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "model.safetensors").write_bytes(safetensors())
    (made / "tokenizer.json").write_text("{}")
    return made


def fetched(folder, tmp_path, task="TextEmbedding"):
    fetch(Source(pvc=PVC("claim", "models/good")), tmp_path / "out", {}, lambda *_: None, mount=tmp_path)
    return check_folder(tmp_path / "out", task)


def refused(action, reason, code=ExitCode.SPEC):
    with pytest.raises(Failure) as caught:
        action()
    assert (caught.value.reason, caught.value.code) == (reason, code)
    assert caught.value.message.endswith(".")
    return caught.value.message


def test_a_good_source_is_copied_without_what_is_not_needed(folder, tmp_path):
    (folder / "README.md").write_text("hello")
    (folder / "pytorch_model.bin").write_text("never fetched")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(safetensors())
    assert fetched(folder, tmp_path) == CONFIG
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*"))
    assert found == ["config.json", "model.safetensors", "tokenizer.json"]
    fetch(Source(s3=S3(f"file://{folder}")), tmp_path / "s3", {}, lambda *_: None)
    assert sorted(p.name for p in (tmp_path / "s3").iterdir()) == found


def test_pickle_weights(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "safe_serialization" in refused(lambda: fetched(folder, tmp_path), "PickleWeights")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_custom_code_by_auto_map(folder, tmp_path, name):
    (folder / name).write_text(json.dumps(CONFIG | {"auto_map": {"AutoModel": "evil.Model"}}))
    refused(lambda: fetched(folder, tmp_path), "CustomCodeRefused")


def test_custom_code_by_file(folder, tmp_path):
    (folder / "modeling.py").write_text("raise SystemExit")
    refused(lambda: fetched(folder, tmp_path), "CustomCodeRefused")


def test_a_script_beside_the_model_stays_where_it_is(folder, tmp_path):
    """Hubs have the training script of many a model of a built-in architecture."""
    (folder / "train_script.py").write_text("raise SystemExit")
    assert fetched(folder, tmp_path) == CONFIG
    assert list((tmp_path / "out").rglob("*.py")) == []


def test_only_the_weights_that_are_loaded_are_fetched_and_counted(folder, tmp_path):
    for other in ("model.fp16.safetensors", "consolidated.safetensors", "adapter_model.safetensors"):
        (folder / other).write_bytes(safetensors(100))
    fetched(folder, tmp_path)
    assert [path.name for path in (tmp_path / "out").glob("*.safetensors")] == ["model.safetensors"]
    assert weight_bytes(folder) == weight_bytes(tmp_path / "out") == (folder / "model.safetensors").stat().st_size


def sharded(folder, *shards):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {f"w{number}": shard for number, shard in enumerate(shards)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_are_those_of_the_index(folder, tmp_path):
    sharded(folder, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    (folder / "model-00002-of-00002.safetensors").write_bytes(safetensors(7))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(1000))
    fetched(folder, tmp_path)
    assert weight_bytes(tmp_path / "out") == len(safetensors(16)) + len(safetensors(7))
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists(), "what is not loaded is not fetched"
    (tmp_path / "out" / "model.safetensors.index.json").unlink()
    refused(lambda: check_folder(tmp_path / "out", "TextEmbedding"), "WeightsMissing")


def test_copies_beside_shards_count_for_no_limit():
    shards = {f"model-0000{n}-of-00002.safetensors": 3 << 30 for n in (1, 2)}
    index = {"config.json": 1, "model.safetensors.index.json": 1}
    assert choose(index | shards | {"consolidated.safetensors": 6 << 30}) == sorted(index | shards)
    odd = {"pytorch_model-00001-of-00001.safetensors": 1}
    assert choose(index | odd) == sorted(index | odd), "shards may have other names"


@pytest.mark.parametrize("said", ["[]", "null", "7", '{"weight_map": ["x"]}', '{"weight_map": {"w": ["x"]}}'])
@pytest.mark.parametrize("whole", [True, False])
def test_an_index_that_names_no_shards(folder, tmp_path, said, whole):
    if not whole:
        sharded(folder)
    (folder / "model.safetensors.index.json").write_text(said)
    refused(lambda: fetched(folder, tmp_path), "ModelUnloadable")


DOCUMENTS = ["tokenizer_config.json", "preprocessor_config.json", "generation_config.json", "sentence_bert_config.json"]


@pytest.mark.parametrize("name", [*DOCUMENTS, "config.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("said", ["[]", "null"])
def test_a_document_that_holds_no_object(folder, tmp_path, name, said):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(said)
    assert refused(lambda: fetched(folder, tmp_path), "ModelUnloadable").startswith(name)


@pytest.mark.parametrize("name", ["../../etc/cron.d/x.json", "/abs/config.json", "a\\..\\b.safetensors"])
def test_names_that_leave_the_folder(name):
    refused(lambda: choose({"config.json": 1, "model.safetensors": 1, name: 1}), "UnsafePath")


def test_links_that_leave_the_claim(folder, tmp_path):
    (folder / "tokenizer_config.json").symlink_to("/etc/passwd")
    refused(lambda: fetched(folder, tmp_path), "UnsafePath")


def test_shards_of_an_index_stay_inside(folder, tmp_path):
    index = {"weight_map": {"w": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(lambda: fetched(folder, tmp_path), "UnsafePath")


def test_links_of_data_stay_in_the_claim(tmp_path):
    claim = tmp_path / "rows"
    claim.mkdir()
    (claim / "there.jsonl").write_text('{"text": "a"}')
    for name, target in {
        "inside": "there.jsonl",
        "out": "/proc/self/environ",
        "endless": "/dev/zero",
        "loop": "loop",
    }.items():
        (claim / name).symlink_to(target)
    os.mkfifo(claim / "pipe")

    def load(name):
        return dataset.load(Dataset("rows", pvc=PVC("claim", name)), {}, mount=tmp_path)

    assert [row.text for row in load("inside")] == ["a"]
    for name in ("out", "endless", "loop"):
        assert repr(name) in refused(lambda name=name: load(name), "UnsafePath")
    assert "not a file" in refused(lambda: load("pipe"), "DataNotFound", ExitCode.WORLD)


def test_paths_of_the_spec_stay_inside(tmp_path):
    source = Source(pvc=PVC("claim", "../outside"))
    refused(lambda: fetch(source, tmp_path / "out", {}, lambda *_: None, mount=tmp_path), "UnsafePath")


@pytest.mark.parametrize("cut", [4, 30, -1])
def test_truncated_weights_are_the_worlds_fault(folder, tmp_path, cut):
    (folder / "model.safetensors").write_bytes(safetensors()[:cut])
    refused(lambda: fetched(folder, tmp_path), "SourceTruncated", ExitCode.WORLD)


def test_truncated_config_and_missing_shards(folder, tmp_path):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model-2.safetensors"}}))
    refused(lambda: fetched(folder, tmp_path), "SourceTruncated", ExitCode.WORLD)
    (tmp_path / "out" / "config.json").write_text('{"model_type": "be')
    refused(lambda: check_folder(tmp_path / "out", "TextEmbedding"), "SourceTruncated", ExitCode.WORLD)


def test_a_model_that_no_graph_holds_is_refused_before_it_is_loaded(folder):
    count = 530_000_000
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [count // 2, 2], "data_offsets": [0, count]}}).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + count)
    message = refused(lambda: check_folder(folder, "TextEmbedding"), "SourceTooLarge")
    assert "530 million weights" in message and "528 million at most" in message


def test_unsupported_architectures_name_the_supported(folder, tmp_path):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": "llama"}))
    message = refused(lambda: fetched(folder, tmp_path), "UnsupportedArchitecture")
    assert "distilbert" in message


def test_an_architecture_belongs_to_its_tasks(folder, tmp_path):
    vit = CONFIG | {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    (folder / "config.json").write_text(json.dumps(vit))
    assert fetched(folder, tmp_path, "ImageClassification") == vit
    for task in ("TextEmbedding", "TextClassification"):
        message = refused(lambda task=task: check_folder(tmp_path / "out", task), "UnsupportedArchitecture")
        assert "'vit'" in message and "bert" in message
    (folder / "config.json").write_text(json.dumps(CONFIG))
    message = refused(lambda: check_folder(folder, "ImageClassification"), "UnsupportedArchitecture")
    assert "'bert'" in message and "vit, deit" in message


def test_classification_needs_a_head(folder, tmp_path):
    refused(lambda: fetched(folder, tmp_path, "TextClassification"), "UnsupportedArchitecture")


def test_words_need_a_head_of_their_own_unless_a_step_makes_it(folder, tmp_path):
    made_for_texts = CONFIG | {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}
    (folder / "config.json").write_text(json.dumps(made_for_texts))
    message = refused(lambda: fetched(folder, tmp_path, "TokenClassification"), "UnsupportedArchitecture")
    assert "BertForSequenceClassification" in message and "FineTune" in message
    assert check_folder(tmp_path / "out", "TokenClassification", headless=True) == made_for_texts
    (tmp_path / "out" / "config.json").write_text(
        json.dumps(CONFIG | {"architectures": ["BertForTokenClassification"]})
    )
    assert check_folder(tmp_path / "out", "TokenClassification")["model_type"] == CONFIG["model_type"]


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({}, ["LABEL_0", "LABEL_1"]),
        ({"id2label": {"10": "k", "9": "j"}, "num_labels": 5}, ["j", "k"]),
    ],
)
def test_labels_are_those_that_transformers_reads(folder, said, names):
    classifier = CONFIG | {"architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(classifier | said))
    check_folder(folder, "TextClassification")
    assert head(folder) == names
    for odd, reason in (({"num_labels": 1}, "UnsupportedArchitecture"), ({"id2label": {"x": "a"}}, "ModelUnloadable")):
        (folder / "config.json").write_text(json.dumps(classifier | odd))
        refused(lambda: check_folder(folder, "TextClassification"), reason)


def test_missing_things(folder, tmp_path):
    nowhere = Source(pvc=PVC("claim", "models/none"))
    refused(
        lambda: fetch(nowhere, tmp_path / "o", {}, lambda *_: None, mount=tmp_path), "SourceNotFound", ExitCode.WORLD
    )
    (folder / "config.json").unlink()
    refused(lambda: fetched(folder, tmp_path), "ConfigMissing")
    (folder / "model.safetensors").unlink()
    refused(lambda: choose({"README.md": 1}), "WeightsMissing")
    refused(lambda: choose({}), "SourceNotFound", ExitCode.WORLD)
    refused(lambda: choose({"config.json": 1, "model.safetensors": 1 << 40}), "SourceTooLarge")


def test_datasets_say_what_is_wrong(tmp_path):
    def load(text, path="e.jsonl"):
        (tmp_path / "eval").mkdir(exist_ok=True)
        (tmp_path / "eval" / "e.jsonl").write_text(text)
        return dataset.load(Dataset("eval", pvc=PVC("claim", path)), {}, mount=tmp_path)

    rows = load('{"text": "a", "label": "x"}\n\n{"text": "b"}\n')
    assert [(r.text, r.label) for r in rows] == [("a", "x"), ("b", None)]
    assert len(sample(load('{"text": "a"}\n' * 3000), dataset.MAX_ROWS)) == dataset.MAX_ROWS
    assert "line 2" in refused(lambda: load('{"text": "a"}\n{"txt": "b"}'), "DataInvalid")
    refused(lambda: load(""), "DataInvalid")
    refused(lambda: load("", "../x"), "UnsafePath")
    refused(lambda: load("", "none.jsonl"), "DataNotFound", ExitCode.WORLD)
    there = Dataset("eval", s3=S3(f"file://{tmp_path}/eval/none.jsonl"))
    refused(lambda: dataset.load(there, {}), "DataNotFound", ExitCode.WORLD)
