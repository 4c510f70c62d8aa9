"""The job that makes a bucket inventory (protocol/10 21)."""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from aistore.server.jobs.inventory_file import InventoryWriter
from aistore.server.store.content import in_thread
from aistore.server.store.errors import ContentChanged
from aistore.server.store.rows import LOOKUP_PLAIN
from aistore.server.store.scan import successor
from aistore.server.store.schema import INLINE_MAX
from aistore.server.store.sorting import Sorter
from aistore.wire.checksum import new_hasher
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aistore.server.jobs.registry import Job
    from aistore.server.store.catalog import Transaction
    from aistore.server.store.content import Upload
    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store
    from aistore.wire.listing import Entry

__all__ = ["INFO_KEY", "InventoryInfo", "InventoryOrder", "make_inventory"]

INFO_KEY: Final = "inventory"
"""Key of the custom metadata of an inventory's object: its `InventoryInfo`, in JSON."""


class InventoryInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What is told of an inventory; times in Unix nanoseconds, `nat` is the number of targets that made it."""

    bucket: str
    name: str
    obj_name: str
    size: int = 0
    prefix: str = ""
    started: int = 0
    finished: int = 0
    ntotal: int = 0
    smap_ver: int = 0
    chunks: int = 0
    nat: int = 0


class InventoryOrder(NamedTuple):
    """What is to be recorded, and where."""

    bucket: Bucket
    info: InventoryInfo
    names_per_chunk: int
    target: Bucket
    """The bucket that inventories live in."""
    checksum_type: str


async def make_inventory(job: Job, store: Store, order: InventoryOrder, pages: AsyncIterator[list[Entry]]) -> None:
    """Record the entries of all pages; the inventory is there when it is complete, and with that the one that it replaces is gone.

    Raises `ApiError` if the bucket is gone at the end, and `StoreFull`.
    """
    out = _Output(await store.content.create(), order.checksum_type)
    try:
        # Not every backend lists in byte order: those that keep objects as files go from directory to directory.
        with closing(await in_thread(Sorter, store.work.root)) as sorter:
            async for page in pages:
                seen = sorter.size
                await in_thread(sorter.add, [(entry.name, msgspec.msgpack.encode(entry)) for entry in page])
                store.check_room(sorter.size - seen)
                job.done(len(page), 0)
            total = await _write(store, sorter, out)
        content = await out.finish()
        _check_there(store, order.bucket)
    except BaseException:
        out.upload.abandon()
        raise
    info = msgspec.structs.replace(
        order.info,
        finished=time.time_ns(),
        size=out.size,
        ntotal=total,
        chunks=-(-total // order.names_per_chunk),
    )
    text = msgspec.json.encode(info).decode()

    def check(tx: Transaction) -> None:
        row = tx.execute(LOOKUP_PLAIN, (order.target.bid, info.obj_name)).fetchone()
        if row is None or INFO_KEY not in row[-1] or msgspec.json.decode(row[-1])[INFO_KEY] != text:
            raise ContentChanged(info.obj_name)

    # Queued one after the other, both are in one commit, and without the first there is no second: after a crash there is the old
    # inventory or the new one.
    stored = store.put(
        order.target,
        info.obj_name,
        content,
        order.checksum_type,
        out.checksum(),
        custom={INFO_KEY: text},
        fresh=True,
    )
    removed = store.delete(order.target, [name for name in _names(store, order) if name != info.obj_name], check=check)
    with suppress(ContentChanged):
        await removed
    await stored


async def _write(store: Store, sorter: Sorter, out: _Output) -> int:
    """Write what was sorted; the number of entries."""
    writer = InventoryWriter(out.write)
    some = sorter.some()

    def step() -> bool:
        values = next(some, [])
        for name, encoded in values:
            writer.add(name, encoded)
        return bool(values)

    while await in_thread(step):
        store.check_room(out.unseen())
    await in_thread(writer.finish)
    store.check_room(out.unseen())
    return writer.total


def _check_there(store: Store, bucket: Bucket) -> None:
    there = store.bucket(bucket.id)
    if there is None or there.bid != bucket.bid:
        raise ApiError(404, f'bucket "{bucket.id.cname}" was evicted or destroyed meanwhile', "ErrBckNotFound")


def _names(store: Store, order: InventoryOrder) -> list[str]:
    """Names of the objects that are inventories of the bucket: one, or none."""
    sql = "SELECT name FROM object WHERE bucket = ? AND name >= ? AND name < ?"
    prefix = order.bucket.id.uname
    return [name for (name,) in store.catalog.read(sql, (order.target.bid, prefix, successor(prefix)))]


class _Output:
    """Content on its way to an upload."""

    def __init__(self, upload: Upload, checksum_type: str) -> None:
        self.upload = upload
        self.size = 0
        self._seen = 0
        self._hasher = new_hasher(checksum_type)

    def write(self, data: bytes) -> None:
        """Append (in a thread)."""
        if self._hasher is not None:
            self._hasher.update(data)
        self.upload.write(data)
        self.size += len(data)

    def unseen(self) -> int:
        """Bytes written since this was last asked; they count as used from now on."""
        more, self._seen = self.size - self._seen, self.size
        self.upload.reserve(more)
        return more

    async def finish(self) -> bytes | Upload:
        """What was written, which is the caller's then."""
        if self.upload.size > INLINE_MAX:
            await in_thread(self.upload.finish)
            return self.upload
        content = os.pread(self.upload.fd, self.upload.size, 0)
        self.upload.abandon()
        return content

    def checksum(self) -> str:
        """Value of the checksum of all that was written; empty for type `none`."""
        return self._hasher.hexdigest() if self._hasher is not None else ""
