"""How an exchange over one connection fails, besides `OSError` of the system and `BadHead`; shared by the blocking and the asyncio client."""

from __future__ import annotations

__all__ = [
    "BadBody",
    "BodySourceChanged",
    "BodyTooLong",
    "ConnectTimedOut",
    "HeadCut",
    "MemoryFull",
    "NoAnswer",
    "ReadTimedOut",
    "ShortBody",
    "WriteTimedOut",
]


class ConnectTimedOut(TimeoutError):
    """No connection within the connect timeout."""


class ReadTimedOut(TimeoutError):
    """Nothing was received for as long as the read timeout."""


class WriteTimedOut(TimeoutError):
    """The peer took nothing for as long as the read timeout."""


class NoAnswer(ConnectionError):
    """The peer closed the connection before the first byte of its answer: if the connection was reused, it may have been too old."""


class HeadCut(ConnectionError):
    """The connection ended within the head of the answer."""


class ShortBody(Exception):
    """The connection ended before the body did; `expected` is -1 for a chunked body, whose length nobody announced."""

    def __init__(self, received: int, expected: int, cause: str = "the connection was closed") -> None:
        super().__init__(received, expected, cause)
        self.received = received
        self.expected = expected
        self.cause = cause

    def __str__(self) -> str:
        of = f" of {self.expected}" if self.expected >= 0 else ""
        return f"{self.cause} after {self.received}{of} bytes of the body"


class BadBody(Exception):
    """A chunked body that breaks the grammar (RFC 9112 7.1) or a limit."""


class BodyTooLong(BadBody):
    """A body that is longer than its reader takes."""


class MemoryFull(Exception):
    """A server holds as many request bodies in memory as it may: try again in a moment."""


class BodySourceChanged(ValueError):
    """A file or stream gave fewer or more bytes than its length promised while it was sent."""
