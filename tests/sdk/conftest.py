"""What the tests of the SDK share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from answering import MADE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _closed_clients() -> Iterator[None]:
    """Close the connections of the clients that a test made."""
    yield
    while MADE:
        MADE.pop().close()
