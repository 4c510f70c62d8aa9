"""What a call sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from aistore.http1.payload import Body

__all__ = ["CONNECT_SECONDS", "READ_SECONDS", "Request", "Timeout"]

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 20.0


class Timeout(NamedTuple):
    """Seconds to wait for a connection, and for each gap in the answer; None waits for ever."""

    connect: float | None = CONNECT_SECONDS
    read: float | None = READ_SECONDS


class Request:
    """One call: immutable by convention, so that it can be sent again.

    `path` is below the base URL and percent-encoded, `query` form-encoded; `headers` come on top of those that every request of the
    client carries. With `stream` the caller reads the body of the answer, otherwise it is read before the response is returned.
    `base` is another base URL (ending in `/v1`) than the client's, for direct access to a target. Calls on objects go on without it,
    which shows in the answer's request, when nobody answers there. After `until` (`time.monotonic`) it is not repeated.
    """

    __slots__ = ("base", "body", "headers", "method", "path", "query", "stream", "timeout", "until")

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        body: Body = None,
        stream: bool = False,
        timeout: Timeout | None = None,
        base: str | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.stream = stream
        self.timeout = timeout
        self.base = base
        self.until: float | None = None

    def __repr__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"<Request {self.method} {self.base or ''}/{self.path.lstrip('/')}{query}>"
