"""Listing of objects (protocol/10 17-19). Stateless: a listing's id is echoed, its token is a name."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.http1.message import Reply
from aistore.server.api.archive_listing import list_with_members
from aistore.server.api.inventory_listing import InventoryView, check_inventory_flags, list_inventory
from aistore.server.api.messages import json_reply
from aistore.server.api.remote.listing import RemoteListing, check_flags, list_page
from aistore.server.store.scan import Bounds, Row, Scanner, successor
from aistore.wire import listing
from aistore.wire.custom import format_listed
from aistore.wire.errors import ApiError
from aistore.wire.gotime import MAX_LAYOUT, formatter
from aistore.wire.headers import INVENTORY_NAME, MSGPACK, accepts_msgpack
from aistore.wire.ids import is_job_id, new_job_id
from aistore.wire.listing import Entry, ListRequest, Page, Wanted
from aistore.wire.messages import BadMessage, decode_value, value_refused
from aistore.wire.names import check_prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.server import Request
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["PageBuilder", "list_objects"]

# A page is made in memory: names of 8 KiB and custom metadata of 16 make it end before it has its entries.
_PAGE_MAX: Final = 100_000
_PAGE_BYTES: Final = 16 << 20
# Rows read before their bytes are counted.
_SLICE: Final = 1000
_LONG_SLICE: Final = 500
_CACHED: Final = listing.ENTRY_CACHED
# An index has these only; SQLite takes it for a constant, not for a parameter.
_CHUNKED: Final = "SELECT name FROM object WHERE bucket = ? AND layout = 2 AND "
_NAMES_AT_ONCE: Final = 500
_first: Final = itemgetter(0)
_last: Final = itemgetter(-1)


async def list_objects(node: Node, request: Request, bucket: Bucket, value: object) -> Reply:
    """One page of a bucket's objects; `value` is the `list` action's."""
    message = decode_value(value, ListRequest, "list", node.gateway_name)
    try:
        flags = message.flag_bits()
    except BadMessage as error:
        raise value_refused(value, "list", node.gateway_name, str(error)) from None
    _check(node, bucket, message, value, flags)
    if flags & listing.INVENTORY:
        return await _list_inventory(node, request, bucket, message, flags)
    wanted, flags = listing.wanted_fields(message.props, flags)
    if bucket.remote is not None and not flags & listing.CACHED:
        return await _list_remote(node, request, bucket, message, wanted, flags)
    limit = min(message.pagesize or listing.DEFAULT_PAGE, _PAGE_MAX)
    uuid = message.uuid or new_job_id()
    builder = PageBuilder(node, bucket, wanted, message.time_format)
    scanner = node.control.scanner
    prefix = check_prefix(message.prefix, "bad list-objects request")
    start = max(message.continuation_token, message.start_after)
    recursive = not flags & listing.NO_RECURSION

    def scan(start: str, limit: int) -> list[Row]:
        return _scan(scanner, bucket.bid, prefix, start, builder.columns, limit, recursive=recursive)

    as_msgpack = accepts_msgpack(request.headers.get("accept", ""))

    def encode(entries: list[Entry], *, more: bool) -> bytes:
        page = Page(uuid, entries[-1].name if more else "", entries)
        return listing.encode_page(page) if as_msgpack else listing.encode_page_json(page)

    def make() -> bytes:
        rows, more = _rows_of_page(scan, start, limit, _SLICE if builder.short else _LONG_SLICE)
        return encode(builder.entries(rows), more=more)

    if flags & listing.ARCH_DIR:
        entries, more = await list_with_members(
            node, bucket, prefix, start, limit, scan, builder.entries, recursive=recursive
        )
        body = await scanner.run(lambda: encode(entries, more=more))
    else:
        body = await scanner.run(make)
    node.stats.listed()
    return Reply(200, [("Content-Type", MSGPACK)], body) if as_msgpack else json_reply(request, body)


def _rows_of_page(
    scan: Callable[[str, int], list[Row]], start: str, limit: int, at_once: int
) -> tuple[list[Row], bool]:
    """Up to `limit` rows behind `start`, fewer if they get large, and whether more may follow."""
    rows: list[Row] = []
    size = 0
    while True:
        count = min(at_once, limit - len(rows))
        some = scan(start, count)
        rows += some
        if len(some) < count:
            return rows, False
        size += sum(map(len, map(_first, some)))
        if at_once == _LONG_SLICE:  # the last column is the custom metadata; a virtual directory has its name only
            size += sum(map(len, filter(None, map(_last, some))))
        if len(rows) >= limit or size >= _PAGE_BYTES:
            return rows, bool(rows)
        start = rows[-1][0]


async def _list_inventory(node: Node, request: Request, bucket: Bucket, message: ListRequest, flags: int) -> Reply:
    view = InventoryView(
        check_prefix(message.prefix, "bad list-objects request"),
        message.continuation_token,
        message.pagesize,
        recursive=not flags & listing.NO_RECURSION,
        cached=bool(flags & listing.CACHED),
    )
    name = request.headers.get(INVENTORY_NAME.lower(), "")
    page = await list_inventory(node, bucket, name, view)
    return _reply(node, request, Page(message.uuid or new_job_id(), page.token, page.entries))


async def _list_remote(
    node: Node, request: Request, bucket: Bucket, message: ListRequest, wanted: Wanted, flags: int
) -> Reply:
    builder = PageBuilder(node, bucket, wanted, message.time_format)
    prefix = check_prefix(message.prefix, "bad list-objects request")
    asked = RemoteListing(
        prefix, message.continuation_token, message.pagesize, flags, wanted, builder.columns, builder.entries
    )
    return _reply(node, request, await list_page(node, bucket, message.uuid or new_job_id(), asked))


def _reply(node: Node, request: Request, page: Page) -> Reply:
    node.stats.listed()
    if accepts_msgpack(request.headers.get("accept", "")):
        return Reply(200, [("Content-Type", MSGPACK)], listing.encode_page(page))
    return json_reply(request, listing.encode_page_json(page))


def _check(node: Node, bucket: Bucket, message: ListRequest, value: object, flags: int) -> None:
    """Refuse what protocol/10 19.9 refuses."""
    cname = bucket.id.cname
    if message.pagesize < 0:
        raise value_refused(
            value, "list", node.gateway_name, f"apc.LsoMsg.PageSize: negative page size {message.pagesize}"
        )
    if message.uuid and not is_job_id(message.uuid):
        raise ApiError(400, f'list-objects: invalid UUID "{message.uuid}"')
    if message.target and not node.smap.has_target(message.target):
        what = f"list-objects failure: node {message.target} not present in Smap v{node.smap.version}"
        raise ApiError(400, f"{node.gateway_name}: {what}", "errNodeNotFound")
    if len(message.time_format) > MAX_LAYOUT:
        raise ApiError(400, f"list-objects: time format is longer than {MAX_LAYOUT} characters")
    if flags & listing.INVENTORY:
        check_inventory_flags(message.start_after, flags)
        if bucket.remote is None:
            raise ApiError(400, f'bucket "{cname}" has no inventories')
    elif bucket.remote is not None:
        check_flags(cname, message.props, message.start_after if not flags & listing.CACHED else "", flags)
    elif flags & listing.NOT_CACHED:
        raise ApiError(400, f"{cname} is not a remote bucket - cannot list 'not cached' objects")
    if flags & listing.DIFF and bucket.remote is None:
        what = "cannot perform remote versions check (or diff vs remote bucket)"
        raise ApiError(400, f"{what}: bucket {cname} does not provide remote versioning info")


def _scan(
    scanner: Scanner, bid: int, prefix: str, start: str, columns: str, limit: int, *, recursive: bool
) -> list[Row]:
    if recursive:
        return scanner.rows(bid, Bounds(prefix, start, not start), columns, limit)
    if prefix and not prefix.endswith("/") and scanner.rows(bid, Bounds(prefix + "/"), "", 1):
        prefix += "/"  # it names a virtual directory (protocol/10 19.5)
    bounds = Bounds(prefix, start, not start)
    if start.endswith("/"):  # a directory was the last entry: go on behind all that is in it
        bounds = Bounds(prefix, successor(start) or start)
    return scanner.rows_of_level(bid, bounds, columns, limit)


class PageBuilder:
    """Makes entries from rows. Names and sizes alone, which nearly all listings ask for, take a short way."""

    def __init__(self, node: Node, bucket: Bucket, wanted: Wanted, time_format: str) -> None:
        self._wanted = wanted
        self._bid = bucket.bid
        self._reader = node.store.catalog.thread_reader
        self._locate = node.smap.locator(bucket.id.uname, node.mountpath) if wanted.location else None
        self._print_time = formatter(time_format)
        self._accessed = node.store.pending_atimes(bucket) if wanted.atime else {}
        self.short = wanted in (Wanted(), Wanted(size=True))
        self.columns = (", size" if wanted.size else "") if self.short else ", size, checksum, atime, version, custom"

    def entries(self, rows: list[Row]) -> list[Entry]:
        """Entries of the rows; one of a single column is a virtual directory, unless only names were read."""
        found = self._entries(rows)
        if chunked := self._chunked(rows):
            for entry in found:
                if entry.name in chunked:
                    entry.flags |= listing.ENTRY_CHUNKED
        return found

    def _chunked(self, rows: list[Row]) -> set[str]:
        """Of the rows' names those of objects that were uploaded in parts: few, so that rows are not read for this."""
        if not rows:
            return set()
        bid, most = self._bid, 2 * len(rows) + _SLICE
        sql = f"{_CHUNKED} name >= ? AND name <= ? LIMIT ?"
        found = self._reader().execute(sql, (bid, rows[0][0], rows[-1][0], most)).fetchall()
        if len(found) < most:
            return {name for (name,) in found}
        # Many more lie between the rows, in what a virtual directory stands for.
        names = [row[0] for row in rows]
        chunked: set[str] = set()
        for at in range(0, len(names), _NAMES_AT_ONCE):
            some = names[at : at + _NAMES_AT_ONCE]
            sql = f"{_CHUNKED} name IN ({','.join('?' * len(some))})"
            chunked.update(name for (name,) in self._reader().execute(sql, (bid, *some)))
        return chunked

    def _entries(self, rows: list[Row]) -> list[Entry]:
        if not self.short:
            return [self._full(*row) if len(row) > 1 else _directory(row[0]) for row in rows]
        if not self._wanted.size:
            return [
                Entry(name, "", "", "", "", "", 0, 0, _CACHED) if name[-1:] != "/" else _directory(name)
                for (name,) in rows
            ]
        try:
            return [Entry(name, "", "", "", "", "", size, 0, _CACHED) for name, size in rows]
        except ValueError:  # a directory among them
            return [
                Entry(row[0], "", "", "", "", "", row[1], 0, _CACHED) if len(row) > 1 else _directory(row[0])
                for row in rows
            ]

    def _full(self, name: str, size: int, checksum: str, atime: int, version: str, custom: str | None) -> Entry:
        wanted = self._wanted
        return Entry(
            name,
            checksum if wanted.checksum else "",
            self._print_time(self._accessed.get(name, atime)) if wanted.atime else "",
            version if wanted.version else "",
            self._locate(name) if self._locate else "",
            format_listed(msgspec.json.decode(custom, type=dict[str, str])) if wanted.custom and custom else "",
            size if wanted.size else 0,
            1 if wanted.copies else 0,
            _CACHED,
        )


def _directory(name: str) -> Entry:
    return Entry(name, flags=listing.ENTRY_DIRECTORY)
