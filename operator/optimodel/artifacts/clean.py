"""`python -m optimodel.artifacts.clean`: the Job that removes artifacts that nobody names any more."""

from __future__ import annotations

import os
import sys

import msgspec

from optimodel.api import contract
from optimodel.api.contract import CleanupInput, ExitCode

from . import ending
from .errors import StoreError
from .opening import open_store


def main() -> int:
    """Run as the cleanup Job; removing what is gone already is success."""
    try:
        wanted = msgspec.json.decode(os.environ[contract.JOB_ENV], type=CleanupInput)
        store = open_store(wanted.artifacts, wanted.namespace, os.environ)
        gone = store.remove(wanted.digests)
    except StoreError as error:
        return ending.fail("cleanup", error.reason, str(error), error.world)
    except (KeyError, msgspec.DecodeError) as error:
        return ending.fail("cleanup", "BadInput", f"{contract.JOB_ENV} is missing or cannot be read: {error}", False)
    print(f"removed {len(gone)} artifacts: {' '.join(gone)}", flush=True)
    return int(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main())
