"""A bucket of either face as one end of a transfer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol, TypeVar

from aistore.calls import buckets, objects
from aistore.calls.file_uploads import SMALL
from aistore.calls.integrity import check_body
from aistore.calls.listing import Listing, Pages
from aistore.calls.local_tree import name_filter
from aistore.calls.steps import do
from aistore.calls.transfers import Entry
from aistore.sdk._listing import Lister
from aistore.transport.errors import TransportError
from aistore.transport.request import Request
from aistore.wire import headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Answer, Steps, StreamedAnswer
    from aistore.calls.transfers import Cursor
    from aistore.sdk.types import Smap

__all__ = ["BucketEnd", "SomeBucket", "SomeReader"]

_BUCKET_PROPS = headers.BUCKET_PROPS.lower()
_PIECE = 256 * 1024
_PAGE = 1000  # names that are held of a bucket at a time

T = TypeVar("T")


class Runs(Protocol):
    """The `run` of a face's client."""

    def __call__(self, steps: Steps[T], /) -> T | Awaitable[T]:
        """Do what a call wants done."""
        ...


class SomeFile(Protocol):
    """An object as a file, of either face."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]:
        """The next bytes."""
        ...

    def readinto(self, buffer: memoryview, /) -> int | Awaitable[int]:
        """Fill a buffer."""
        ...

    def close(self) -> Awaitable[None] | None:
        """Give up the rest."""
        ...


class SomeReader(Protocol):
    """The reader of an object, of either face; iterating over it gives chunks of the content."""

    def as_file(self) -> SomeFile:
        """The content as a file."""
        ...


class SomeClient(Protocol):
    """The client of a face."""

    @property
    def base_url(self) -> str:
        """What its requests are below."""
        ...

    @property
    def run(self) -> Runs:
        """Does what a call wants done."""
        ...

    @property
    def get_smap(self) -> Callable[[], Smap | Awaitable[Smap]]:
        """Gives the cluster map."""
        ...


class SomeObject(Protocol):
    """An object of either face."""

    def get_reader(self, *, chunk_size: int | None) -> SomeReader:
        """A reader of its content."""
        ...


class SomeBucket(Lister, Protocol):
    """A bucket of either face."""

    @property
    def ref(self) -> BucketRef:
        """Its identity."""
        ...

    @property
    def client(self) -> SomeClient:
        """What makes its requests."""
        ...

    @property
    def object(self) -> Callable[[str], SomeObject]:
        """Gives an object of it."""
        ...


class BucketEnd:
    """A bucket as one end of a sync."""

    __slots__ = ("bucket", "get_smap", "prefix", "ref", "run")

    def __init__(self, bucket: SomeBucket, prefix: str) -> None:
        self.bucket = bucket
        self.ref = bucket.ref
        self.run = bucket.client.run
        self.get_smap = bucket.client.get_smap
        self.prefix = prefix
        """What stands in front of the names."""

    def reader(self, name: str) -> SomeReader:
        """A reader of an object."""
        return self.bucket.object(self.prefix + name).get_reader(chunk_size=_PIECE)

    def path(self, name: str) -> str:
        """Path of an object."""
        return self.ref.object_path(self.prefix + name)

    def entries(self, pattern: str) -> Cursor:
        """Its objects whose names match."""
        return _Objects(self, pattern)

    def checksum_type(self) -> Steps[str]:
        """The type of checksum that the bucket's objects have. Raises `ErrBckNotFound`."""
        answer: Answer = yield from do(self.run, buckets.head(self.ref))
        try:
            kind = json.loads(answer.headers.get(_BUCKET_PROPS, ""))["checksum"]["type"]
        except (ValueError, KeyError, TypeError):
            return ""
        return kind if isinstance(kind, str) else ""

    def get(self, name: str) -> Steps[tuple[Answer, bytes] | None]:
        """The answer and the content of a small object, verified; None where it is none by now, or the content breaks off."""
        answer: StreamedAnswer = yield Request("GET", self.path(name), self.ref.query, stream=True)  # type: ignore[assignment]  # a streamed one
        length = answer.head.headers.get("content-length")
        if length is None or int(length) > SMALL:
            answer.close()
            return None
        try:
            content: bytes = yield from do(answer.read)
        except TransportError:
            return None
        check_body(answer, content)
        return answer, content

    def delete(self, name: str) -> Steps[None]:
        """Delete an object, if it is there."""
        from aistore.sdk.errors import ErrObjNotFound

        try:
            yield from objects.delete(self.path(name), self.ref.query)
        except ErrObjNotFound:  # somebody was quicker
            return


class _Objects:
    """The objects of a bucket below a prefix."""

    def __init__(self, end: BucketEnd, pattern: str) -> None:
        self._end = end
        self._pages = Pages(Listing(end.ref, end.prefix, "name,size,checksum", _PAGE), end.bucket)
        self._matches = name_filter(pattern)

    def more(self) -> Steps[list[Entry]]:
        cut, matches = len(self._end.prefix), self._matches
        while True:
            page = yield from do(self._end.run, self._pages.next())
            if page is None:
                return []
            found = [
                Entry(one.n[cut:], one.s, one.cs)
                for one in page
                if matches is None or matches(one.n[cut:].rpartition("/")[2])
            ]
            if found:
                return found
