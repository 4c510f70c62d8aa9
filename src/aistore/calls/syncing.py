"""Syncs: a folder into a bucket, a bucket into a folder, a bucket into another one, of the same cluster or of two.

Both ends are gone through in the order of their names, a page at a time, so that what is at one end only, and what differs, shows without
either of them being held. What has the same size and checksum at both ends is left as it is: the checksum is that of the listing, and of
a local file it is computed. An object without checksum, or with one of another type, counts as changed.
"""

from __future__ import annotations

import json
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from aistore.calls import buckets, objects
from aistore.calls.downloads import receive
from aistore.calls.file_uploads import SMALL, upload
from aistore.calls.integrity import check_body
from aistore.calls.listing import Listing, Pages
from aistore.calls.local_tree import LocalTree, check_below, name_filter
from aistore.calls.steps import do, local
from aistore.calls.transfers import BATCH, Ahead, Entry, Failed, Transfer, reason_of
from aistore.calls.uploads import store
from aistore.sdk._listing import Lister
from aistore.transport.request import Request
from aistore.wire import headers
from aistore.wire.custom import STANDARD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.file_uploads import Together
    from aistore.calls.steps import Answer, Steps
    from aistore.calls.transfers import Cursor, Halt
    from aistore.http1.payload import BytesLike
    from aistore.sdk.transfer import Moved
    from aistore.sdk.types import Smap

__all__ = ["BucketEnd", "BucketToBucket", "BucketToFolder", "Choice", "FolderToBucket", "Sync", "sync_of"]

_BUCKET_PROPS = headers.BUCKET_PROPS.lower()
_PIECE = 256 * 1024
_PAGE = 1000  # names that are held of a bucket at a time
_NO_CHECKSUM = ("", "none")
_SOURCE = "source"

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


class Choice(NamedTuple):
    """What is synced, and how."""

    prefix: str = ""
    """What stands in front of the names in the bucket."""
    other_prefix: str = ""
    """The same in another bucket."""
    pattern: str = "*"
    """What the last part of a name matches, as in a shell."""
    delete: bool = False
    """Remove at the destination what the source has no more."""
    dry_run: bool = False
    on_each: Callable[[Moved], object] | None = None


class Pair(NamedTuple):
    """What there is of one name at the source, and at the destination."""

    name: str
    source: Entry | None
    there: Entry | None
    blocked: str = ""
    """Why it cannot be moved."""


class Sync(Transfer[Pair]):
    """Makes one end like the other."""

    title = "sync"

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice.dry_run, choice.on_each)
        self._choice = choice
        self._source: Ahead | None = None
        self._there: Ahead | None = None
        self._unknown: tuple[str, ...] = ()

    def _cursors(self) -> Steps[tuple[Cursor, Cursor]]:
        """Source and destination, opened."""
        raise NotImplementedError

    def plan(self) -> Steps[list[Pair]]:
        if self._source is None or self._there is None:
            source, there = yield from self._cursors()
            self._source, self._there = Ahead(source), Ahead(there)
        pairs: list[Pair] = []
        while len(pairs) < BATCH:
            pair = yield from self._next(self._source, self._there)
            if pair is None:
                break
            if not self._settled(pair):
                pairs.append(pair)
        return pairs

    def _next(self, source: Ahead, there: Ahead) -> Steps[Pair | None]:
        a = yield from source.peek()
        b = yield from there.peek()
        if a is None and b is None:
            return None
        if b is None or (a is not None and a.name <= b.name):
            assert a is not None  # one of them is something
            source.take()
            if b is None or a.name != b.name:
                return Pair(a.name, a, None)
            there.take()
            return Pair(a.name, a, b)
        there.take()
        return Pair(b.name, None, b)

    def _settled(self, pair: Pair) -> bool:
        """Whether nothing has to be done, which is counted."""
        source, there = pair.source, pair.there
        if source is not None and source.problem:
            if source.unknown:
                self._unknown = (*self._unknown, source.name)
                self.tally.failed(source.name, source.problem)
            else:
                self.tally.left_out(source.name, source.problem)
            return True
        if source is None and there is not None:
            if there.problem:
                if self._choice.delete:
                    self.tally.left_out(there.name, f"not deleted: {there.problem}")
                return True
            return not self._choice.delete or there.name.startswith(self._unknown)
        return False

    def act(self, item: Pair) -> Steps[None]:
        self.halt.check()
        if item.blocked:
            raise Failed(item.blocked)
        if item.source is None:
            if not self.dry_run:
                yield from self._delete(item.name)
            self.tally.deleted(item.name)
            return
        if item.there is not None:
            if item.there.problem:
                raise Failed(f"at the destination it is {item.there.problem}")
            if (yield from self._same(item.name, item.source, item.there)):
                self.tally.unchanged(item.name, item.source.size)
                return
        how, size = self._how(item.source), item.source.size
        if not self.dry_run:
            how, size = yield from self._move(item.name, item.source, replaces=item.there is not None)
        self.tally.moved(item.name, size, how)

    def _same(self, name: str, source: Entry, there: Entry) -> Steps[bool]:
        """Whether both ends have the same content."""
        raise NotImplementedError

    def _move(self, name: str, source: Entry, *, replaces: bool) -> Steps[tuple[str, int]]:
        """Move content; how, and how many bytes."""
        raise NotImplementedError

    def _how(self, source: Entry) -> str:
        """How it would be moved."""
        raise NotImplementedError

    def _delete(self, name: str) -> Steps[None]:
        """Remove something at the destination."""
        raise NotImplementedError

    def failed(self, item: Pair, error: Exception) -> None:
        reason = None if error is self.tally.callers else reason_of(error)
        if reason is None:
            raise error
        self.tally.failed(item.name, reason)


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


def _checksum_type(end: BucketEnd) -> Steps[str]:
    """The type of checksum that the bucket's objects have. Raises `ErrBckNotFound`."""
    answer: Answer = yield from do(end.run, buckets.head(end.ref))
    try:
        kind = json.loads(answer.headers.get(_BUCKET_PROPS, ""))["checksum"]["type"]
    except (ValueError, KeyError, TypeError):
        return ""
    return kind if isinstance(kind, str) else ""


def _same_file(tree: LocalTree, kind: str, name: str, file: Entry, found: Entry) -> Steps[bool]:
    """Whether a file has the content of an object: of the same size, it is read and hashed."""
    if file.size != found.size or not found.checksum or kind in _NO_CHECKSUM:
        return False
    digest = yield from local(tree.digest, name, kind)
    return digest == found.checksum


class FolderToBucket(Sync):
    """Files of a folder, at any depth, become objects."""

    def __init__(self, folder: str | PathLike[str], to: BucketEnd, choice: Choice, together: Together) -> None:
        super().__init__(choice)
        self._tree = LocalTree(folder, self.halt)
        self._to = to
        self._together = together
        self._kind = ""

    def _cursors(self) -> Steps[tuple[Cursor, Cursor]]:
        choice = self._choice
        yield from local(lambda: self._tree.open(create=False))
        self._kind = yield from _checksum_type(self._to)
        return self._tree.cursor(choice.pattern), self._to.entries(choice.pattern)

    def _same(self, name: str, source: Entry, there: Entry) -> Steps[bool]:
        return _same_file(self._tree, self._kind, name, source, there)

    def _move(self, name: str, source: Entry, *, replaces: bool) -> Steps[tuple[str, int]]:  # noqa: ARG002  the interface's
        end = self._to
        return upload(end.path(name), end.ref.query, lambda: self._tree.open_file(name), self.halt, self._together)

    def _how(self, source: Entry) -> str:
        return how_uploaded(source.size)

    def _delete(self, name: str) -> Steps[None]:
        yield from _delete_object(self._to, name)

    def close(self) -> None:
        self._tree.close()


class BucketToFolder(Sync):
    """Objects of a bucket become files of a folder."""

    def __init__(self, source: BucketEnd, folder: str | PathLike[str], choice: Choice) -> None:
        super().__init__(choice)
        self._tree = LocalTree(folder, self.halt)
        self._from = source
        self._kind = ""
        self._above: list[str] = []

    def _cursors(self) -> Steps[tuple[Cursor, Cursor]]:
        choice = self._choice
        self._kind = yield from _checksum_type(self._from)
        there: Cursor = _Nothing()
        if not self.dry_run or (yield from local(self._tree.exists)):
            yield from local(lambda: self._tree.open(create=not self.dry_run))
            there = self._tree.cursor(choice.pattern)
        return self._from.entries(choice.pattern), there

    def _next(self, source: Ahead, there: Ahead) -> Steps[Pair | None]:
        pair = yield from super()._next(source, there)
        if pair is None or pair.source is None:
            return pair
        name = pair.name
        if not name or name.endswith("/"):
            return pair._replace(source=Entry(name, problem="a folder marker: its name ends in a slash"))
        # Names are sorted: what stands between `a` and `a/b` begins with `a`, so few names are held.
        while self._above and not name.startswith(self._above[-1]):
            self._above.pop()
        for above in self._above:
            if name.startswith(above + "/"):
                return pair._replace(blocked=f"{above!r} is an object, too, and no file is also a folder")
        self._above.append(name)
        return pair

    def act(self, item: Pair) -> Steps[None]:
        if item.source is not None:
            check_below(item.name)
        yield from super().act(item)

    def _same(self, name: str, source: Entry, there: Entry) -> Steps[bool]:
        return _same_file(self._tree, self._kind, name, there, source)

    def _move(self, name: str, source: Entry, *, replaces: bool) -> Steps[tuple[str, int]]:
        if source.size <= SMALL:
            answer = yield from _get(self._from, name)
            content = answer.content
            check_body(answer, content)
            yield from local(lambda: self._tree.write(name, content, replaces=replaces))
            return "get", len(content)
        file = self._from.reader(name).as_file()
        try:
            return "get", (yield from receive(file, self._tree.file(name, replaces=replaces)))
        finally:
            yield from do(file.close)

    def _how(self, source: Entry) -> str:  # noqa: ARG002  the interface's
        return "get"

    def _delete(self, name: str) -> Steps[None]:
        yield from local(self._tree.remove, name)

    def abandon(self) -> None:
        self._tree.abandon()

    def close(self) -> None:
        self._tree.close()


class BucketToBucket(Sync):
    """Objects of a bucket become objects of another one: within a cluster as copies, else through this process."""

    def __init__(self, source: BucketEnd, to: BucketEnd, choice: Choice) -> None:
        super().__init__(choice)
        self._from = source
        self._to = to
        self._comparable = self._one_cluster = False

    def _cursors(self) -> Steps[tuple[Cursor, Cursor]]:
        choice = self._choice
        kinds = (yield from _checksum_type(self._from)), (yield from _checksum_type(self._to))
        self._comparable = kinds[0] == kinds[1] and kinds[0] not in _NO_CHECKSUM
        maps: tuple[Smap, Smap] = (yield from do(self._from.get_smap)), (yield from do(self._to.get_smap))
        self._one_cluster = maps[0].uuid == maps[1].uuid
        if self._one_cluster and self._from.ref == self._to.ref:
            raise ValueError(f"{self._to.ref} cannot be synced with itself")
        return self._from.entries(choice.pattern), self._to.entries(choice.pattern)

    def _same(self, name: str, source: Entry, there: Entry) -> Steps[bool]:  # noqa: ARG002  the interface's
        yield from ()
        known = self._comparable and source.checksum != ""
        return known and (source.size, source.checksum) == (there.size, there.checksum)

    def _move(self, name: str, source: Entry, *, replaces: bool) -> Steps[tuple[str, int]]:  # noqa: ARG002  the interface's
        source_end, end = self._from, self._to
        if self._one_cluster:
            copied_to = f"{end.ref.uname}{end.prefix}{name}"
            steps = objects.copy(source_end.path(name), source_end.ref.query, copied_to, {}, False, False)
            yield from do(source_end.run, steps)
            return "copy", source.size
        if source.size <= SMALL:
            answer: Answer = yield from do(source_end.run, _get(source_end, name))
            content = answer.content
            check_body(answer, content)
            yield from store(end.path(name), end.ref.query, content, _own_metadata(answer))
            return "get and put", len(content)
        answer = yield from do(source_end.run, objects.head(source_end.path(name), source_end.ref.query))
        pieces = _stopping(source_end.reader(name), self.halt)
        yield from store(end.path(name), end.ref.query, pieces, _own_metadata(answer))
        return "get and put", source.size

    def _how(self, source: Entry) -> str:  # noqa: ARG002  the interface's
        return "copy" if self._one_cluster else "get and put"

    def _delete(self, name: str) -> Steps[None]:
        yield from _delete_object(self._to, name)


def sync_of(
    bucket: SomeBucket,
    source: str | PathLike[str] | SomeBucket | None,
    to: str | PathLike[str] | SomeBucket | None,
    choice: Choice,
    together: Together,
) -> Sync:
    """The sync that arguments of `Bucket.sync` ask for. Raises ValueError, TypeError."""
    other = source if to is None else to
    if other is None or (source is not None and to is not None):
        raise ValueError("name exactly one of `source` and `to`: a folder or another bucket")
    end = BucketEnd(bucket, choice.prefix)
    if isinstance(other, (str, PathLike)):
        return FolderToBucket(other, end, choice, together) if to is None else BucketToFolder(end, other, choice)
    if type(other) is not type(bucket):
        what = "source" if to is None else "to"
        raise TypeError(f"`{what}` has to be a folder or a {type(bucket).__name__}, not {type(other).__name__}")
    other_end = BucketEnd(other, choice.other_prefix)
    return BucketToBucket(other_end, end, choice) if to is None else BucketToBucket(end, other_end, choice)


def how_uploaded(size: int) -> str:
    """How a file of this size becomes an object."""
    from aistore.calls.file_uploads import LARGE

    return "put" if size < LARGE else "multipart"


def _get(end: BucketEnd, name: str) -> Steps[Answer]:
    return (yield Request("GET", end.path(name), end.ref.query))


def _delete_object(end: BucketEnd, name: str) -> Steps[None]:
    from aistore.sdk.errors import ErrObjNotFound

    try:
        yield from objects.delete(end.path(name), end.ref.query)
    except ErrObjNotFound:  # somebody was quicker
        return


def _own_metadata(answer: Answer) -> dict[str, str]:
    """Custom metadata that users set; of an object from a backend the pairs of that backend stay behind."""
    from aistore.sdk.obj.object_attributes import ObjectAttributes

    pairs = dict(ObjectAttributes(answer.head.headers).custom_metadata)
    return {key: value for key, value in pairs.items() if key not in STANDARD} if _SOURCE in pairs else pairs


class _Nothing:
    """A folder that does not exist."""

    def more(self) -> Steps[list[Entry]]:
        yield from ()
        return []


def _stopping(reader: SomeReader, halt: Halt) -> object:
    """Content that ends with the transfer; tasks are cancelled, which ends theirs."""
    return reader if hasattr(reader, "__aiter__") else _Stopping(reader, halt)  # type: ignore[arg-type]  # the blocking face's


class _Stopping:
    def __init__(self, pieces: Iterable[BytesLike], halt: Halt) -> None:
        self._pieces = pieces
        self._halt = halt

    def __iter__(self) -> Iterator[BytesLike]:
        for piece in self._pieces:
            self._halt.check()
            yield piece
