"""From a spec and the environment to an opened store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.store import LocalStore, S3Store

from optimodel.api import contract
from optimodel.api.sources import S3, Artifacts

from .errors import StoreError, UnsafePath, translated
from .manifest import safe
from .store import Store

_RETRY = {"max_retries": 5, "retry_timeout": timedelta(seconds=45)}
_CLIENT = {"connect_timeout": "5s", "timeout": "300s"}


class BadUrl(StoreError):
    """A URL that is not of a store."""

    world = False


def open_prefix(s3: S3, role: str, environ: Mapping[str, str]) -> Any:
    """The object store rooted at `s3.url` (`s3://bucket/prefix`, or `file:///folder` outside clusters), with the
    credentials of `role` from the environment; none there = anonymous requests. Raises `StoreError`."""
    url = urlsplit(s3.url)
    if url.scheme == "file":
        return open_folder(Path(url.path))
    if url.scheme != "s3" or not url.netloc:
        raise BadUrl(f"{s3.url!r} is not a URL of the form s3://bucket/prefix.")
    names = contract.credential_env(role)
    key, secret = (environ.get(names[n], "") for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    config: dict[str, Any] = {"region": s3.region or "us-east-1", "virtual_hosted_style_request": False}
    if s3.endpoint:
        config["endpoint"] = s3.endpoint
    credentials = {"access_key_id": key, "secret_access_key": secret} if key else {"skip_signature": True}
    client = _CLIENT | {"allow_http": bool(s3.endpoint and s3.endpoint.startswith("http://"))}
    prefix = url.path.strip("/") or None
    with translated(s3.url):
        return S3Store(
            url.netloc, prefix=prefix, client_options=client, retry_config=_RETRY, config={**config, **credentials}
        )


def open_folder(folder: Path) -> Any:
    """The object store in a folder, made if it is missing."""
    with translated(folder.name):
        folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(folder)


def open_store(
    artifacts: Artifacts, namespace: str, environ: Mapping[str, str], mount: Path = Path(contract.STORE_MOUNT)
) -> Store:
    """The artifact store of one namespace: nothing is shared across namespaces. Raises `StoreError`."""
    if artifacts.s3 is not None:
        return Store(open_prefix(artifacts.s3, "store", environ), namespace, artifacts.s3.url.rstrip("/"))
    if artifacts.pvc is not None:
        path = artifacts.pvc.path.strip("/")
        folder = mount / safe(path) if path else mount
        return Store(open_folder(folder), namespace, f"pvc {artifacts.pvc.claim_name}")
    raise UnsafePath("spec.artifacts names no store. Give it s3 or pvc.")
