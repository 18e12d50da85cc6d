"""Wait until the API server serves our kinds: `python -m optimodel.apicheck`. The chart runs it before it makes objects of them.

A kind is served some time after its CRD is accepted: at once by a single API server, 5 s later where there are several.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from .adapters.kinds import WATCHED
from .adapters.kube import Kube
from .api.names import API_VERSION
from .errors import ApiError, TooMany, Transient

OURS = frozenset(kind.plural for kind in WATCHED if kind.api_version == API_VERSION)
PAUSE_S = 0.5


async def check(seconds: float) -> str:
    """Why our kinds are not served `seconds` from now; "" as soon as they are. Raises `ApiError` for what waiting does not mend."""
    deadline = time.monotonic() + seconds
    kube = await Kube.connect()
    try:
        while True:
            try:
                missing = OURS - await kube.served(API_VERSION)
                lack = f"the API server does not serve {', '.join(sorted(missing))} of {API_VERSION}"
                lack += ": apply the CRDs (crds.install, or crds/)"
            except (Transient, TooMany) as error:
                missing, lack = OURS, str(error)
            if not missing or time.monotonic() > deadline:
                return lack if missing else ""
            await asyncio.sleep(PAUSE_S)
    finally:
        await kube.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 once all are served; 1 where they are not in time, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m optimodel.apicheck", description=__doc__)
    parser.add_argument("--seconds", type=float, default=240.0, help="how long to wait")
    try:
        lack = asyncio.run(check(parser.parse_args(arguments).seconds))
    except ApiError as error:
        lack = str(error)
    if lack:
        print(lack, file=sys.stderr)
    return int(bool(lack))


if __name__ == "__main__":
    sys.exit(main())
