"""Which inventories there are, and listing from one instead of asking the backend (protocol/10 21.2, 21.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from aistore.server.archive.archives import Content
from aistore.server.jobs.inventory import INFO_KEY, InventoryInfo
from aistore.server.jobs.inventory_file import BadInventory, Inventory
from aistore.server.store.content import in_thread
from aistore.server.store.scan import Bounds, successor
from aistore.wire import listing
from aistore.wire.errors import ApiError
from aistore.wire.listing import Entry
from aistore.wire.names import BucketId

if TYPE_CHECKING:
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["INVENTORIES", "InventoryView", "check_inventory_flags", "inventories", "list_inventory"]

INVENTORIES: Final = BucketId("ais", "", "", ".sys-inventory")
"""The bucket that inventories live in: objects called as their bucket's unique name with the inventory's behind it."""

_MOST: Final = 10_000
_REFUSED: Final = (
    listing.MISSING | listing.DELETED | listing.ARCH_DIR | listing.NOT_CACHED | listing.ONLY_REMOTE_PROPS | listing.DIFF
)
_ENTRIES_MAX: Final = 100_000
# A page is made in memory: names of up to 8 KiB and custom metadata make it end before it has its entries.
_BYTES_MAX: Final = 16 << 20


async def inventories(node: Node, prefix: str = "") -> list[InventoryInfo]:
    """Inventories of the bucket whose unique name this is; of all buckets if it is empty."""
    bucket = node.store.bucket(INVENTORIES)
    if bucket is None:
        return []
    scanner = node.control.scanner
    rows = await scanner.run(lambda: scanner.rows(bucket.bid, Bounds(prefix), ", size, custom", _MOST))
    found = (_info(name, size, custom) for name, size, custom in rows)
    return [info for info in found if info is not None]


def _info(name: str, size: int, custom: str | None) -> InventoryInfo | None:
    """What an object says of itself; None if somebody else put it there."""
    try:
        pairs = msgspec.json.decode(custom or "{}", type=dict[str, str])
        info = msgspec.json.decode(pairs[INFO_KEY], type=InventoryInfo)
    except (msgspec.DecodeError, KeyError):
        return None
    return msgspec.structs.replace(info, obj_name=name, size=size)


async def _find(node: Node, bucket: Bucket, name: str) -> InventoryInfo:
    """The inventory of this name, or the only one. Raises `ApiError` 400 and 404."""
    found = await inventories(node, bucket.id.uname)
    cname = bucket.id.cname
    if name:
        for info in found:
            if info.name == name:
                return info
        raise ApiError(404, f'inventory "{bucket.id.uname}{name}" does not exist', "ErrNotFound")
    if not found:
        raise ApiError(400, f'bucket "{cname}" has no inventories')
    if len(found) > 1:
        what = f'bucket "{cname}" has {len(found)} inventories; please specify which one'
        raise ApiError(400, f'missing "Ais-Inv-Name" header: {what}')
    return found[0]


def check_inventory_flags(start_after: str, flags: int) -> None:
    """Refuse what a snapshot cannot tell. Raises `ApiError` 400."""
    if start_after:
        raise ApiError(400, f"list-objects option --start_after ({start_after}) is not supported for inventories")
    if refused := flags & _REFUSED:
        names = ",".join(listing.flag_names(refused))
        raise ApiError(400, f"list-objects: flags [{names}] are not supported for inventories")


class InventoryView(NamedTuple):
    """What is wanted of an inventory: up to `limit` entries behind the name `after`."""

    prefix: str = ""
    after: str = ""
    limit: int = 0
    recursive: bool = True
    cached: bool = False
    """Only objects that were cached when the inventory was made."""
    enter: bool = True
    """Whether a prefix that names a virtual directory stands for what is in it (protocol/10 19.5)."""


class InventoryPage(NamedTuple):
    """Entries, the token of the next page, and the inventory that they are from."""

    entries: list[Entry]
    token: str
    info: InventoryInfo


async def list_inventory(node: Node, bucket: Bucket, name: str, view: InventoryView) -> InventoryPage:
    """A page of the inventory of this name, or of the only one. Raises `ApiError`."""
    info = await _find(node, bucket, name)
    store = node.store.bucket(INVENTORIES)
    content = Content.open(node.store, store, info.obj_name) if store is not None else None
    if content is None:  # destroyed at this moment
        raise ApiError(404, f'inventory "{info.obj_name}" does not exist', "ErrNotFound")
    per_chunk = -(-info.ntotal // info.chunks) if info.chunks else listing.DEFAULT_PAGE
    view = view._replace(limit=min(view.limit or per_chunk, _ENTRIES_MAX))
    try:
        entries, token = await in_thread(lambda: _page(Inventory(content.source), view))
    except BadInventory as error:
        what = f"{error} (destroy it, and create it again)"
        raise ApiError(500, f'cannot list from inventory "{info.obj_name}": {what}') from error
    finally:
        content.close()
    return InventoryPage(entries, token, info)


def _page(inventory: Inventory, view: InventoryView) -> tuple[list[Entry], str]:
    """In a thread."""
    prefix, after = view.prefix, view.after
    if view.enter and not view.recursive and prefix and not prefix.endswith("/"):
        first = next(inventory.since(prefix + "/"), None)
        if first is not None and first.name.startswith(prefix + "/"):
            prefix += "/"  # it names a virtual directory (protocol/10 19.5)
    found: list[Entry] = []
    size = 0
    at: str | None = max(prefix, after)
    if not view.recursive and after.startswith(prefix) and after.endswith("/"):
        at = successor(after) or after  # a directory was the last entry: go on behind all that is in it
    while at is not None:
        seek, at = at, None
        for entry in inventory.since(seek):
            name = entry.name
            if not name.startswith(prefix):
                break
            if (after and name <= after) or (view.cached and not entry.flags & listing.ENTRY_CACHED):
                continue
            slash = -1 if view.recursive else name.find("/", len(prefix))
            if slash >= 0:
                name = name[: slash + 1]
                entry = Entry(name, flags=listing.ENTRY_DIRECTORY)  # noqa: PLW2901 (it stands for all that is in it)
                at = successor(name)
            elif view.enter and not view.recursive and name == prefix:
                continue
            found.append(entry)
            size += len(name) + len(entry.custom)
            if len(found) >= view.limit or size >= _BYTES_MAX:
                return found, name
            if at is not None:
                break
    return found, ""
