"""What the container allows: CPUs, and a prompt end on SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from optimodel.api import contract


def cpus() -> int:
    """CPUs this process may use, at least 1: whole ones of the container's limit, which the Job hands over, in the affinity mask."""
    count, limit = len(os.sched_getaffinity(0)), os.environ.get(contract.MILLICPUS_ENV, "")
    return max(1, min(count, int(limit) // 1000)) if limit.isdigit() else count


def on_terminate(action: Callable[[], int]) -> None:
    """On SIGTERM run `action` in a thread of its own and exit with its code, whatever the main thread computes.

    Call it before anything starts threads: they inherit the mask that leaves the signal to that thread.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        os._exit(action())

    threading.Thread(target=wait, name="terminate", daemon=True).start()
