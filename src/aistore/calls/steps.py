"""What calls are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping
    from typing import TypeAlias

    from aistore.http1.head import ResponseHead
    from aistore.transport.request import Request

__all__ = ["Answer", "Do", "Local", "Sleep", "Steps", "StreamedAnswer", "do", "local"]

T = TypeVar("T")


class Sleep(NamedTuple):
    """Wait, and go on; answered by None."""

    seconds: float


class Do(NamedTuple):
    """Call a function of the face's own, which is a coroutine function in the asyncio face; answered by its result."""

    function: Callable[..., object]
    arguments: tuple[object, ...]


class Local(NamedTuple):
    """Call a function that may wait for a disk, in a thread in the asyncio face; answered by its result.

    It has ended when the call goes on, whatever happens meanwhile.
    """

    function: Callable[..., object]
    arguments: tuple[object, ...]


class Answer(Protocol):
    """What calls look at of an answer, of either transport."""

    status: int
    head: ResponseHead
    request: Request

    @property
    def reason(self) -> str:
        """The phrase behind the status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields, by name without regard to case."""
        ...

    @property
    def url(self) -> str:
        """The URL that answered."""
        ...

    @property
    def content(self) -> bytes:
        """The whole body, of an answer that is not streamed."""
        ...


class StreamedAnswer(Answer, Protocol):
    """An answer whose body is read by calls. Reading is for `do`: it takes a coroutine in the asyncio transport."""

    def read(self, n: int = -1) -> bytes | Awaitable[bytes]:
        """The next `n` bytes."""
        ...

    def readinto(self, view: memoryview) -> int | Awaitable[int]:
        """Fill a buffer with the next bytes."""
        ...

    def close(self) -> None:
        """Give up the rest."""
        ...


if TYPE_CHECKING:
    Steps: TypeAlias = Generator["Request | Sleep | Do | Local", Answer, T]
    """A call with a result of type `T`: each request is answered by a response whose status is good, or by the error it means."""


def do(function: Callable[..., T | Awaitable[T]], *arguments: object) -> Steps[T]:
    """The result of a function of the face's own."""
    result: object = yield Do(function, arguments)
    return cast("T", result)


def local(function: Callable[..., T], *arguments: object) -> Steps[T]:
    """The result of a function that may wait for a disk."""
    result: object = yield Local(function, arguments)
    return cast("T", result)
