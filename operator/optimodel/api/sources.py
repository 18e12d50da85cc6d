"""Where models, artifacts and data lie."""

from __future__ import annotations

from typing import Literal

from .struct import Struct


class LocalRef(Struct, frozen=True):
    """Name of an object in the same namespace."""

    name: str


class S3(Struct, frozen=True):
    """An S3 prefix. `url` is `s3://bucket/prefix`; credentials come from `secretRef` (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    secret_ref: LocalRef | None = None


class PVC(Struct, frozen=True):
    """A folder or file on a claim of the same namespace."""

    claim_name: str
    path: str = ""


class HuggingFace(Struct, frozen=True):
    """A repository on a Hugging Face compatible hub; `secretRef` holds HF_TOKEN."""

    repo: str
    revision: str = "main"
    endpoint: str | None = None
    secret_ref: LocalRef | None = None


class Source(Struct, frozen=True):
    """Where the model comes from: exactly one of the members. Changing `refresh` (any text) resolves the source again."""

    hugging_face: HuggingFace | None = None
    s3: S3 | None = None
    pvc: PVC | None = None
    refresh: str | None = None


class Model(Struct, frozen=True):
    """Another model that steps name, such as the student of a Distill: exactly one of the members beside its name."""

    name: str
    hugging_face: HuggingFace | None = None
    s3: S3 | None = None
    pvc: PVC | None = None

    @property
    def source(self) -> Source:
        """Where it comes from."""
        return Source(self.hugging_face, self.s3, self.pvc)


DeletionPolicy = Literal["Retain", "Delete"]


class Artifacts(Struct, frozen=True):
    """The artifact store of this object: an S3 prefix or a claim, and what happens to the bytes when the object goes."""

    s3: S3 | None = None
    pvc: PVC | None = None
    deletion_policy: DeletionPolicy = "Retain"


class Part(Struct, frozen=True):
    """A share of a dataset, in percent of its rows; named `DATASET/PART` where data is named."""

    name: str
    percent: int


class Split(Struct, frozen=True):
    """Disjoint parts of a dataset, drawn within each label with `seed` after equal texts were dropped."""

    parts: tuple[Part, ...]
    seed: int = 0


class Dataset(Struct, frozen=True):
    """A named file of texts: JSON Lines, CSV or Parquet by its suffix. `labelField` where a metric or a training step needs one."""

    name: str
    s3: S3 | None = None
    pvc: PVC | None = None
    text_field: str = "text"
    label_field: str = "label"
    split: Split | None = None
