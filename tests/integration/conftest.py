"""The API server that the tests of one file share."""

from collections.abc import Iterator

import pytest
from devcluster.addons import define
from devcluster.apiserver import ApiServer
from tests.integration.crds import Cluster
from tests.integration.process import CRDS


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ApiServer() as api:
        cluster = Cluster(api.kubeconfig)
        define(api.kubeconfig, CRDS)
        cluster.must("create", "namespace", "team-a")
        yield cluster
