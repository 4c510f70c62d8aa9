"""What a server's handlers see of a request and hand back as a reply; no I/O."""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from aistore.http1.head import BadHead, RequestHead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = [
    "BytesLike",
    "FilePart",
    "Params",
    "Pending",
    "Reply",
    "encode_reply_head",
    "parse_params",
    "printable",
    "split_target",
]

T = TypeVar("T")

BytesLike = bytes | bytearray | memoryview

_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_CONTROLS: Final = dict.fromkeys([*range(32), 127], " ")
_LARGE_FILE: Final = 64 << 20  # removing one takes a while
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_PARAMS_MAX = 1024
_PARAMS_LONGEST = 256


class FilePart:
    """A part of an open file as body; sent with `sendfile`.

    Whoever sends it closes it, whatever happens: the descriptor is released and `released` is called once.
    """

    __slots__ = ("_released", "fd", "length", "offset")

    grows = False
    """Whether its bytes are still coming: then `ready` tells up to where they are there."""

    def __init__(self, fd: int, offset: int, length: int, released: Callable[[], None] | None = None) -> None:
        self.fd = fd
        self.offset = offset
        self.length = length
        self._released = released

    async def ready(self, offset: int) -> int:  # noqa: ARG002 (for parts that grow)
        """Wait until a byte at `offset` is there; where in the file what is there ends."""
        return self.offset + self.length

    def close(self) -> None:
        """Release the descriptor (on the loop); the last one of a large file that was deleted meanwhile, in a thread, since it frees the disk."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            status = os.fstat(fd)
            if status.st_nlink or status.st_size < _LARGE_FILE:
                os.close(fd)
            else:
                asyncio.get_running_loop().run_in_executor(None, os.close, fd)
            if self._released is not None:
                self._released()


class Reply:
    """Status, header fields and body of an answer.

    `body` is bytes, a `FilePart`, or an async iterator of pieces (sent chunked), each bytes-like or a list of bytes that go out together.
    `Content-Length` is added where the length is known and not given. `close` ends the connection after the reply.
    """

    __slots__ = ("body", "close", "headers", "status")

    def __init__(
        self,
        status: int = 200,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | FilePart | AsyncIterator[BytesLike | list[bytes]] = b"",
        *,
        close: bool = False,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.close = close


class Pending:
    """An answer that is ready when a future is: `render` makes it from the future's result. Cheaper than a task."""

    __slots__ = ("future", "render")

    def __init__(self, future: asyncio.Future[T], render: Callable[[T], bytes | Reply]) -> None:
        self.future: asyncio.Future[Any] = future
        self.render: Callable[[Any], bytes | Reply] = render


def printable(value: str) -> str:
    """The value of a header without line breaks and the like: custom metadata may hold them; in a head they would start another header."""
    return value if value.isprintable() else value.translate(_CONTROLS)


def encode_reply_head(reply: Reply, head: RequestHead | None, *, chunked: bool, close: bool) -> bytes:
    """The reply's head. A body of unknown length is `chunked`, or lasts until the connection is closed."""
    out = [_STATUS_LINES.get(reply.status) or f"HTTP/1.1 {reply.status} \r\n"]
    has_length = False
    for name, value in reply.headers:
        if name == "Content-Length":
            has_length = True
        out.append(f"{name}: {printable(value)}\r\n")
    if chunked:
        out.append("Transfer-Encoding: chunked\r\n")
    elif not has_length and reply.status >= 200 and reply.status not in (204, 304):
        body = reply.body
        if isinstance(body, FilePart):
            out.append(f"Content-Length: {body.length}\r\n")
        elif isinstance(body, bytes):
            out.append(f"Content-Length: {len(body)}\r\n")
    if close:
        out.append("Connection: close\r\n")
    elif head is not None and head.headers.connection == "keep-alive":
        out.append("Connection: keep-alive\r\n")
    out.append("\r\n")
    text = "".join(out)
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        # Custom metadata and error texts may hold any character; header fields carry its UTF-8 bytes, as the reference's do.
        return text.encode("utf-8", "surrogateescape")


class Params(dict[str, str]):
    """Query parameters, percent-decoded; of repeated ones the first counts."""

    __slots__ = ("bad", "count", "raw")

    def __init__(self, raw: dict[str, str], bad: str | None, count: int) -> None:
        super().__init__()
        self.raw = raw
        """Values as they were sent."""
        self.bad = bad
        """The first `name=value` with a bad escape, or None."""
        self.count = count
        """Number of parameters sent."""


_params: dict[str, Params] = {}


def parse_params(query: str) -> Params:
    """Parse a raw query string; equal ones are parsed once, so the result must not be changed."""
    params = _params.get(query)
    if params is None:
        params = _parse_params(query)
        if len(query) <= _PARAMS_LONGEST:
            if len(_params) >= _PARAMS_MAX:
                _params.clear()
            _params[query] = params
    return params


def _parse_params(query: str) -> Params:
    items = [item for item in query.split("&") if item]
    raw: dict[str, str] = {}
    params = Params(raw, None, len(items))
    for item in items:
        name, _, value = item.partition("=")
        raw.setdefault(name, value)
        if "%" in item or "+" in item or not item.isascii():
            if params.bad is None and not _escapes_are_good(item):
                params.bad = item
            name, value = _decode(name), _decode(value)
        params.setdefault(name, value)
    return params


def _decode(text: str) -> str:
    # A query is kept as Latin-1, so that every byte of it is one character.
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8", "surrogateescape")


def _escapes_are_good(text: str) -> bool:
    return all(len(e) >= 2 and e[0] in _HEX and e[1] in _HEX for e in text.split("%")[1:])


def split_target(target: bytes) -> tuple[str, str, str]:
    """Split a request target into decoded path, raw path and raw query; an absolute URI loses scheme and authority (RFC 9112 3.2.2).

    Raises `BadHead` (400) for a bad percent escape in the path or a path that is not UTF-8.
    """
    text = target.decode("latin-1")
    raw, _, query = text.partition("?")
    if not raw.startswith("/") and raw != "*":
        scheme, sep, rest = raw.partition("://")
        if not sep or not scheme.isalnum():
            raise BadHead(400, "malformed request target")
        raw = "/" + rest.partition("/")[2]
    path = raw
    if "%" in raw or not raw.isascii():
        if not _escapes_are_good(raw):
            raise BadHead(400, "bad percent escape in path")
        try:
            path = unquote_to_bytes(raw.encode("latin-1")).decode("utf-8")
        except UnicodeDecodeError:
            raise BadHead(400, "path is not UTF-8") from None
    return path, raw, query
