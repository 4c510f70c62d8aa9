"""Buckets to sort, on one node and on three targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shards import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore import LocalCluster


@pytest.fixture
def places(where: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Places]:
    """Two buckets of this test, for input and output."""
    with where.client() as client, Places.of(where, client, request.node.nodeid) as made:
        yield made


@pytest.fixture
def one(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Places]:
    """The same on one node only."""
    with cluster.client() as client, Places.of(cluster, client, request.node.nodeid) as made:
        yield made
