"""Listing of objects with archives as directories (protocol/10 19.6).

Members are named `<archive>/<member>` and come where these names have their place: objects like `a.tar-1` lie between `a.tar` and its
members. So a name is a token here too.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from aistore.server.archive.archives import Content
from aistore.server.archive.formats import EXTENSIONS, by_name
from aistore.server.store.errors import ContentMissing
from aistore.wire.listing import ENTRY_ARCHIVE, ENTRY_CACHED, ENTRY_IN_ARCHIVE, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.server.archive.index import Index, Member
    from aistore.server.node import Node
    from aistore.server.store.member_pages import Read
    from aistore.server.store.rows import Bucket
    from aistore.server.store.scan import Row

    Waiting = tuple[str, str, Member, Iterator[Member]]
    MakeEntries = Callable[[list[Row]], list[Entry]]

__all__ = ["list_with_members"]

_ROWS: Final = 64  # objects looked at before their archives are opened
_BYTES_MAX: Final = 16 << 20  # of names and custom metadata
_MEMBER: Final = ENTRY_CACHED | ENTRY_IN_ARCHIVE


async def list_with_members(
    node: Node,
    bucket: Bucket,
    prefix: str,
    start: str,
    limit: int,
    scan: Callable[[str, int], list[Row]],
    make_entries: MakeEntries,
    *,
    recursive: bool,
) -> tuple[list[Entry], bool]:
    """Up to `limit` entries behind `start`, and whether more may follow: objects whose names begin with `prefix`, and the members of
    those that are archives. There are fewer entries if their names get long.

    `scan(start, limit)` gives rows behind a name (in a scanning thread), `make_entries` makes entries of them.
    """
    scanner = node.control.scanner
    page = _Page(limit, start, make_entries)
    for name in _archives_around(start):
        if name.startswith(prefix):
            await _open(node, bucket, name, page)
    if not recursive:
        start = _behind_directory(prefix, start)
    while not page.full:
        count = min(_ROWS, limit - len(page.entries))
        rows = await scanner.run(lambda: scan(start, count))  # noqa: B023 (awaited before it changes)
        for row in rows:
            if by_name(row[0]) is not None:
                await _open(node, bucket, row[0], page)
        last = len(rows) < count
        await scanner.run(lambda: page.add(rows, scanner.reader().execute, last=last))  # noqa: B023 (as above)
        if last:
            break
        start = rows[-1][0]
    return page.entries, page.full


def _archives_around(start: str) -> Iterator[str]:
    """Names of archives that may come before `start` while members of theirs come behind it."""
    for extension in EXTENSIONS:
        at = start.find(extension)
        while at >= 0:
            name = start[: at + len(extension)]
            if name + "/" > start or start[len(name) : len(name) + 1] == "/":
                yield name
            at = start.find(extension, at + 1)


def _behind_directory(prefix: str, start: str) -> str:
    """Where to go on with objects: a member lies behind the directory of its archive's name, should there be one."""
    inside = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    slash = start.find("/", len(inside if start.startswith(inside) else prefix))
    return start[: slash + 1] if slash >= 0 else start


async def _open(node: Node, bucket: Bucket, name: str, page: _Page) -> None:
    """Have the archive expanded, unless it is damaged: what cannot be read to its end is shown as an object like others."""
    form = by_name(name)
    try:
        content = Content.open(node.store, bucket, name)
    except ContentMissing:
        return
    if content is None or form is None:
        return
    try:
        index = await node.control.archives.index(content, form)
    finally:
        content.close()
    if not index.damage:
        page.archives[name] = index


class _Page:
    """Entries in the order of their names, from objects and from members of archives."""

    def __init__(self, limit: int, start: str, make_entries: MakeEntries) -> None:
        self.entries: list[Entry] = []
        self.archives: dict[str, Index] = {}
        """Archives whose members may still come."""
        self._limit = limit
        self._bytes = 0
        self._last = start
        self._make_entries = make_entries

    @property
    def full(self) -> bool:
        """Whether it has as many entries as it may have, or long enough ones."""
        return len(self.entries) >= self._limit or self._bytes >= _BYTES_MAX

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._bytes += len(entry.name) + len(entry.custom)
        self._last = entry.name

    def add(self, rows: list[Row], read: Read, *, last: bool) -> None:
        """Add the objects of these rows, and the members that come before them; after the `last` rows all others (in a thread)."""
        known = {row[0] for row in rows}
        # Names of members that come next, with the archive that each is from; no two are equal.
        heap: list[Waiting] = []
        for name in list(self.archives):
            if name not in known:
                self._push(heap, name, read)
        for row, entry in zip(rows, self._make_entries(rows), strict=True):
            self._members(heap, row[0])
            if self.full:
                return
            if row[0] in self.archives:
                entry.flags |= ENTRY_ARCHIVE
                self._push(heap, row[0], read)
            self._append(entry)
        if last:
            self._members(heap, "")

    def _push(self, heap: list[Waiting], name: str, read: Read) -> None:
        inside = f"{name}/"
        after = self._last[len(inside) :] if self._last.startswith(inside) else ""
        self._next(heap, name, self.archives[name].in_thread(read).after(after))

    def _next(self, heap: list[Waiting], name: str, members: Iterator[Member]) -> None:
        member = next(members, None)
        if member is None:
            del self.archives[name]
        else:
            heapq.heappush(heap, (f"{name}/{member.name}", name, member, members))

    def _members(self, heap: list[Waiting], before: str) -> None:
        """Add the members whose names come before that of an object, all if that is empty."""
        while heap and not self.full and (not before or heap[0][0] <= before):
            full_name, archive, member, members = heapq.heappop(heap)
            if full_name > self._last and full_name != before:  # an object of the same name hides a member
                self._append(Entry(full_name, size=member.size, flags=_MEMBER))
            self._next(heap, archive, members)
