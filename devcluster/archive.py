"""OCI image archives of one layer, written without any image builder: enough for static binaries."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def write(target: Path, name: str, files: dict[str, Path], entrypoint: list[str]) -> None:
    """Write an image called ``name`` that holds ``files`` (path in the image → file here), all executable."""
    blobs: dict[str, bytes] = {}
    layer = _layer(files)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(blobs, json.dumps(config).encode(), CONFIG),
        "layers": [_descriptor(blobs, layer, LAYER)],
    }
    entry = _descriptor(blobs, json.dumps(manifest).encode(), MANIFEST)
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [{**entry, "annotations": names}]}
    with tarfile.open(target, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(archive, "index.json", json.dumps(index).encode())
        for digest, data in blobs.items():
            _add(archive, "blobs/" + digest.replace(":", "/"), data)


def _layer(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        temporary = tarfile.TarInfo("tmp")
        temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
        layer.addfile(temporary)
        for path, source in files.items():
            _add(layer, path.lstrip("/"), source.read_bytes(), 0o755)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _descriptor(blobs: dict[str, bytes], data: bytes, kind: str) -> dict[str, object]:
    blobs[_digest(data)] = data
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}
