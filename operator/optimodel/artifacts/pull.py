"""`python -m optimodel.artifacts.pull`: the init container that fetches a verified artifact and renders what Triton serves."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from optimodel import repository
from optimodel.api import contract
from optimodel.api.contract import ExitCode, PullInput

from . import ending
from .errors import StoreError
from .opening import open_store

MODELS_ENV = "OPTIMODEL_MODELS"
"""Another place than the contract's for the model repository (runs outside a pod)."""


def pull(wanted: PullInput, models: Path, environ: Mapping[str, str]) -> int:
    """Fetch, verify and render into `models`; the bytes fetched. Raises `StoreError`, `ValueError`, `OSError`."""
    store = open_store(wanted.artifacts, wanted.namespace, environ)
    models.mkdir(parents=True, exist_ok=True)
    for left in models.iterdir():  # of an earlier attempt in the same pod
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    artifact = models / ".artifact"
    manifest = store.fetch(wanted.digest, artifact)
    try:
        settings = repository.Settings(wanted.model, wanted.batching, accelerator=wanted.accelerator, half=wanted.half)
        repository.write(artifact, settings, models)
    finally:
        shutil.rmtree(artifact, ignore_errors=True)
    return manifest.bytes


def main() -> int:
    """Run as the init container; the exit code follows the contract."""
    began = time.monotonic()
    try:
        wanted = msgspec.json.decode(os.environ[contract.PULL_ENV], type=PullInput)
        size = pull(wanted, Path(os.environ.get(MODELS_ENV, contract.MODELS_MOUNT)), os.environ)
    except StoreError as error:
        return ending.fail("pull", error.reason, str(error), error.world)
    except (KeyError, msgspec.DecodeError) as error:
        return ending.fail("pull", "BadInput", f"{contract.PULL_ENV} is missing or cannot be read: {error}", False)
    except ValueError as error:
        return ending.fail("pull", "ArtifactUnusable", str(error), False)
    except OSError as error:
        return ending.fail("pull", "DiskFailed", f"Could not write the model repository: {error.strerror}.", True)
    print(f"pulled {wanted.digest}: {size} bytes verified in {time.monotonic() - began:.1f} s", flush=True)
    return int(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main())
