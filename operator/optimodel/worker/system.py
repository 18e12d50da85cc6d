"""What the container allows: CPUs, and a prompt end on SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def cpus() -> int:
    """CPUs this process may use: the affinity mask, bounded by the cgroup's limit; at least 1."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_MAX.read_text().split()[:2]
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, count)


def on_terminate(action: Callable[[], int]) -> None:
    """On SIGTERM run `action` in a thread of its own and exit with its code, whatever the main thread computes.

    Call it before anything starts threads: they inherit the mask that leaves the signal to that thread.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        os._exit(action())

    threading.Thread(target=wait, name="terminate", daemon=True).start()
