"""Settings of the operator, from its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from .plan.types import Platform

_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True)
class Settings:
    """What the installation decides. `namespaces` empty = the whole cluster; ports and counts are numbers, durations seconds."""

    platform: Platform
    namespaces: tuple[str, ...] = ()
    lease_namespace: str = "default"
    lease_name: str = "optimodel"
    health_port: int = 8081
    workers: int = 8
    sweep_interval: float = 300.0
    log_level: str = "INFO"

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Settings of this process.

        Raises:
            ValueError: a variable is missing or does not parse; the message names it.
        """
        own = env.get("POD_NAMESPACE", "default")
        return cls(
            platform=_platform(env, own),
            namespaces=tuple(name.strip() for name in env.get("WATCH_NAMESPACE", "").split(",") if name.strip()),
            lease_namespace=own,
            lease_name=env.get("OPTIMODEL_LEASE_NAME", "optimodel"),
            health_port=_number(env, "OPTIMODEL_HEALTH_PORT", 8081),
            workers=_number(env, "OPTIMODEL_WORKERS", 8),
            sweep_interval=_number(env, "OPTIMODEL_SWEEP_SECONDS", 300),
            log_level=env.get("OPTIMODEL_LOG_LEVEL", "INFO").upper(),
        )


def _platform(env: Mapping[str, str], own: str) -> Platform:
    missing = [name for name in ("OPTIMODEL_WORKER_IMAGE", "OPTIMODEL_OPERATOR_IMAGE") if not env.get(name)]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must name the images that Jobs and init containers run")
    return Platform(
        worker_image=env["OPTIMODEL_WORKER_IMAGE"],
        operator_image=env["OPTIMODEL_OPERATOR_IMAGE"],
        image_pull_policy=env.get("OPTIMODEL_IMAGE_PULL_POLICY", "IfNotPresent"),
        network_policy=env.get("OPTIMODEL_NETWORK_POLICY", "").lower() in _TRUE,
        gateway_namespace=env.get("OPTIMODEL_GATEWAY_NAMESPACE", ""),
        operator_namespace=own,
        worker_images=_images(env, "OPTIMODEL_WORKER_IMAGES"),
    )


def _images(env: Mapping[str, str], name: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(env.get(name) or "{}", type=dict[str, Annotated[str, msgspec.Meta(min_length=1)]])
    except msgspec.DecodeError as error:
        raise ValueError(f"{name} must be a JSON object of names and images: {error}") from error


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(env.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name} must be a whole number, not {env[name]!r}") from error
