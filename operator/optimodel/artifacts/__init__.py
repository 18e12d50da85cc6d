"""The content-addressed artifact store over object-store URLs, and the two programs that live on it: `pull` and `clean`.

<prefix>/<namespace>/artifacts/<hex>/manifest.json + files    an artifact; its digest is the sha256 of the manifest
<prefix>/<namespace>/steps/<key>.json                         what a step made: input digest -> output digest
<prefix>/<namespace>/published/<hex>.json                     artifacts that a Job published, as against intermediates
<prefix>/<namespace>/reports/..., sources/...                 full evaluations; facts about sources
<prefix>/<namespace>/checkpoints/<key>                        the newest checkpoint of a step that is not done
"""

from .errors import (
    ArtifactMissing,
    BucketMissing,
    DigestMismatch,
    ManifestInvalid,
    ObjectMissing,
    StoreAccessDenied,
    StoreError,
    StoreUnreachable,
    UnsafePath,
)
from .manifest import Manifest
from .opening import open_prefix, open_store
from .store import StepEntry, Store

__all__ = [
    "ArtifactMissing",
    "BucketMissing",
    "DigestMismatch",
    "Manifest",
    "ManifestInvalid",
    "ObjectMissing",
    "StepEntry",
    "Store",
    "StoreAccessDenied",
    "StoreError",
    "StoreUnreachable",
    "UnsafePath",
    "open_prefix",
    "open_store",
]
