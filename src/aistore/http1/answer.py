"""Finding the head of an answer in what a connection gives, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.http1.failures import HeadCut
from aistore.http1.head import BadHead, find_head_end, parse_response

if TYPE_CHECKING:
    from collections.abc import Generator

    from aistore.http1.head import ResponseHead

__all__ = ["MAX_INTERIM", "read_head"]

MAX_INTERIM: Final = 32
"""1xx answers that are skipped before the final one."""


def read_head(
    data: bytes, *, stop_at_continue: bool = False
) -> Generator[None, bytes, tuple[ResponseHead, bytes] | None]:
    """The final head that starts in `data`, and what came behind it; yields when it needs more data, and is sent it (empty at the end).

    Interim answers are skipped. With `stop_at_continue` None is returned when `100 Continue` came and nothing else yet.
    """
    for _ in range(MAX_INTERIM):
        end = find_head_end(data)
        while end < 0:
            more = yield
            if not more:
                raise HeadCut(f"closed after {len(data)} bytes of the head")
            start = len(data)
            data += more
            end = find_head_end(data, start)
        head = parse_response(data[:end])
        if head.status >= 200:
            return head, data[end:]
        if head.status == 101:
            raise BadHead(502, "101 Switching Protocols, which nobody asked for")
        data = data[end:]
        if head.status == 100 and stop_at_continue and not data:
            return None
        if not data:
            data = yield
            if not data:
                raise HeadCut(f"closed after the interim answer {head.status}")
    raise BadHead(502, f"more than {MAX_INTERIM} interim answers")
