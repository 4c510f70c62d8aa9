"""Changes of cached objects that are under way at their backends: after a crash nobody knows whether they were made there.

A change is noted in a file before its backend is asked, and the note is removed when the cache has the change, too. What is noted at a
start is dropped from the cache: the next reader gets what the backend has.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

from aistore.server.backends.base import SOURCE
from aistore.server.store.content import in_thread
from aistore.server.store.sync import sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store

__all__ = ["Unfinished"]

logger = logging.getLogger(__name__)


class Unfinished:
    """Notes of one process in the folder `root`, whose names begin with `owner`."""

    def __init__(self, root: Path, owner: str) -> None:
        self._root = root
        self._owner = f"{owner}-"
        self._numbers = count()

    @asynccontextmanager
    async def change(self, store: Store, bucket: Bucket, name: str) -> AsyncIterator[None]:
        """Note that a cached object is about to be changed, until that is over."""
        path = self._root / f"{self._owner}{next(self._numbers)}"
        note = json.dumps([bucket.bid, name]).encode()
        if store.durability == "strict":
            await in_thread(self._write, path, note, True)
        else:
            self._write(path, note, False)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, note: bytes, durable: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._root.mkdir(exist_ok=True)
            fd = os.open(path, flags, 0o600)
        try:
            os.write(fd, note)
            if durable:
                sync_file(fd)
        finally:
            os.close(fd)
        if durable:
            sync_folder(self._root)

    async def recover(self, store: Store, *, everybody: bool) -> None:
        """Drop from the cache what the crashed process changed, or with `everybody` all processes of the folder."""
        try:
            notes = sorted(path for path in self._root.iterdir() if everybody or path.name.startswith(self._owner))
        except FileNotFoundError:
            return
        buckets = {bucket.bid: bucket for bucket in store.buckets()} if notes else {}
        for path in notes:
            try:
                bid, name = json.loads(path.read_bytes())
            except ValueError:  # it died while it wrote the note: the backend was not asked
                path.unlink()
                continue
            bucket = buckets.get(bid)
            row = store.lookup(bucket, name) if bucket is not None else None
            if bucket is not None and row is not None and SOURCE in row.custom:
                logger.info("%s was being changed when the server died: it is read anew", bucket.id.object_cname(name))
                await store.delete(bucket, [name])
            path.unlink()
