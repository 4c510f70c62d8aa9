"""Upload of an object in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.aio.writer import AsyncObjectWriter
from aistore.calls.multipart import MultipartState

if TYPE_CHECKING:
    import requests

    from aistore.aio.requests import AsyncRequestClient

__all__ = ["AsyncMultipartUpload"]


class AsyncMultipartUpload(MultipartState):
    """Upload of an object in numbered parts, in any order and side by side; nothing is visible before `complete`.

    Making one sends nothing: `create` begins the upload, `add_part` gives a writer for each part, `complete` makes the object of them.
    """

    __slots__ = ("_client",)

    def __init__(self, client: AsyncRequestClient, object_path: str, params: str) -> None:
        super().__init__(object_path, params)
        self._client = client

    async def create(self) -> AsyncMultipartUpload:
        """Begin the upload; returns itself."""
        await self._client.run(self._create())
        return self

    def add_part(self, part_number: int) -> AsyncObjectWriter:
        """A writer of the part of this number, from 1 on; `put_content` or `put_file` of it stores the part.

        Raises ValueError before `create`, and for a number that is none.
        """
        return AsyncObjectWriter(self._client, self._path, self._part_query(part_number))

    async def complete(self) -> requests.Response:
        """Make the object of the parts, in the order of their numbers, which have to be 1, 2, 3 and so on."""
        from aistore.sdk._response import Response

        return Response(await self._client.run(self._complete()))

    async def abort(self) -> requests.Response:
        """Give the upload up; its parts are dropped."""
        from aistore.sdk._response import Response

        return Response(await self._client.run(self._abort()))
