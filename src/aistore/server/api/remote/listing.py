"""Listing of remote buckets: what the backend has, with what is cached of it (protocol/10 19.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from aistore.wire import listing
from aistore.wire.custom import format_listed
from aistore.wire.errors import ApiError
from aistore.wire.listing import Entry, Page, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.server.backends.base import RemoteObject
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.server.store.scan import Row

__all__ = ["RemoteListing", "check_flags", "list_page"]

_NAMES_AT_ONCE: Final = 500
_REMOTE_ONLY: Final = listing.CACHED | listing.NAME_ONLY | listing.NAME_SIZE | listing.NOT_CACHED


class RemoteListing(NamedTuple):
    """What a page is asked for."""

    prefix: str
    token: str
    limit: int
    flags: int
    wanted: Wanted
    columns: str
    make: Callable[[list[Row]], list[Entry]]
    """Entries of rows of the cache."""


def check_flags(cname: str, props: str, start_after: str, flags: int) -> None:
    """Refuse combinations that a listing of a remote bucket has no meaning for. Raises ApiError 400."""
    if start_after:
        what = f"list-objects option --start_after ({start_after}) not yet supported for remote buckets ({cname})"
        raise ApiError(400, what)
    if flags & listing.CACHED and flags & listing.NOT_CACHED:
        raise ApiError(400, f"{cname}: cannot list objects that are cached and not cached")
    if flags & listing.DIFF and ("custom" not in props or flags & _REMOTE_ONLY):
        raise ApiError(
            400, f"{cname}: comparing with remote versions needs `custom` among the properties, and no other flag"
        )


async def list_page(node: Node, bucket: Bucket, uuid: str, asked: RemoteListing) -> Page:
    """One page. An empty one is never followed by another."""
    assert bucket.remote is not None
    backend = node.backends.of(bucket)
    limit = min(asked.limit or backend.page_size, backend.page_size)
    recursive = not asked.flags & listing.NO_RECURSION
    token = asked.token
    while True:
        page = await backend.list(bucket.remote, asked.prefix, token, limit, recursive=recursive)
        cached = await _cached(node, bucket, asked, page.objects)
        entries = [
            _entry(found, cached.get(found.name), asked)
            for found in page.objects
            if not (found.directory and asked.flags & listing.NO_DIRS)
            and not (found.name in cached and asked.flags & listing.NOT_CACHED)
        ]
        token = page.token
        if entries or not token:
            return Page(uuid, token, entries)


async def _cached(
    node: Node, bucket: Bucket, asked: RemoteListing, objects: list[RemoteObject]
) -> dict[str, tuple[Entry, Row]]:
    """Entries of the cache among the names of a page, with the rows that they were made from."""
    names = sorted({one.name for one in objects if not one.directory})
    if not names:
        return {}
    scanner = node.control.scanner

    def look() -> list[Row]:
        # One by one: between two names of a level, or of a page after much was deleted there, anything may lie in the cache.
        found: list[Row] = []
        for at in range(0, len(names), _NAMES_AT_ONCE):
            some = names[at : at + _NAMES_AT_ONCE]
            wanted = ",".join("?" * len(some))
            sql = f"SELECT name{asked.columns} FROM object WHERE bucket = ? AND name IN ({wanted}) ORDER BY name"  # noqa: S608 (own columns)
            found += scanner.reader().execute(sql, (bucket.bid, *some))
        return found

    rows = await scanner.run(look)
    return {entry.name: (entry, row) for entry, row in zip(asked.make(rows), rows, strict=True)}


def _entry(found: RemoteObject, kept: tuple[Entry, Row] | None, asked: RemoteListing) -> Entry:
    wanted, flags = asked.wanted, asked.flags
    if found.directory:
        return Entry(found.name, flags=listing.ENTRY_DIRECTORY)
    if kept is None:
        return Entry(
            found.name,
            checksum=(found.checksum[1] or found.custom.get("ETag", "")) if wanted.checksum else "",
            version=found.version if wanted.version else "",
            custom=format_listed(found.custom) if wanted.custom else "",
            size=found.size if wanted.size else 0,
        )
    cached, row = kept
    if flags & listing.DIFF and _differs(found, row):
        cached.flags |= listing.ENTRY_VERSION_CHANGED
    if wanted.size and flags & listing.ONLY_REMOTE_PROPS:
        cached.size = found.size
    return cached


def _differs(found: RemoteObject, row: Row) -> bool:
    """Whether what the backend has is another version than the cached one, as far as a listing tells."""
    _, size, checksum, _, version, custom = row  # custom metadata was asked for, so that all columns were read
    if found.size != size:
        return True
    pairs = msgspec.json.decode(custom or "{}", type=dict[str, str])
    known = [key for key in ("ETag", "version") if found.custom.get(key) and pairs.get(key)]
    if known:
        return any(found.custom[key] != pairs[key] for key in known)
    if found.version and version:
        return found.version != str(version)
    theirs = found.checksum[1]
    return bool(theirs) and len(theirs) == len(checksum) and theirs != checksum
