"""Requests for the content and attributes of one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.query import encode_query
from aistore.transport.request import Request
from aistore.transport.url import base_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from aistore.sdk.obj.object_attributes import ObjectAttributes
    from aistore.sdk.request_client import RequestClient
    from aistore.transport.response import Response

__all__ = ["ObjectClient"]

_PARTIAL = 206


class ObjectClient:
    """Reads one object, or what its parameters select of it.

    `params` are query parameters (a mapping, or already encoded), `byte_range` the two numbers of a `Range` header among `headers`. With
    `uname`, the object's unique name, requests go straight to the target that owns it.
    """

    __slots__ = ("base", "byte_range", "client", "headers", "path", "query", "uname")

    def __init__(
        self,
        request_client: RequestClient,
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
        if uname:
            self._find_owner(uname)

    def _find_owner(self, uname: str, force_update: bool = False) -> None:
        node = self.client.get_smap(force_update).get_target_for_object(uname)
        if node.public_net is None:
            from aistore.sdk.errors import NoTargetError

            raise NoTargetError(1)
        self.base = base_url(node.public_net.direct_url)

    def fetch(self, stream: bool = False, offset: int = 0, end: int | None = None) -> Response:
        """The answer to a GET from byte `offset` of the selection on, up to and including byte `end`."""
        lines = self._ranged(offset, end) if offset or end is not None else self.headers
        request = Request("GET", self.path, self.query, lines, None, stream, None, self.base)
        if not self.uname:
            return self.client.fetch(request)
        from aistore.sdk.errors import ErrObjNotFound

        try:
            return self.client.fetch(request)
        except ErrObjNotFound:
            # The map may have changed since it was read (`protocol/00` 10.3).
            self._find_owner(self.uname, force_update=True)
            request.base = self.base
            return self.client.fetch(request)

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
        return not any(f"{name}=" in self.query for name in ("archpath", "archregx", "etl_name")) and not (
            self.byte_range[0] is None and self.byte_range[1] is not None
        )

    def get(self, stream: bool, offset: int | None = None) -> requests.Response:
        """The content from byte `offset` on; with `stream` it is read when it is asked for."""
        from aistore.sdk._response import Response

        return Response(self.fetch(stream, offset or 0))

    def get_chunk(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end`, both included. Raises `IncompleteBody` if the answer is something else."""
        content = bytearray(end - start + 1)
        self.read_range(start, memoryview(content))
        return bytes(content)

    def read_range(self, start: int, view: memoryview) -> Response:
        """Fill `view` with the bytes from `start` on; returns the answer. Raises `IncompleteBody` if it has not exactly these."""
        answer = self.fetch(stream=True, offset=start, end=start + len(view) - 1)
        try:
            length = answer.head.headers.length
            if answer.status != _PARTIAL or length not in (len(view), -1):
                raise self._wrong_part(answer, f"status {answer.status} with {length} bytes")
            filled = 0
            while filled < len(view):
                count = answer.readinto(view[filled:])
                if not count:
                    raise self._wrong_part(answer, f"{filled} bytes")
                filled += count
            if answer.read(1):
                raise self._wrong_part(answer, f"more than {len(view)} bytes")
        finally:
            answer.close()
        return answer

    def _wrong_part(self, answer: Response, got: str) -> Exception:
        from aistore.transport.errors import IncompleteBody

        return IncompleteBody(f"asked for a part of the object, but got {got}", "GET", answer.url)

    def head(self, props: str = "checksum,atime,version,custom") -> ObjectAttributes:
        """Attributes of the object; `props` says which."""
        from aistore.calls.objects import head_request
        from aistore.sdk.obj.object_attributes import ObjectAttributes

        request = head_request(self.path, self.query, props)
        request.base = self.base
        return ObjectAttributes(self.client.fetch(request).head.headers)
