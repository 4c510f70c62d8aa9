"""Buckets to sort, on one node and on three targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shards import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore import LocalCluster


@pytest.fixture(scope="module", params=["cluster", "cluster3"])
def where(request: pytest.FixtureRequest) -> LocalCluster:
    """One node, and a gateway with three targets."""
    found: LocalCluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def places(where: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Places]:
    """Two buckets of this test, for input and output."""
    with where.client() as client:
        yield from _places(where, client, request)


@pytest.fixture
def one(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Places]:
    """The same on one node only."""
    with cluster.client() as client:
        yield from _places(cluster, client, request)


def _places(cluster: LocalCluster, client: object, request: pytest.FixtureRequest) -> Iterator[Places]:
    from aistore.sdk import Client

    assert isinstance(client, Client)
    name = f"{hash(request.node.nodeid) & 0xFFFFFFFF:08x}"
    source = client.bucket(f"in-{name}").create(exist_ok=False)
    target = client.bucket(f"out-{name}").create(exist_ok=False)
    yield Places(cluster, client, source, target)
    source.delete(missing_ok=True)
    target.delete(missing_ok=True)
