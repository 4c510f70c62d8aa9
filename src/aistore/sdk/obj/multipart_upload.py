"""Upload of an object in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.multipart import MultipartState
from aistore.sdk.obj.object_writer import ObjectWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from aistore.sdk.request_client import RequestClient

__all__ = ["MultipartUpload"]


class MultipartUpload(MultipartState):
    """Upload of an object in numbered parts, in any order and side by side; nothing is visible before `complete`.

    Making one sends nothing: `create` begins the upload, `add_part` gives a writer for each part, `complete` makes the object of them.
    """

    __slots__ = ("_client",)

    def __init__(self, client: RequestClient, object_path: str, params: Mapping[str, str] | str | None = None) -> None:
        super().__init__(object_path, params)
        self._client = client

    def create(self) -> MultipartUpload:
        """Begin the upload; returns itself."""
        self._client.run(self._create())
        return self

    def add_part(self, part_number: int) -> ObjectWriter:
        """A writer of the part of this number, from 1 on; `put_content` or `put_file` of it stores the part.

        Raises ValueError before `create`, and for a number that is none.
        """
        return ObjectWriter(self._client, self._path, self._part_query(part_number))

    def complete(self) -> requests.Response:
        """Make the object of the parts, in the order of their numbers, which have to be 1, 2, 3 and so on."""
        from aistore.sdk._response import Response

        return Response(self._client.run(self._complete()))

    def abort(self) -> requests.Response:
        """Give the upload up; its parts are dropped."""
        from aistore.sdk._response import Response

        return Response(self._client.run(self._abort()))
