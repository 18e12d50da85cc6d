"""A cluster with the operator in it, tiny models in its store, and a namespace for every test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo import stage
from tests.e2e import kit, tiny

SEEDS = {"a": 1, "b": 2}
REPLICAS = 2


@pytest.fixture(scope="session")
def kubectl() -> stage.Kubectl:
    """kubectl on the cluster that is up, the chart installed with a standby."""
    found = stage.Kubectl(stage.kubeconfig())
    stage.install(found, replicas=REPLICAS)
    return found


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models by name, in the store under the same names."""
    found = {name: tiny.write(tmp_path_factory.mktemp(name), seed) for name, seed in SEEDS.items()}
    for name, folder in found.items():
        stage.upload(folder, f"{kit.ROOT}/{name}")
    return found


def house_of(kubectl: stage.Kubectl, name: str) -> Iterator[kit.House]:
    """A fresh tenant namespace, removed afterwards without waiting."""
    stage.tenant(kubectl, name)
    yield kit.House(kubectl, name)
    kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


@pytest.fixture
def house(kubectl: stage.Kubectl, models: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[kit.House]:
    """The test's own namespace."""
    yield from house_of(kubectl, fresh(kubectl, request.node.name))


@pytest.fixture(scope="module")
def shared(kubectl: stage.Kubectl, models: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[kit.House]:
    """One namespace for the tests of a file that can do with the same objects."""
    yield from house_of(kubectl, fresh(kubectl, request.module.__name__.rpartition(".")[2]))


def fresh(kubectl: stage.Kubectl, name: str) -> str:
    """A namespace's name that is not taken, also not by one that is still going."""
    base = "e2e-" + re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("test_")).strip("-")[:30]
    taken = set(kubectl("get", "namespaces", "-o", "name").replace("namespace/", "").split())
    return next(n for n in (f"{base}-{i}" for i in range(1000)) if n not in taken)
