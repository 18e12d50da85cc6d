"""Fetch from a Hugging Face compatible hub, with its own client. The revision is resolved to a commit once."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from optimodel.api.sources import HuggingFace

from ..errors import Failure
from .checks import choose

DEFAULT_ENDPOINT = "https://huggingface.co"


def fetch(wanted: HuggingFace, into: Path, token: str, report: Callable[[int, str], None]) -> None:
    """Download the needed files of one commit into `into`. Raises `Failure`."""
    os.environ.update({"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"})
    import huggingface_hub

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    endpoint = wanted.endpoint or DEFAULT_ENDPOINT
    place = f"{wanted.repo}@{wanted.revision} on {endpoint}"
    with _translated(place):
        client = huggingface_hub.HfApi(endpoint=endpoint, token=token or False)
        info = client.model_info(wanted.repo, revision=wanted.revision, files_metadata=True, timeout=30)
        listing = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = choose(listing)
        done, total = 0, max(1, sum(listing[name] for name in names))
        for name in names:
            report(100 * done // total, name)
            client.hf_hub_download(wanted.repo, name, revision=info.sha, local_dir=into)
            done += listing[name]
            if listing[name] and (into / name).stat().st_size != listing[name]:
                raise Failure(
                    "SourceTruncated", f"{place}: {name} is shorter than listed; this is retried.", world=True
                )
    shutil.rmtree(into / ".cache", ignore_errors=True)


@contextmanager
def _translated(place: str) -> Iterator[None]:
    from huggingface_hub import errors

    denied = f"{place}: access denied. Put a token that may read it under HF_TOKEN in the Secret of its secretRef."
    try:
        yield
    except Failure:
        raise
    except errors.GatedRepoError as error:
        raise Failure("SourceAccessDenied", denied, world=True) from error
    except errors.RevisionNotFoundError as error:
        raise Failure(
            "SourceNotFound", f"{place}: there is no such revision. Correct its revision.", world=True
        ) from error
    except errors.HFValidationError as error:
        raise Failure("SourceInvalid", f"{place}: not a valid repository name. Write it as owner/name.") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise Failure("SourceAccessDenied", denied, world=True) from error
        if status == 404:
            raise Failure(
                "SourceNotFound", f"{place}: not found. Correct its repo, or upload it.", world=True
            ) from error
        raise Failure(
            "SourceUnreachable", f"{place}: the hub answered {status}; this is retried.", world=True
        ) from error
    except Exception as error:
        if "onsistency" in str(error):
            raise Failure(
                "SourceTruncated", f"{place}: a file arrived cut off; this is retried.", world=True
            ) from error
        message = f"{place}: no usable answer ({type(error).__name__}); this is retried."
        raise Failure("SourceUnreachable", message, world=True) from error
