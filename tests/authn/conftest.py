"""An AuthN server, and clusters that ask for its tokens: one node, and a gateway with three targets."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guarding import Guarded


@pytest.fixture(scope="module", params=["guarded", "guarded3"])
def there(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    """Each of them."""
    yield request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def bucket(there: Guarded) -> Iterator[str]:
    name = f"gate-{uuid.uuid4().hex[:8]}"
    with there.admin as root:
        root.make_bucket(name)
        assert root.put(name, "o", b"content").status == 200
    yield name
    with there.admin as root:  # the server has closed the first one's connection by then
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")
