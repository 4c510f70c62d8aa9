"""What the tests of the asyncio face share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from faces import Faces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore import LocalCluster


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of this test."""
    made = asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_asyncgens())
    made.run_until_complete(made.shutdown_default_executor())
    assert not asyncio.all_tasks(made)
    made.close()


@pytest.fixture
def faces(loop: asyncio.AbstractEventLoop) -> Iterator[Faces]:
    """Makes clients that look like blocking ones."""
    made = Faces(loop)
    yield made
    made.close()


@pytest.fixture
def client(faces: Faces, cluster: LocalCluster) -> Any:
    """An asyncio client of the one node, seen as a blocking one."""
    return faces.client(cluster.url)


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty bucket of this test, of that client."""
    made = client.bucket(f"aio-{hash(request.node.nodeid) & 0xFFFFFFFF:08x}").create()
    yield made
    made.delete(missing_ok=True)
