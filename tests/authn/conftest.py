"""An AuthN server, and clusters that ask for its tokens: one node, and a gateway with three targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guarding import Guarded


@pytest.fixture(scope="module", params=["guarded", "guarded3"])
def there(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    """Each of them."""
    yield request.getfixturevalue(request.param)
