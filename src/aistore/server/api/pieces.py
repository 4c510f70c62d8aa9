"""Large bodies pass through two buffers: one is hashed and written in a thread while the other one is received into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aistore.http1.server import Body

__all__ = ["LARGE_PIECE", "hold_two"]

_PIECE: Final = 1 << 20
LARGE_PIECE: Final = 2 << 20
"""Bytes of a piece of a body of at least four of them. Handing a piece to a thread and back costs about 0.1 ms, whatever its size."""
_LEAST_PIECE: Final = 64 << 10  # where memory is scarce


def hold_two(body: Body) -> int:
    """Count memory for two pieces of a body; the bytes of each. Raises `MemoryFull`."""
    length = body.length
    wanted = LARGE_PIECE if (length or 0) >= 4 * LARGE_PIECE else min(_PIECE, length or _PIECE)
    return body.hold(2 * wanted, 2 * min(wanted, _LEAST_PIECE)) // 2
