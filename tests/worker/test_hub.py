"""The hub's own client against a server that speaks the protocol: what comes over, and what each refusal is called."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
from tests.seaweed import free_port
from tests.worker import tiny
from tests.worker.hub import COMMIT, Hub, serving

from optimodel.api.contract import ExitCode
from optimodel.api.sources import HuggingFace, Source
from optimodel.worker.errors import Failure
from optimodel.worker.source import check_folder, fetch


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save("bert", tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def hub(model):
    with serving(Hub(model)) as running:
        yield running


def get(hub, into, token="", **changes):
    wanted = dataclasses.asdict(hub)
    spec = {"repo": wanted["repo"], "endpoint": wanted["endpoint"]} | changes
    fetch(Source(hugging_face=HuggingFace(**spec)), into, {"SOURCE_HF_TOKEN": token}, lambda *_: None)


def refused(action):
    with pytest.raises(Failure) as caught:
        action()
    return caught.value.reason, caught.value.code


def test_the_needed_files_of_one_commit_come_over(hub, model, tmp_path):
    hub.extra = ("train_script.py",)
    get(hub, tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")}
    assert found == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert all((tmp_path / "out" / name).read_bytes() == (model / name).read_bytes() for name in found)
    assert check_folder(tmp_path / "out", "TextEmbedding")["model_type"] == "bert"
    assert all(COMMIT in line for line in hub.asked if "/resolve/" in line)


def test_a_token_opens_a_guarded_repository(hub, tmp_path):
    hub.token = "hf_right"
    assert refused(lambda: get(hub, tmp_path / "a")) == ("SourceAccessDenied", ExitCode.WORLD)
    assert refused(lambda: get(hub, tmp_path / "b", "hf_wrong")) == ("SourceAccessDenied", ExitCode.WORLD)
    get(hub, tmp_path / "c", "hf_right")
    assert (tmp_path / "c" / "model.safetensors").exists()


def test_what_is_not_there(hub, tmp_path):
    assert refused(lambda: get(hub, tmp_path / "a", repo="org/none")) == ("SourceNotFound", ExitCode.WORLD)
    assert refused(lambda: get(hub, tmp_path / "b", revision="v9")) == ("SourceNotFound", ExitCode.WORLD)
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert refused(lambda: get(hub, tmp_path / "c", endpoint=nowhere)) == ("SourceUnreachable", ExitCode.WORLD)
    assert refused(lambda: get(hub, tmp_path / "d", repo="a/b/c/d")) == ("SourceInvalid", ExitCode.SPEC)


def test_the_listing_is_judged_before_a_file_is_asked_for(hub, tmp_path):
    for name, reason in (("modeling_evil.py", "CustomCodeRefused"), ("../../x.json", "UnsafePath")):
        hub.extra = (name,)
        assert refused(partial(get, hub, tmp_path / reason)) == (reason, ExitCode.SPEC)
    assert not [line for line in hub.asked if "/resolve/" in line]


def test_a_download_that_is_cut_off(hub, tmp_path):
    hub.cut = 1000
    reason, code = refused(lambda: get(hub, tmp_path / "out"))
    assert reason in ("SourceTruncated", "SourceUnreachable")
    assert code == ExitCode.WORLD
