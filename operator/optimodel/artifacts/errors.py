"""What can go wrong with a store.

StoreError
├── StoreUnreachable     no answer, or an answer that is no answer       the world
├── StoreAccessDenied    credentials missing or refused                  the world
├── BucketMissing        the bucket is not there                         the world
├── ObjectMissing        one object is not there                         the world
│   └── ArtifactMissing  a published artifact is not there               the world
├── DigestMismatch       the bytes are not those that were published     the world
├── ManifestInvalid      a manifest that is not one                      the spec
└── UnsafePath           a name that leaves its folder                   the spec
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import obstore.exceptions as backend


class StoreError(Exception):
    """Base; `str()` is a message that names the way out and holds no secret. The class name is the reason."""

    world = True
    """Whether the world may mend it, so that trying again makes sense."""

    @property
    def reason(self) -> str:
        return type(self).__name__


class StoreUnreachable(StoreError):
    """No answer from the store."""


class StoreAccessDenied(StoreError):
    """Credentials are missing, wrong, or do not allow this."""


class BucketMissing(StoreError):
    """The bucket does not exist."""


class ObjectMissing(StoreError):
    """The object does not exist."""


class ArtifactMissing(ObjectMissing):
    """The artifact does not exist in this store."""


class DigestMismatch(StoreError):
    """Stored bytes differ from their digest: truncated or tampered with."""


class ManifestInvalid(StoreError):
    """Not a manifest of ours."""

    world = False


class UnsafePath(StoreError):
    """A file name that would leave its folder."""

    world = False


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the backend's errors into ours; `what` names the place in the message."""
    try:
        yield
    except (backend.PermissionDeniedError, backend.UnauthenticatedError) as error:
        raise StoreAccessDenied(f"{what}: access denied. Check the Secret's keys and the bucket's policy.") from error
    except (FileNotFoundError, backend.NotFoundError) as error:
        if "NoSuchBucket" in str(error):
            raise BucketMissing(f"{what}: the bucket does not exist. Create it or correct the URL.") from error
        raise ObjectMissing(f"{what}: not found.") from error
    except PermissionError as error:
        raise StoreAccessDenied(f"{what}: the volume refuses this user. Check the claim's permissions.") from error
    except (backend.GenericError, backend.BaseError, OSError) as error:
        raise _from_text(what, str(error)) from error


def _from_text(what: str, text: str) -> StoreError:
    """The backend reports some S3 answers as generic errors; tell them apart by the answer's code."""
    if "NoSuchBucket" in text:
        return BucketMissing(f"{what}: the bucket does not exist. Create it or correct the URL.")
    if any(code in text for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied")):
        return StoreAccessDenied(f"{what}: access denied. Check the Secret's keys and the bucket's policy.")
    short = " ".join(text.split())[:160]
    return StoreUnreachable(f"{what}: no usable answer from the store ({short}). Check the endpoint; this is retried.")
