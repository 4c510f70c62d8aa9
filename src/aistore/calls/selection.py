"""What is read: an object, a range of it, or what the cluster makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aistore.calls.integrity import check_body
from aistore.calls.query import encode_query
from aistore.calls.steps import do
from aistore.transport.request import Request
from aistore.transport.url import base_url
from aistore.wire import params as param

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from aistore.calls.steps import Answer, Steps, StreamedAnswer
    from aistore.sdk.obj.object_attributes import ObjectAttributes
    from aistore.sdk.types import Smap

__all__ = ["MapSource", "Selection", "attributes_of", "fetch", "find_owner", "read_into", "read_range"]

_PARTIAL = 206


class MapSource(Protocol):
    """What knows the cluster map: the client of a face."""

    def get_smap(self, force_update: bool = False) -> Smap | Awaitable[Smap]:
        """The cluster map, as known, or requested now."""
        ...


class Selection:
    """What GETs select of one object, and the requests for it.

    `params` are query parameters (a mapping, or already encoded), `byte_range` the two numbers of a `Range` header among `headers`. With
    `uname`, the object's unique name, requests go straight to the target that owns it (`base`, once it is known).
    """

    __slots__ = ("base", "byte_range", "client", "headers", "map_is_old", "path", "query", "uname")

    def __init__(
        self,
        request_client: MapSource,
        path: str,
        params: Mapping[str, str] | str,
        headers: Mapping[str, str | None] | None = None,
        byte_range: tuple[int | None, int | None] = (None, None),
        uname: str | None = None,
    ) -> None:
        self.client = request_client
        self.path = path
        self.query = params if isinstance(params, str) else encode_query(params)
        self.headers: tuple[tuple[str, str], ...] = (
            tuple((name, value) for name, value in headers.items() if value is not None) if headers else ()
        )
        self.byte_range = byte_range
        self.uname = uname
        self.base: str | None = None
        self.map_is_old = False
        """Whether the target that the map names did not answer."""

    def request(self, stream: bool = False, offset: int = 0, end: int | None = None) -> Request:
        """A GET from byte `offset` of the selection on, up to and including byte `end`."""
        lines = self._ranged(offset, end) if offset or end is not None else self.headers
        return Request("GET", self.path, self.query, lines, None, stream, None, self.base)

    def _ranged(self, offset: int, end: int | None) -> tuple[tuple[str, str], ...]:
        left, right = self.byte_range
        if end is not None:
            first, last = (left or 0) + offset, str((left or 0) + end)
            text = f"bytes={first}-{last}"
        elif left is not None:
            text = f"bytes={left + offset}-{'' if right is None else right}"
        elif right is not None:
            text = f"bytes=-{right - offset}"
        else:
            text = f"bytes={offset}-"
        return (*(line for line in self.headers if line[0] != "Range"), ("Range", text))

    def can_get_at_offset(self) -> bool:
        """Whether a GET may start in the middle: of the object itself, but not of a result that is made on the way."""
        return not any(f"{name}=" in self.query for name in (param.ARCHPATH, param.ARCHREGX, param.ETL_NAME)) and not (
            self.byte_range[0] is None and self.byte_range[1] is not None
        )

    @property
    def is_whole(self) -> bool:
        """Whether it is an object from start to end, which can be read from anywhere."""
        return self.can_get_at_offset() and self.byte_range == (None, None)


def find_owner(selection: Selection) -> Steps[None]:
    """Find the target that owns the object."""
    smap = yield from do(selection.client.get_smap, selection.map_is_old)
    selection.map_is_old = False
    node = smap.get_target_for_object(selection.uname or "")
    if node.public_net is None:
        from aistore.sdk.errors import NoTargetError

        raise NoTargetError(1)
    selection.base = base_url(node.public_net.direct_url)


def fetch(selection: Selection, stream: bool = False, offset: int = 0, end: int | None = None) -> Steps[StreamedAnswer]:
    """The answer to a GET from byte `offset` of the selection on, up to and including byte `end`."""
    if not selection.uname:
        return (yield selection.request(stream, offset, end))  # type: ignore[return-value]  # only a streamed one is read
    if selection.base is None:
        yield from find_owner(selection)
    from aistore.sdk.errors import ErrObjNotFound

    try:
        answer: StreamedAnswer = yield selection.request(stream, offset, end)  # type: ignore[assignment]  # as above
    except ErrObjNotFound:
        # The map may have changed since it was read (protocol/00 10.3).
        selection.map_is_old = True
        yield from find_owner(selection)
        answer = yield selection.request(stream, offset, end)  # type: ignore[assignment]  # as above
    if answer.request.base is None:  # the target did not answer, and the gateway was asked
        selection.base, selection.map_is_old = None, True
    return answer


def read_range(selection: Selection, start: int, view: memoryview) -> Steps[Answer]:
    """Fill `view` with the bytes from `start` on; returns the answer. Raises `IncompleteBody` if it has not exactly these."""
    answer = yield from fetch(selection, stream=True, offset=start, end=start + len(view) - 1)
    try:
        length = answer.head.headers.length
        if answer.status != _PARTIAL or length not in (len(view), -1):
            raise _wrong_part(answer, f"status {answer.status} with {length} bytes")
        filled = yield from _fill(answer, view)
        if filled < len(view):
            raise _wrong_part(answer, f"{filled} bytes")
        if (yield from do(answer.read, 1)):
            raise _wrong_part(answer, f"more than {len(view)} bytes")
    finally:
        answer.close()
    return answer


def read_into(selection: Selection, view: memoryview) -> Steps[int]:
    """Read the whole selection into the start of `view`; returns its number of bytes. Raises ValueError if it does not fit."""
    answer = yield from fetch(selection, stream=True)
    try:
        length = answer.head.headers.length
        if length > len(view):
            raise ValueError(f"the content has {length} bytes, the buffer only {len(view)}")
        filled = yield from _fill(answer, view)
        if filled == len(view) and (yield from do(answer.read, 1)):
            raise ValueError(f"the content does not fit into the buffer of {len(view)} bytes")
    finally:
        answer.close()
    check_body(answer, view[:filled])
    return filled


def _fill(answer: StreamedAnswer, view: memoryview) -> Steps[int]:
    filled = 0
    while filled < len(view) and (count := (yield from do(answer.readinto, view[filled:]))):
        filled += count
    return filled


def _wrong_part(answer: Answer, got: str) -> Exception:
    from aistore.transport.errors import IncompleteBody

    return IncompleteBody(f"asked for a part of the object, but got {got}", "GET", answer.url)


def attributes_of(selection: Selection, props: str) -> Steps[ObjectAttributes]:
    """Attributes of the object; `props` says which."""
    from aistore.calls.objects import head_request
    from aistore.sdk.obj.object_attributes import ObjectAttributes

    if selection.uname and selection.base is None:
        yield from find_owner(selection)
    request = head_request(selection.path, selection.query, props)
    request.base = selection.base
    answer = yield request
    return ObjectAttributes(answer.head.headers)
