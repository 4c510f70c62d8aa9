"""Requests for the content and attributes of one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aistore.calls.selection import Selection, attributes_of, fetch, read_range

if TYPE_CHECKING:
    import requests

    from aistore.sdk.obj.object_attributes import ObjectAttributes
    from aistore.sdk.request_client import RequestClient
    from aistore.transport.response import Response

__all__ = ["ObjectClient"]


class ObjectClient(Selection):
    """Reads one object, or what its parameters select of it; see `Selection` for those."""

    __slots__ = ()

    client: RequestClient

    def fetch(self, stream: bool = False, offset: int = 0, end: int | None = None) -> Response:
        """The answer to a GET from byte `offset` of the selection on, up to and including byte `end`."""
        if not self.uname:
            return self.client.fetch(self.request(stream, offset, end))
        return cast("Response", self.client.run(fetch(self, stream, offset, end)))

    def get(self, stream: bool, offset: int | None = None) -> requests.Response:
        """The content from byte `offset` on; with `stream` it is read when it is asked for."""
        from aistore.sdk._response import Response

        return Response(self.fetch(stream, offset or 0))

    def get_chunk(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end`, both included. Raises `IncompleteBody` if the answer is something else."""
        content = bytearray(end - start + 1)
        self.client.run(read_range(self, start, memoryview(content)))
        return bytes(content)

    def head(self, props: str = "checksum,atime,version,custom") -> ObjectAttributes:
        """Attributes of the object; `props` says which."""
        return self.client.run(attributes_of(self, props))
