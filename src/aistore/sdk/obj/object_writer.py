"""Writing one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import objects
from aistore.calls.integrity import check_stored
from aistore.calls.query import encode_query
from aistore.calls.uploads import store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    import requests

    from aistore.calls.file_writing import FileWriting
    from aistore.calls.steps import Answer
    from aistore.http1.payload import Body
    from aistore.sdk.obj.obj_file.object_file import ObjectFileWriter
    from aistore.sdk.request_client import RequestClient

__all__ = ["ObjectWriter"]


class ObjectWriter:
    """Writes the content and custom metadata of an object."""

    __slots__ = ("_client", "_path", "_query")

    def __init__(self, client: RequestClient, object_path: str, query_params: Mapping[str, str] | str) -> None:
        self._client = client
        self._path = object_path
        self._query = query_params if isinstance(query_params, str) else encode_query(query_params)

    def put_content(
        self, content: Body | str, *, custom_metadata: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Store the object, or replace it, all at once.

        `content` is anything with the buffer protocol, text (stored as UTF-8), a binary file from its position on, or an iterable of bytes
        of unknown length; what can be read only once is not sent again after a failure. `custom_metadata` is stored with it, added to that
        of an object that is replaced.

        The checksum of what was stored is compared with that of what was sent; `ErrBadChecksum` says that they differ.
        """
        answer: Answer
        if type(content) is bytes:
            answer = self._client.fetch(objects.put(self._path, self._query, content, custom_metadata))
            check_stored(answer, content)
        else:
            answer = self._client.run(store(self._path, self._query, content, custom_metadata))

        from aistore.sdk._response import Response

        return Response(answer)

    def put_file(
        self, path: str | PathLike[str], *, custom_metadata: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Store a local file as the object; raises ValueError if it is none."""
        from aistore.calls.folders import put_file
        from aistore.sdk._response import Response

        return Response(self._client.run(put_file(self._path, self._query, path, custom_metadata)))

    def append_content(self, content: Body, handle: str = "", flush: bool = False) -> str:
        """Append to the object; returns the handle of the next call.

        The first call has no handle. Nothing is visible until a call with `flush`, whose content is ignored (pass `b""`), and which returns
        an empty handle (protocol/20 7).
        """
        return self._client.run(objects.append(self._path, self._query, content, handle, flush))

    def set_custom_props(self, custom_metadata: Mapping[str, str], replace_existing: bool = False) -> requests.Response:
        """Add to the object's custom metadata, or replace it."""
        answer = self._client.run(objects.patch(self._path, self._query, custom_metadata, replace_existing))

        from aistore.sdk._response import Response

        return Response(answer)

    def as_file(self, mode: str = "a") -> ObjectFileWriter:
        """The object as a binary file to write to: mode `w` replaces it, `a` appends; raises ValueError for another mode."""
        from aistore.sdk.obj.obj_file.object_file import ObjectFileWriter

        return ObjectFileWriter(self, mode)

    def _write_steps(self, mode: str) -> tuple[FileWriting, RequestClient]:
        """What becomes of the bytes of a file, and what does it."""
        from aistore.calls.file_writing import writing_of

        return writing_of(self._path, self._query, mode), self._client

    def __repr__(self) -> str:
        return f"<ObjectWriter {self._path}?{self._query}>"
