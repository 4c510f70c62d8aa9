"""Syncs of a folder into a bucket, of a bucket into a folder, of a bucket into another one, of the same cluster or of two."""

from __future__ import annotations

import re
from os import PathLike
from typing import TYPE_CHECKING

from aistore.calls import objects
from aistore.calls.bucket_end import BucketEnd
from aistore.calls.downloads import receive
from aistore.calls.file_uploads import LARGE, SMALL, upload
from aistore.calls.local_tree import LocalTree, check_below
from aistore.calls.steps import do, local
from aistore.calls.syncing import Sync
from aistore.calls.transfers import Entry
from aistore.calls.uploads import store
from aistore.wire.custom import STANDARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aistore.calls.bucket_end import SomeBucket, SomeReader
    from aistore.calls.file_uploads import Together
    from aistore.calls.steps import Answer, Steps
    from aistore.calls.syncing import Choice, Pair
    from aistore.calls.transfers import Ahead, Cursor, Halt
    from aistore.http1.payload import BytesLike
    from aistore.sdk.types import Smap

__all__ = ["BucketToBucket", "BucketToFolder", "FolderToBucket", "sync_of"]

_NO_CHECKSUM = ("", "none")
_SOURCE = "source"
_PROVIDER_FIRST = re.compile(r"[a-z0-9]+://")


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
        self._tree = LocalTree(folder, self.halt, dry_run=choice.dry_run)
        self._to = to
        self._together = together
        self._kind = ""

    def _cursors(self) -> Steps[tuple[Cursor, Cursor]]:
        choice = self._choice
        yield from local(lambda: self._tree.open(create=False))
        self._kind = yield from self._to.checksum_type()
        return self._tree.cursor(choice.pattern), self._to.entries(choice.pattern)

    def _same(self, name: str, source: Entry, there: Entry) -> Steps[bool]:
        return _same_file(self._tree, self._kind, name, source, there)

    def _move(self, name: str, source: Entry, *, replaces: bool) -> Steps[tuple[str, int]]:  # noqa: ARG002  the interface's
        end = self._to
        return upload(end.path(name), end.ref.query, lambda: self._tree.open_file(name), self.halt, self._together)

    def _how(self, source: Entry) -> str:
        return "put" if source.size < LARGE else "multipart"

    def _delete(self, name: str) -> Steps[None]:
        yield from self._to.delete(name)

    def close(self) -> None:
        self._tree.close()


class BucketToFolder(Sync):
    """Objects of a bucket become files of a folder."""

    def __init__(self, source: BucketEnd, folder: str | PathLike[str], choice: Choice) -> None:
        super().__init__(choice)
        self._tree = LocalTree(folder, self.halt, dry_run=choice.dry_run)
        self._from = source
        self._kind = ""
        self._above: list[str] = []

    def _cursors(self) -> Steps[tuple[Cursor, Cursor]]:
        choice = self._choice
        self._kind = yield from self._from.checksum_type()
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
        if source.size <= SMALL and (found := (yield from self._from.get(name))) is not None:
            content = found[1]
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
        kinds = (yield from self._from.checksum_type()), (yield from self._to.checksum_type())
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
        if source.size <= SMALL and (found := (yield from do(source_end.run, source_end.get(name)))) is not None:
            answer, content = found
            yield from store(end.path(name), end.ref.query, content, _own_metadata(answer))
            return "get and put", len(content)
        answer = yield from do(source_end.run, objects.head(source_end.path(name), source_end.ref.query))
        pieces = _stopping(source_end.reader(name), self.halt)
        yield from store(end.path(name), end.ref.query, pieces, _own_metadata(answer))
        return "get and put", source.size

    def _how(self, source: Entry) -> str:  # noqa: ARG002  the interface's
        return "copy" if self._one_cluster else "get and put"

    def _delete(self, name: str) -> Steps[None]:
        yield from self._to.delete(name)


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
    if isinstance(other, str) and _PROVIDER_FIRST.match(other):
        raise ValueError(f"{other!r} looks like a bucket, but a text is a folder here: pass client.bucket(...)")
    end = BucketEnd(bucket, choice.prefix)
    if isinstance(other, (str, PathLike)):
        return FolderToBucket(other, end, choice, together) if to is None else BucketToFolder(end, other, choice)
    if type(other) is not type(bucket):
        what = "source" if to is None else "to"
        raise TypeError(f"`{what}` has to be a folder or a {type(bucket).__name__}, not {type(other).__name__}")
    other_end = BucketEnd(other, choice.other_prefix)
    return BucketToBucket(other_end, end, choice) if to is None else BucketToBucket(end, other_end, choice)


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
