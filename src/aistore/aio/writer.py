"""Writing one object."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, cast

from aistore.calls import objects
from aistore.calls.file_writing import writing_of
from aistore.calls.folders import put_file
from aistore.calls.integrity import LONG, check_stored
from aistore.calls.uploads import store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from os import PathLike
    from typing import Protocol

    import requests

    from aistore.aio.files import AsyncObjectFileWriter
    from aistore.aio.requests import AsyncRequestClient
    from aistore.calls.file_writing import FileWriting
    from aistore.calls.steps import Answer
    from aistore.http1.payload import Body

    class AsyncReadable(Protocol):
        """A file that is read by a coroutine."""

        async def read(self, n: int, /) -> bytes: ...


__all__ = ["AsyncObjectWriter"]

_PIECE = 256 * 1024


class AsyncObjectWriter:
    """Writes the content and custom metadata of an object."""

    __slots__ = ("_client", "_path", "_query")

    def __init__(self, client: AsyncRequestClient, object_path: str, query_params: str) -> None:
        self._client = client
        self._path = object_path
        self._query = query_params

    async def put_content(
        self, content: Body | AsyncReadable | str, *, custom_metadata: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Store the object, or replace it, all at once.

        `content` is what the blocking `ObjectWriter.put_content` takes, an asynchronous iterable of bytes, or a file whose `read` is a
        coroutine function. Files are read in threads; an iterable that is not asynchronous must not block. What can be read only once is
        not sent again after a failure. `custom_metadata` is stored with it, added to that of an object that is replaced.

        The checksum of what was stored is compared with that of what was sent; `ErrBadChecksum` says that they differ.
        """
        answer: Answer
        if type(content) is bytes and len(content) <= LONG:
            answer = await self._client.fetch(objects.put(self._path, self._query, content, custom_metadata))
            check_stored(answer, content)
        else:
            if iscoroutinefunction(getattr(content, "read", None)):
                content = _pieces_of(cast("AsyncReadable", content))
            answer = await self._client.run(store(self._path, self._query, content, custom_metadata))

        from aistore.sdk._response import Response

        return Response(answer)

    async def put_file(
        self, path: str | PathLike[str], *, custom_metadata: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Store a local file as the object; raises ValueError if it is none."""
        from aistore.sdk._response import Response

        return Response(await self._client.run(put_file(self._path, self._query, path, custom_metadata)))

    async def append_content(self, content: Body, handle: str = "", flush: bool = False) -> str:
        """Append to the object; returns the handle of the next call.

        The first call has no handle. Nothing is visible until a call with `flush`, whose content is ignored (pass `b""`), and which returns
        an empty handle (protocol/20 7).
        """
        return await self._client.run(objects.append(self._path, self._query, content, handle, flush))

    async def set_custom_props(
        self, custom_metadata: Mapping[str, str], replace_existing: bool = False
    ) -> requests.Response:
        """Add to the object's custom metadata, or replace it."""
        from aistore.sdk._response import Response

        steps = objects.patch(self._path, self._query, custom_metadata, replace_existing)
        return Response(await self._client.run(steps))

    def as_file(self, mode: str = "a") -> AsyncObjectFileWriter:
        """The object as a binary file to write to: mode `w` replaces it, `a` appends; raises ValueError for another mode."""
        from aistore.aio.files import AsyncObjectFileWriter

        return AsyncObjectFileWriter(self, mode)

    def _write_steps(self, mode: str) -> tuple[FileWriting, AsyncRequestClient]:
        """What becomes of the bytes of a file, and what does it."""
        return writing_of(self._path, self._query, mode), self._client

    def __repr__(self) -> str:
        return f"<AsyncObjectWriter {self._path}?{self._query}>"


async def _pieces_of(file: AsyncReadable) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE):
        yield piece
