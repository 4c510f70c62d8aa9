"""What calls are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias

    from aistore.transport.request import Request
    from aistore.transport.response import Response

__all__ = ["Sleep", "Steps"]

T = TypeVar("T")


class Sleep(NamedTuple):
    """Wait, and go on; answered by None."""

    seconds: float


if TYPE_CHECKING:
    Steps: TypeAlias = Generator["Request | Sleep", Response, T]
    """A call with a result of type `T`: each request is answered by a response whose status is good, or by the error it means."""
