"""Sums of pieces: what content was, piece by piece, so that a part of it can be compared without reading the rest.

Sums are made of bytes that go by in order, while a content file is written or read for its checksum, and are kept in the catalog in the
commit that makes the file content. Pages of sums are read when a part of what they tell of is looked at for the first time, when it comes
from the disk, when its file was written to since, and when an hour has gone by: what is held in memory of a page is only which of its
pieces were good.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import xxhash

from aistore.server.store.page_cache import RWF_NOWAIT, is_quick

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from aistore.server.store.catalog import Transaction

__all__ = [
    "PIECE",
    "VALID",
    "PieceSums",
    "Pieces",
    "compare_sums",
    "drop_sums",
    "keep_sums",
    "summed_contents",
    "wrong_piece",
]

PIECE: Final = 256 * 1024
"""Bytes that one sum is of; the last piece may be shorter."""
VALID: Final = 3600.0
"""Seconds after which content is compared once more."""

_SUM: Final = 8  # bytes of a sum: XXH3, 64 bits
_OF_A_PAGE: Final = 1024  # pieces whose sums are in one row: 256 MiB of content
_PAGE_BITS: Final = 20  # of a row's number; the rest is that of the content
_NOTES_MAX: Final = 65_536  # pages of which something is noted: some 14 MiB, or twice that if all are of large content
_AHEAD: Final = 16 << 20  # bytes behind a part that a system may read with it


class PieceSums:
    """The sums of content that goes by in order, in whatever amounts (blocking: in threads for much of it)."""

    __slots__ = ("_begun", "_sums", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes so far."""
        self._sums = bytearray()
        self._begun = xxhash.xxh3_64()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add what comes next."""
        view = memoryview(data)
        at, end = 0, len(view)
        begun = self.size % PIECE
        self.size += end
        if begun:
            at = min(PIECE - begun, end)
            self._begun.update(view[:at])
            if begun + at < PIECE:
                return
            self._sums += self._begun.digest()
            self._begun.reset()
        while end - at >= PIECE:
            self._sums += xxhash.xxh3_64_digest(view[at : at + PIECE])
            at += PIECE
        if at < end:
            self._begun.update(view[at:])

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """Number and sums of each page; the content is at its end."""
        whole = bytes(self._sums) + (self._begun.digest() if self.size % PIECE else b"")
        step = _OF_A_PAGE * _SUM
        for page in range(-(-len(whole) // step)):
            yield page, whole[page * step : (page + 1) * step]


def keep_sums(tx: Transaction, content: int, sums: PieceSums | None, size: int) -> None:
    """Keep the sums of a content file of `size` bytes; those that are not of all of it are none."""
    if sums is not None and sums.size == size:
        rows = [(content << _PAGE_BITS | page, data) for page, data in sums.pages()]
        tx.executemany("INSERT OR REPLACE INTO sums VALUES (?, ?)", rows)


def drop_sums(tx: Transaction, content: int) -> None:
    """The content is gone."""
    tx.execute("DELETE FROM sums WHERE id BETWEEN ? AND ?", (content << _PAGE_BITS, ((content + 1) << _PAGE_BITS) - 1))


def summed_contents(db: sqlite3.Connection) -> Iterator[int]:
    """The numbers of content that has sums, in order."""
    key = -1
    while True:
        (key,) = db.execute("SELECT min(id) FROM sums WHERE id > ?", (key,)).fetchone()
        if key is None:
            return
        content = key >> _PAGE_BITS
        yield content
        key = ((content + 1) << _PAGE_BITS) - 1


def compare_sums(db: sqlite3.Connection, content: int, sums: PieceSums) -> str | None:
    """What differs between the sums that are kept and those of what is there now: empty if nothing, None if none are kept."""
    kept = False
    for page, computed in sums.pages():
        row = db.execute("SELECT sums FROM sums WHERE id = ?", (content << _PAGE_BITS | page,)).fetchone()
        if row is None:
            continue
        kept = True
        if row[0] != computed:
            for at in range(0, len(computed), _SUM):
                if row[0][at : at + _SUM] != computed[at : at + _SUM]:
                    start = (page * _OF_A_PAGE + at // _SUM) * PIECE
                    return _difference(
                        start, min(PIECE, sums.size - start), row[0][at : at + _SUM], computed[at : at + _SUM]
                    )
            return f"its sums are more than those of its {sums.size} bytes"
    return "" if kept else None


def wrong_piece(number: int, expected: bytes, piece: memoryview | bytes) -> str:
    """What is wrong with a piece; empty if nothing is."""
    computed = xxhash.xxh3_64_digest(piece)
    if computed == expected:
        return ""
    return _difference(number * PIECE, len(piece), expected, computed)


def _difference(start: int, length: int, expected: bytes, computed: bytes) -> str:
    return f"bytes {start}-{start + length - 1}: xxh3({expected.hex()} != {computed.hex()})"


class _Note:
    """Which pieces of a page were good, and since when that is known of the first of them."""

    __slots__ = ("good", "since", "stamp")

    def __init__(self, stamp: int, since: float) -> None:
        self.good = 0
        self.stamp = stamp
        self.since = since


class Pieces:
    """What is known of content files, by pieces, and compares those with their sums. `read` gives a row of the table `sums` (in whatever thread)."""

    def __init__(self, read: Callable[[int], bytes | None]) -> None:
        self._read = read
        self._notes: OrderedDict[int, _Note] = OrderedDict()  # by number of the row; the oldest go first
        self._lock = threading.Lock()

    def known(self, content: int, stamp: int, offset: int, length: int) -> bool:
        """Whether nothing has to be compared of a part of content whose file was last written to at `stamp` (nanoseconds)."""
        first, last = offset // PIECE, (offset + length - 1) // PIECE
        page = first // _OF_A_PAGE
        if page == last // _OF_A_PAGE and length:  # as nearly always: this is a good part of what a small read costs
            mask = ((2 << last - first) - 1) << first % _OF_A_PAGE
            note = self._notes.get(content << _PAGE_BITS | page)
            return (
                note is not None
                and note.good & mask == mask
                and note.stamp == stamp
                and time.monotonic() - note.since <= VALID
            )
        for page, mask in _touched(offset, length):
            if self._good(content << _PAGE_BITS | page, stamp) & mask != mask:
                return False
        return True

    def has(self, content: int) -> bool:
        """Whether content has sums."""
        return self._read(content << _PAGE_BITS) is not None

    def note(self, content: int, size: int, stamp: int) -> None:
        """All of the content is good now."""
        for page, mask in _touched(0, size):
            self._note(content << _PAGE_BITS | page, stamp, mask, anew=True)

    def forget(self, content: int, offset: int, length: int) -> None:
        """A part of a content file comes from the disk, and what lies behind it with it: systems read ahead."""
        for page, mask in _touched(offset, length + _AHEAD):
            note = self._notes.get(content << _PAGE_BITS | page)
            if note is not None:
                with self._lock:
                    note.good &= ~mask

    def wrong(self, content: int, size: int, fd: int, offset: int, length: int, *, wait: bool = True) -> str:
        """Compare what is not known of a part of a content file (blocking); what is wrong, empty if nothing is.

        Raises `OSError`; without `wait` that is `BlockingIOError` where the disk has to be waited for.
        """
        status = os.fstat(fd)
        if status.st_size != size:
            return f"its file has {status.st_size} bytes, not {size}"
        stamp, buffer = status.st_mtime_ns, memoryview(bytearray(min(PIECE, size)))
        for page, mask in _touched(offset, length):
            key, sums = content << _PAGE_BITS | page, None
            # What is read ahead is no longer known.
            while mask := mask & ~self._good(key, stamp):
                if sums is None and (sums := self._read(key)) is None:
                    break
                left = mask & -mask
                number = left.bit_length() - 1
                start = (page * _OF_A_PAGE + number) * PIECE
                piece = buffer[: min(PIECE, size - start)]
                done = self._fill(content, fd, start, piece, wait=wait)
                if done < len(piece):
                    return f"its file ends {size - start - done} bytes early"
                if wrong := wrong_piece(start // PIECE, sums[_SUM * number :][:_SUM], piece):
                    return wrong
                self._note(key, stamp, left)
        return ""

    def wrong_data(self, content: int, stamp: int, data: bytes | bytearray | memoryview) -> str:
        """Compare the whole content, which is in memory, and no more than a piece; what is wrong."""
        sums = self._read(content << _PAGE_BITS)
        if sums is None:
            return ""
        wrong = wrong_piece(0, sums[:_SUM], memoryview(data))
        if not wrong:
            self.note(content, len(data), stamp)
        return wrong

    def _fill(self, content: int, fd: int, start: int, piece: memoryview, *, wait: bool) -> int:
        """Read a piece; how much of it there is."""
        done, flags = 0, RWF_NOWAIT
        while done < len(piece):
            began = time.perf_counter_ns()
            try:
                n = os.preadv(fd, [piece[done:]], start + done, flags)
            except OSError as error:
                if not flags or not wait:
                    raise
                if isinstance(error, BlockingIOError):
                    self.forget(content, start, len(piece))
                flags = 0  # it is waited for; or a file system that cannot tell
                continue
            if flags and not is_quick(began, n):
                self.forget(content, start, len(piece))
            if not n:
                break
            done += n
        return done

    def _good(self, key: int, stamp: int) -> int:
        note = self._notes.get(key)
        return note.good if note is not None and note.stamp == stamp and time.monotonic() - note.since <= VALID else 0

    def _note(self, key: int, stamp: int, good: int, *, anew: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            note = self._notes.pop(key, None)
            if note is None or anew or note.stamp != stamp or now - note.since > VALID:
                note = _Note(stamp, now)
            note.good |= good
            self._notes[key] = note
            if len(self._notes) > _NOTES_MAX:
                self._notes.popitem(last=False)


def _touched(offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The pages that tell of a part of content, with a bit for each of its pieces."""
    if not length:
        return
    first, last = offset // PIECE, (offset + length - 1) // PIECE
    for page in range(first // _OF_A_PAGE, last // _OF_A_PAGE + 1):
        low = max(first - page * _OF_A_PAGE, 0)
        high = min(last - page * _OF_A_PAGE, _OF_A_PAGE - 1)
        yield page, (1 << high + 1) - (1 << low)
