"""A client of either kind of cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore import LocalCluster
    from aistore.sdk import Client


@pytest.fixture
def there(where: LocalCluster) -> Iterator[Client]:
    """A client of it."""
    with where.client() as client:
        yield client
