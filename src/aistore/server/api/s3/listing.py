"""ListObjects, both versions of it, and ListObjectVersions (protocol/00 21): pages of at most 1,000 entries, which go on behind a name."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from aistore.server.api.inventory_listing import InventoryView, list_inventory
from aistore.server.api.s3.errors import invalid
from aistore.server.api.s3.headers import iso_time, modified
from aistore.server.api.s3.xml import element, leaf, xml_reply
from aistore.server.store.scan import Bounds, successor
from aistore.wire import access
from aistore.wire.headers import INVENTORY_NAME
from aistore.wire.listing import ENTRY_DIRECTORY
from aistore.wire.values import SECOND, base36, parse_bool

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.message import Reply
    from aistore.http1.server import Request
    from aistore.server.backends.base import RemoteObject
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.server.store.scan import Row, Scanner

__all__ = ["list_objects", "page_size"]

_MOST: Final = 1000
# What has a remote bucket listed from an inventory of this server (protocol/10 21.4).
_FROM_INVENTORY: Final = "ais-bucket-inventory"
_INVENTORY_NAME: Final = INVENTORY_NAME.lower()
_COLUMNS: Final = ", size, checksum_type, checksum, mtime, custom"
_AFTER: Final = {"1": "marker", "2": "start-after", "versions": "key-marker"}
_number: Final = re.compile(r"[0-9]{1,10}", re.ASCII).fullmatch


class _Asked(NamedTuple):
    """What a page is asked for."""

    prefix: str
    delimiter: str
    after: str
    """Only entries that sort behind this."""
    limit: int


class _Entry(NamedTuple):
    """An object, or with only a name a common prefix."""

    name: str
    size: int = -1
    tag: str = ""
    seconds: float = 0.0


async def list_objects(node: Node, request: Request, bucket: Bucket) -> Reply:
    """One page of a bucket's objects."""
    node.check_access(bucket, access.LIST_OBJECTS, "LIST-OBJECTS")
    params = request.params
    kind = "versions" if "versions" in params else "2" if params.get("list-type") == "2" else "1"
    token = params.get("continuation-token", "") if kind == "2" else ""
    after = _decode_token(token) if token else params.get(_AFTER[kind], "")
    asked = _Asked(params.get("prefix", ""), params.get("delimiter", ""), after, page_size(request, "max-keys"))
    if not asked.limit:
        entries: list[_Entry] = []
        more = False
    elif bucket.remote is not None and parse_bool(request.headers.get(_FROM_INVENTORY, "")):
        entries, more = await _list_inventory(node, bucket, request.headers.get(_INVENTORY_NAME, ""), asked)
    elif bucket.remote is not None:
        entries, more = await _list_remote(node, bucket, asked)
    else:
        scanner = node.control.scanner
        rows = await scanner.run(lambda: _rows(scanner, bucket.bid, asked))
        entries, more = [_entry(row) for row in rows[: asked.limit]], len(rows) > asked.limit
    node.stats.listed()
    if kind == "versions":
        return _page_of_versions(request, bucket, asked, entries, more=more)
    return _page(request, bucket, asked, token, entries, more=more, is_v2=kind == "2")


def page_size(request: Request, name: str) -> int:
    """The number of entries that a page is asked for, at most 1,000. Raises `ApiError` 400."""
    text = request.params.get(name, "")
    if text and not _number(text):
        raise invalid(f"{name}: {text[:64]!r} is no number")
    return min(int(text), _MOST) if text else _MOST


def _decode_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise invalid("the continuation token is none of this server") from None


def _encode_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode("utf-8", "surrogateescape")).decode()


# -- native buckets ------------------------------------------------------------------------------------------------


def _rows(scanner: Scanner, bid: int, asked: _Asked) -> list[Row]:
    """The rows of a page and one more, if there is one; a row of a single column is a common prefix (blocking)."""
    limit = asked.limit + 1
    bounds = Bounds(asked.prefix, asked.after, inclusive=False)
    if not asked.delimiter:
        return scanner.rows(bid, bounds, _COLUMNS, limit)
    common = _common_prefix(asked.after, asked)
    if common is not None:
        # It was listed, or sorts before what was: go on behind all that is in it.
        behind = successor(common)
        if behind is None:
            return []
        bounds = Bounds(asked.prefix, behind)
    return scanner.rows_of_level(bid, bounds, _COLUMNS, limit, asked.delimiter)


def _common_prefix(name: str, asked: _Asked) -> str | None:
    """The common prefix that a name falls under, or None."""
    if not name.startswith(asked.prefix):
        return None
    at = name.find(asked.delimiter, len(asked.prefix))
    return name[: at + len(asked.delimiter)] if at >= 0 else None


def _entry(row: Row) -> _Entry:
    if len(row) == 1:
        return _Entry(row[0])
    name, size, kind, checksum, mtime, text = row
    custom: dict[str, str] = json.loads(text) if text else {}
    # As `headers.tag_of` has it.
    tag = custom.get("ETag") or (checksum if kind == "md5" else f"v1-{checksum}-{base36(mtime)}")
    return _Entry(name, size, tag, modified(custom, mtime) if custom else mtime / 1e9)


# -- remote buckets ------------------------------------------------------------------------------------------------


async def _list_remote(node: Node, bucket: Bucket, asked: _Asked) -> tuple[list[_Entry], bool]:
    """A page of what the backend has, and whether there is more. Backends go on behind a name, as S3 does."""
    assert bucket.remote is not None
    if asked.delimiter not in ("", "/"):
        raise invalid(f"remote bucket {bucket.id.cname} is listed with the delimiter / or none")
    backend = node.backends.of(bucket)
    recursive = not asked.delimiter
    # A prefix that names a virtual directory is listed in it by backends, and is an entry for clients of S3.
    prefix = asked.prefix if recursive else asked.prefix[: asked.prefix.rfind("/") + 1]
    token = asked.after
    common = None if recursive else _common_prefix(asked.after, asked)
    entries: list[_Entry] = []
    while True:
        limit = min(asked.limit + 1, backend.page_size)
        page = await backend.list(bucket.remote, prefix, token, limit, recursive=recursive)
        for found in page.objects:
            name = found.name
            if name <= asked.after or name == common or not name.startswith(asked.prefix):
                continue
            entries.append(_Entry(name) if found.directory else _described(node, bucket, found))
        if len(entries) > asked.limit:
            return entries[: asked.limit], True
        token = page.token
        behind = successor(asked.prefix)
        if not token or (behind is not None and token >= behind):
            return entries, False


async def _list_inventory(node: Node, bucket: Bucket, name: str, asked: _Asked) -> tuple[list[_Entry], bool]:
    """A page of what an inventory of the bucket has, and whether there is more. Times are that of the inventory."""
    if asked.delimiter not in ("", "/"):
        raise invalid(f"an inventory of {bucket.id.cname} is listed with the delimiter / or none")
    common = _common_prefix(asked.after, asked) if asked.delimiter else None
    after = asked.after if common is None else common
    view = InventoryView(asked.prefix, after, asked.limit, recursive=not asked.delimiter, enter=False)
    page = await list_inventory(node, bucket, name, view)
    seconds = page.info.started / SECOND
    entries = [
        _Entry(one.name) if one.flags & ENTRY_DIRECTORY else _Entry(one.name, one.size, one.checksum, seconds)
        for one in page.entries
    ]
    return entries, bool(page.token)


def _described(node: Node, bucket: Bucket, found: RemoteObject) -> _Entry:
    seconds = modified(found.custom, 0)
    if not seconds and (row := node.store.lookup(bucket, found.name)) is not None:
        seconds = modified(row.custom, row.mtime)
    return _Entry(found.name, found.size, found.custom.get("ETag", found.checksum[1]), seconds)


# -- the answer ----------------------------------------------------------------------------------------------------


def _texts(request: Request) -> Callable[[str, str], str]:
    """What makes elements with names in them, encoded as the request wants it."""
    if request.params.get("encoding-type", "") != "url":
        return leaf
    return lambda name, value: leaf(name, quote(value, safe="/*-._", errors="surrogateescape"))


def _encoding(request: Request) -> list[str]:
    return [leaf("EncodingType", "url")] if request.params.get("encoding-type", "") == "url" else []


def _attributes(entry: _Entry) -> str:
    tag = leaf("ETag", f'"{entry.tag}"') if entry.tag else "<ETag></ETag>"
    return (
        leaf("LastModified", iso_time(entry.seconds)) + tag + "<StorageClass></StorageClass>" + leaf("Size", entry.size)
    )


def _page_of_versions(request: Request, bucket: Bucket, asked: _Asked, entries: list[_Entry], *, more: bool) -> Reply:
    """Every object has one version: the current one, `null`."""
    text = _texts(request)
    last = entries[-1].name if more and entries else ""
    return xml_reply(
        "ListVersionsResult",
        leaf("Name", bucket.id.name),
        text("Prefix", asked.prefix),
        text("KeyMarker", asked.after),
        leaf("VersionIdMarker", request.params.get("version-id-marker", "")),
        text("Delimiter", asked.delimiter) if asked.delimiter else "",
        *_encoding(request),
        leaf("MaxKeys", asked.limit),
        leaf("IsTruncated", "true" if more else "false"),
        text("NextKeyMarker", last) + leaf("NextVersionIdMarker", "null") if last else "",
        *(
            element(
                "Version",
                text("Key", entry.name),
                "<VersionId>null</VersionId><IsLatest>true</IsLatest>",
                _attributes(entry),
            )
            for entry in entries
            if entry.size >= 0
        ),
        *(element("CommonPrefixes", text("Prefix", entry.name)) for entry in entries if entry.size < 0),
    )


def _page(
    request: Request, bucket: Bucket, asked: _Asked, token: str, entries: list[_Entry], *, more: bool, is_v2: bool
) -> Reply:
    params, text = request.params, _texts(request)
    last = entries[-1].name if more and entries else ""
    # As the reference: the prefix is not repeated (tests/conformance/golden/http/s3_basic.list_v2).
    out = [leaf("Name", bucket.id.name), "<Prefix></Prefix>", leaf("ContinuationToken", token)]
    if asked.delimiter:
        out.append(text("Delimiter", asked.delimiter))
    out += _encoding(request)
    if is_v2:
        if "start-after" in params:
            out.append(text("StartAfter", params["start-after"]))
        if last:
            out.append(leaf("NextContinuationToken", _encode_token(last)))
    else:
        if "marker" in params:
            out.append(text("Marker", params["marker"]))
        if last:
            out.append(text("NextMarker", last))
    for entry in entries:
        if entry.size >= 0:
            out.append(element("Contents", text("Key", entry.name), _attributes(entry)))
    out += (element("CommonPrefixes", text("Prefix", entry.name)) for entry in entries if entry.size < 0)
    counts = leaf("KeyCount", len(entries)) + leaf("MaxKeys", asked.limit)
    return xml_reply("ListBucketResult", *out, counts, leaf("IsTruncated", "true" if more else "false"))
