"""Sorting more than fits in memory: runs of sorted items in unlinked files, merged while they are read.

All of it blocks, and runs in threads.
"""

from __future__ import annotations

import heapq
import os
import struct
from typing import TYPE_CHECKING, Final

from aistore.server.store.content import full_or
from aistore.server.store.errors import StoreError
from aistore.server.store.work import unnamed_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Item", "Run", "RunSorter"]

Item = tuple[bytes, int, bytes]
"""Key, number and data; the numbers differ, and decide between equal keys."""

_HEAD: Final = struct.Struct(">IqI")
_ITEM_COST: Final = 240  # bytes of memory that an item takes beside its key and its data
_WRITE: Final = 1 << 20
_READ: Final = 256 << 10
_RUNS_MAX: Final = 48  # that are merged at a time
_RUNS_MIN: Final = 2


class Run:
    """Items one behind the other in a file that is gone with its process."""

    def __init__(self, folder: Path) -> None:
        """Make the file in `folder`, which is made too. Raises `StoreFull`."""
        self._fd = unnamed_file(folder)
        self._buffer = bytearray()
        self._written = 0

    @property
    def size(self) -> int:
        """Bytes so far, those included that are not written yet."""
        return self._written + len(self._buffer)

    def append(self, item: Item) -> None:
        """Append an item. Raises `StoreFull`."""
        key, number, data = item
        self._buffer += _HEAD.pack(len(key), number, len(data))
        self._buffer += key
        self._buffer += data
        if len(self._buffer) >= _WRITE:
            self.flush()

    def flush(self) -> None:
        """Write what is held back. Raises `StoreFull`."""
        view = memoryview(self._buffer)
        try:
            while view:
                n = os.pwrite(self._fd, view, self._written)
                self._written += n
                view = view[n:]
        except OSError as error:
            raise full_or(error) from error
        finally:
            view.release()
            self._buffer = bytearray()

    def items(self, start: int = 0, end: int = -1) -> Iterator[Item]:
        """The items between two places, or all of them; several may read at a time."""
        at, end = start, self._written if end < 0 else end
        window, begin = b"", at
        while at < end:
            length = _HEAD.size
            here = at - begin
            if here + length <= len(window):
                key_size, number, data_size = _HEAD.unpack_from(window, here)
                length += key_size + data_size
                if here + length <= len(window):
                    middle = here + _HEAD.size + key_size
                    yield window[here + _HEAD.size : middle], number, window[middle : here + length]
                    at += length
                    continue
            begin = at
            window = os.pread(self._fd, min(max(_READ, length), end - at), at)
            if len(window) < length:
                raise StoreError(f"a sorted run ends {end - at - len(window)} bytes early")

    def close(self) -> None:
        """Forget all."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RunSorter:
    """Collects items, and gives them back by key, then by number; with `decreasing` the largest key first, and again by number."""

    def __init__(self, folder: Path, memory: int, *, decreasing: bool = False) -> None:
        self._folder = folder
        self._memory = memory
        self._decreasing = decreasing
        self._items: list[Item] = []
        self._held = 0
        self._largest = _READ
        self._runs: list[Run] = []

    @property
    def on_disk(self) -> int:
        """Bytes in files."""
        return sum(run.size for run in self._runs)

    def add(self, key: bytes, number: int, data: bytes) -> None:
        """Collect an item. Raises `StoreFull`."""
        self._items.append((key, -number if self._decreasing else number, data))
        self._held += len(key) + len(data) + _ITEM_COST
        self._largest = max(self._largest, len(key) + len(data))
        if self._held > self._memory:
            self._spill()

    def sorted(self) -> Iterator[Item]:
        """All items in order; none is added afterwards."""
        self._items.sort(reverse=self._decreasing)
        for key, number, data in self._merged([*(run.items() for run in self._runs), iter(self._items)]):
            yield key, -number if self._decreasing else number, data

    def _merged(self, sources: list[Iterator[Item]]) -> Iterable[Item]:
        return sources[0] if len(sources) == 1 else heapq.merge(*sources, reverse=self._decreasing)

    def _spill(self) -> None:
        items, self._items, self._held = self._items, [], 0
        items.sort(reverse=self._decreasing)
        self._write(items)
        del items
        # While runs are merged, one item of each is in memory, or many small ones.
        most = max(self._memory, _RUNS_MAX * _READ) // self._largest
        if len(self._runs) >= max(_RUNS_MIN, min(most, _RUNS_MAX)):
            old, self._runs = self._runs, []
            try:
                self._write(self._merged([run.items() for run in old]))
            finally:
                for run in old:
                    run.close()

    def _write(self, items: Iterable[Item]) -> None:
        run = Run(self._folder)
        self._runs.append(run)
        for item in items:
            run.append(item)
        run.flush()

    def close(self) -> None:
        """Forget all."""
        for run in self._runs:
            run.close()
        self._runs, self._items = [], []
