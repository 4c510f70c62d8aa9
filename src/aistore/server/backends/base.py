"""What the server asks of a place where buckets live outside of the cluster."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.wire.names import BucketId

__all__ = [
    "PIECE",
    "SOURCE",
    "Backend",
    "Content",
    "RemoteObject",
    "RemotePage",
    "RemoteReader",
    "opened",
    "own_pairs",
    "size_of",
    "system_pairs",
    "where",
]

PIECE: Final = 1 << 20
"""Bytes read from a backend at a time."""

SOURCE: Final = "source"
"""Key of the custom metadata that tells where an object came from: only what has it can be fetched again (protocol/20 3.3)."""


class RemoteObject(NamedTuple):
    """An object as its backend describes it, or with `directory` a virtual one of a listing.

    `custom` is the metadata that the cached object has: `source`, and `ETag`, `version`, `LastModified` where the backend knows them.
    `checksum` is a type and a value, or twice nothing.
    """

    name: str
    size: int = 0
    version: str = ""
    custom: Mapping[str, str] = {}
    checksum: tuple[str, str] = ("", "")
    directory: bool = False

    def is_cached_as(self, row: ObjectRow) -> bool:
        """Whether a cached object is this version of it."""
        if self.size != row.size:
            return False
        for key in ("ETag", "version"):
            if key in self.custom and key in row.custom:
                return self.custom[key] == row.custom[key]
        kind, value = self.checksum
        if kind and kind == row.checksum_type and value != row.checksum:
            return False
        return not (self.version or row.version) or self.version == row.version


_SYSTEM: Final = frozenset((SOURCE, "version", "ETag", "LastModified", "Last-Modified", "md5", "crc32c"))


def system_pairs(custom: Mapping[str, str]) -> dict[str, str]:
    """The custom metadata that says where an object came from, without what users set."""
    return {key: value for key, value in custom.items() if key in _SYSTEM}


def own_pairs(custom: Mapping[str, str]) -> dict[str, str]:
    """The custom metadata that users set."""
    return {key: value for key, value in custom.items() if key not in _SYSTEM}


Content: TypeAlias = bytes | Path | BinaryIO
"""Content to be stored: in memory, in a file of the data folder, or in an open one."""


def opened(content: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    """Content in a file, open; a file of the data folder was written a moment ago, and opening it holds up nothing."""
    return content.open("rb") if isinstance(content, Path) else nullcontext(content)


def size_of(content: Content) -> int:
    """Bytes of content."""
    if isinstance(content, bytes):
        return len(content)
    return content.stat().st_size if isinstance(content, Path) else os.fstat(content.fileno()).st_size


class RemotePage(NamedTuple):
    """Some objects in the order of their names, and the token of the next page: none marks the last."""

    objects: list[RemoteObject]
    token: str = ""


class RemoteReader(Protocol):
    """Content on its way from a backend."""

    object: RemoteObject
    """The whole object, whatever part of it is read."""

    async def read(self) -> bytes | bytearray | memoryview:
        """The next piece, about `PIECE` bytes; empty at the end. Raises `RemoteError` where it breaks off."""
        ...

    def close(self) -> None:
        """Give up the rest."""
        ...


class Backend(Protocol):
    """One provider or remote cluster. All methods raise `RemoteError`."""

    endpoint: str
    """How messages name the place."""
    page_size: int
    """Entries of a page that nobody asked a size for, and the most there are (protocol/10 19.2)."""

    async def check_bucket(self, bucket: BucketId) -> None:
        """Raise unless the bucket exists."""
        ...

    async def list_buckets(self) -> list[BucketId]:
        """Buckets that exist there, as far as the backend can tell."""
        ...

    async def head(self, bucket: BucketId, name: str) -> RemoteObject:
        """An object's attributes."""
        ...

    async def open(
        self,
        bucket: BucketId,
        name: str,
        *,
        start: int = 0,
        length: int | None = None,
        same: RemoteObject | None = None,
    ) -> RemoteReader:
        """Read an object, or a range of it that lies within it. With `same` it has to be that version still, else the error is `changed`."""
        ...

    async def put(self, bucket: BucketId, name: str, content: Content, custom: Mapping[str, str]) -> RemoteObject:
        """Store an object; what the backend says of it."""
        ...

    async def delete(self, bucket: BucketId, name: str) -> None:
        """Delete an object; many backends do not tell whether it was there."""
        ...

    async def list(self, bucket: BucketId, prefix: str, token: str, limit: int, *, recursive: bool) -> RemotePage:
        """A page of objects whose names start with `prefix`; without recursion what lies behind a `/` after it is a directory."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def where(bucket: Bucket) -> BucketId:
    """The bucket in its backend."""
    assert bucket.remote is not None
    return bucket.remote
