"""Heads of HTTP/1.1 messages: strict parsing and body framing, without I/O (RFC 9112).

A head is everything up to and including the blank line. Whoever reads a connection finds its end with `find_head_end`, hands the
bytes to `parse_request` or `parse_response`, and learns from `Headers.length` or `response_framing` how long the body is. What the grammar does not allow is
refused with `BadHead`: obsolete line folding, bare line feeds, blanks around header names, control characters, two `Host` lines,
contradicting lengths, and `Content-Length` beside `Transfer-Encoding`.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "CHUNKED",
    "MAX_HEAD",
    "MAX_LINES",
    "NO_LENGTH",
    "BadHead",
    "Headers",
    "RequestHead",
    "ResponseHead",
    "find_head_end",
    "parse_request",
    "parse_response",
    "response_framing",
]

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head that are accepted; a longer one is answered 431."""

MAX_LINES: Final = 1000
"""Header lines that are accepted; a head with more is answered 431. Lines of one name are joined, which costs the more the more there are."""

CHUNKED: Final = -1
"""Framing: the body is sent in chunks."""

NO_LENGTH: Final = -2
"""Framing: the message tells no length (a response then lasts until the connection closes; a request has no body)."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/(\d)\.(\d)\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_HEADER_BLOCK = re.compile(rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_BARE_LF = re.compile(rb"(?:^|[^\r])\n")

# Keep-alive clients send the same header block with every request; parsing one costs more than the rest of a small request.
_SEEN_MAX = 512
_SEEN_LONGEST = 1024


class BadHead(Exception):
    """A head that cannot be accepted; `status` is what a server answers before it closes the connection."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Headers(dict[str, str]):
    """Header fields by lower-case name; repeated lines are joined by ", " and kept apart in `lines`.

    Shared between messages with equal header blocks: never changed after parsing.
    """

    __slots__ = ("_repeated", "closes", "connection", "keeps", "length")

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] | None = None
        self.length = NO_LENGTH
        """Number of body bytes announced, `CHUNKED`, or `NO_LENGTH`."""
        self.connection = ""
        """The `Connection` field in lower case."""
        self.closes = False
        """Whether that says `close`."""
        self.keeps = False
        """Whether it says `keep-alive` and not `close`."""

    def lines(self, name: str) -> list[str]:
        """Values of `name`, one for each line in which it occurred."""
        if self._repeated is not None and name in self._repeated:
            return self._repeated[name]
        value = self.get(name)
        return [] if value is None else [value]

    def add(self, name: str, value: str) -> None:
        """Add a repeated header line (parsing only)."""
        before = self[name]
        if self._repeated is None:
            self._repeated = {}
        self._repeated.setdefault(name, [before]).append(value)
        self[name] = f"{before}, {value}"


class RequestHead:
    """Method, target and header fields of a request; `old` if it is of HTTP/1.0."""

    __slots__ = ("headers", "keep_alive", "method", "old", "target")

    def __init__(self, method: str, target: bytes, headers: Headers, keep_alive: bool, old: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = keep_alive
        self.old = old


class ResponseHead:
    """Status and header fields of a response."""

    __slots__ = ("headers", "keep_alive", "reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers, keep_alive: bool) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.keep_alive = keep_alive


def find_head_end(data: bytes | bytearray, start: int = 0) -> int:
    """Index just behind the head in `data`, or -1 if the head is not complete yet.

    `start` is where the last search ended; raises `BadHead` for a head that is too long or has a bare line feed, so that a peer that
    never sends CRLF is refused at once and not when the time for a head is over.
    """
    end = data.find(b"\r\n\r\n", max(0, start - 3))
    if end >= 0:
        if end > MAX_HEAD:
            raise BadHead(431, "head too large")
        return end + 4
    if len(data) > MAX_HEAD:
        raise BadHead(431, "head too large")
    if _BARE_LF.search(data, max(0, start - 1)):
        raise BadHead(400, "bare line feed in head")
    return -1


def parse_request(head: bytes) -> RequestHead:
    """Parse a whole request head; `BadHead` carries 400, 431, 501 or 505."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise BadHead(400, "malformed request line")
    method, target, major, minor = line.groups()
    if major != b"1":
        raise BadHead(505, "unsupported HTTP version")
    old = minor == b"0"
    headers = _request_headers(head[line.end() :], not old)
    if old and headers.length == CHUNKED:
        raise BadHead(400, "Transfer-Encoding in a request of HTTP/1.0")  # RFC 9112 6.1: its framing cannot be trusted
    return RequestHead(method.decode("ascii"), target, headers, headers.keeps if old else not headers.closes, old)


def parse_response(head: bytes) -> ResponseHead:
    """Parse a whole response head; `BadHead` if it is not one."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise BadHead(502, "malformed status line")
    minor, status, reason = line.groups()
    headers = _parse_block(head[line.end() :])
    keep_alive = headers.keeps if minor == b"0" else not headers.closes
    return ResponseHead(int(status), (reason or b"").decode("latin-1"), headers, keep_alive)


def response_framing(head: ResponseHead, method: str) -> int:
    """Length of a response's body: a number, `CHUNKED`, or `NO_LENGTH` for one that lasts until the connection closes."""
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    return head.headers.length


_seen: dict[bytes, Headers] = {}


def _request_headers(block: bytes, host_required: bool) -> Headers:
    headers = _seen.get(block)
    if headers is None:
        headers = _parse_block(block)
        if host_required and "host" not in headers:
            raise BadHead(400, "missing Host")
        if len(headers.lines("host")) > 1:
            raise BadHead(400, "more than one Host")
        if host_required and len(block) <= _SEEN_LONGEST:
            if len(_seen) >= _SEEN_MAX:
                _seen.clear()
            _seen[block] = headers
    return headers


def _parse_block(block: bytes) -> Headers:
    if _HEADER_BLOCK.fullmatch(block) is None:
        raise BadHead(400, "malformed header line")
    if block.count(b"\r\n") > MAX_LINES + 1:
        raise BadHead(431, "too many header lines")
    headers = Headers()
    for line in block.decode("latin-1").split("\r\n"):
        if not line:
            break
        name, _, value = line.partition(":")
        name = name.lower()
        if name in headers:
            headers.add(name, value.strip(" \t"))
        else:
            headers[name] = value.strip(" \t")
    if "connection" in headers:
        headers.connection = headers["connection"].lower()
        options = [option.strip(" \t") for option in headers.connection.split(",")]
        headers.closes = "close" in options
        headers.keeps = "keep-alive" in options and not headers.closes
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise BadHead(501, "unsupported transfer coding")
        if "content-length" in headers:
            raise BadHead(400, "Content-Length beside Transfer-Encoding")
        headers.length = CHUNKED
    elif "content-length" in headers:
        lengths = set(headers.lines("content-length"))
        length = lengths.pop()
        if lengths or not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise BadHead(400, "bad Content-Length")
        headers.length = int(length)
    return headers
