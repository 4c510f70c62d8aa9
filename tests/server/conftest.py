"""Both kinds of cluster, for tests that have to pass on one node and on several targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore import LocalCluster
    from aistore.sdk import Client


@pytest.fixture(scope="module", params=["cluster", "cluster3"])
def where(request: pytest.FixtureRequest) -> LocalCluster:
    """One node, and a gateway with three targets."""
    found: LocalCluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def there(where: LocalCluster) -> Iterator[Client]:
    """A client of it."""
    with where.client() as client:
        yield client
