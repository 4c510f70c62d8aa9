"""Answers as `requests` shows them. Loaded by calls that are documented to return a `requests.Response`."""

from __future__ import annotations

import datetime
import io
from typing import TYPE_CHECKING, TypeVar, cast

import requests

from aistore.calls.judge import prepared
from aistore.transport.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from aistore.calls.steps import Answer
    from aistore.transport.response import Response as BlockingAnswer

__all__ = ["RawStream", "Response"]

T = TypeVar("T", int, bytes)


class RawStream(io.BufferedReader):
    """The body of an answer as it arrives: a binary file that can be read once, not seekable.

    A body that ends early raises `TransportError`, after all that has come was given out: a piece may be short then, an end never is one
    that was not sent.
    """

    def __init__(self, answer: Answer) -> None:
        # What is here already is read from memory: the answer may be one of the asyncio transport.
        body = _Body(cast("BlockingAnswer", answer)) if answer.request.stream else io.BytesIO(answer.content)
        super().__init__(cast("io.RawIOBase", body), 64 * 1024)
        self._answer = answer
        self._body = body

    @property
    def status(self) -> int:
        """Status of the answer."""
        return self._answer.status

    @property
    def headers(self) -> requests.structures.CaseInsensitiveDict[str]:
        """Headers of the answer."""
        return requests.structures.CaseInsensitiveDict(self._answer.headers)

    def read(self, amt: int | None = -1, decode_content: bool | None = None) -> bytes:  # noqa: ARG002  the cluster encodes nothing
        """`amt` bytes, fewer only before the end or a failure; by default all that is left, or what failed."""
        if amt is None or amt < 0:
            return self._given(super().read(-1), whole=True)
        return self._given(super().read(amt)) if amt else b""

    def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes that are there, or come next."""
        return self._given(super().read1(size)) if size else b""

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer`; fewer only before the end or a failure."""
        return self._given(super().readinto(buffer))

    def readinto1(self, buffer: Buffer, /) -> int:
        """Fill `buffer` with what is there, or comes next."""
        return self._given(super().readinto1(buffer))

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line, cut only before a failure."""
        return self._given(super().readline(-1 if size is None else size))

    def peek(self, size: int = 0, /) -> bytes:
        """What comes next, without taking it."""
        return self._given(super().peek(size))

    def stream(self, amt: int = 64 * 1024, decode_content: bool | None = None) -> Iterator[bytes]:  # noqa: ARG002  as above
        """The rest in pieces of `amt` bytes."""
        while piece := self.read(amt):
            yield piece

    def release_conn(self) -> None:
        """Give up what was not read."""
        self.close()

    def _given(self, result: T, whole: bool = False) -> T:
        """What was read; raises the failure that ended it if that is all there is, or not the `whole` that was wanted."""
        if (whole or not result) and isinstance(self._body, _Body) and self._body.failure is not None:
            raise self._body.failure
        return result


class _Body(io.RawIOBase):
    """Ends at a failure, and keeps it: what `BufferedReader` has read by then it would drop if it were raised here."""

    def __init__(self, answer: BlockingAnswer) -> None:
        self._answer = answer
        self.failure: TransportError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader passes nothing else
        if self.failure is None:
            try:
                return self._answer.readinto(buffer)
            except TransportError as error:
                self.failure = error.with_traceback(None)  # it would hold on to the buffer
        return 0

    def readall(self) -> bytes:
        return b"" if self.failure is not None else self._answer.read()

    def close(self) -> None:
        if not self.closed:
            self._answer.close()
        super().close()


class Response(requests.Response):
    """A `requests.Response` that looks up what is asked for: most callers look at the status, if at anything."""

    def __init__(self, answer: Answer) -> None:
        # Not the base's constructor: it fills in a dozen attributes, which __getattr__ does one at a time.
        self._answer = answer
        self.status_code = answer.status

    def __getattr__(self, name: str) -> object:
        # Called for attributes that are not there yet; an unpickled response has all of them.
        fill = _ATTRIBUTES.get(name)
        if fill is None or "_answer" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = fill(self._answer)
        self.__dict__[name] = value
        return value


_ATTRIBUTES: dict[str, Callable[[Answer], object]] = {
    "_content": lambda answer: False if answer.request.stream else answer.content,
    "_content_consumed": lambda answer: not answer.request.stream,
    "_next": lambda _: None,
    "connection": lambda _: None,
    "cookies": lambda _: requests.cookies.RequestsCookieJar(),
    "elapsed": lambda _: datetime.timedelta(0),
    "encoding": lambda answer: requests.utils.get_encoding_from_headers(
        requests.structures.CaseInsensitiveDict(answer.headers)
    ),
    "headers": lambda answer: requests.structures.CaseInsensitiveDict(answer.headers),
    "history": lambda _: [],
    "raw": RawStream,
    "reason": lambda answer: answer.reason,
    "request": prepared,
    "url": lambda answer: answer.url,
}
