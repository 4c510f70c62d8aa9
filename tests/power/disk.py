"""An ext4 file system on a disk whose writes are recorded, and what a power cut at any moment would have left of it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from power.recorder import ENTRY, FILE, FLUSH

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 4096
"""Bytes that a disk writes as a whole."""
_FORMAT = ("mkfs.ext4", "-q", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0")
# Without the help that ext4 gives to programs that forget to flush what they rename.
_MOUNT = ("mount", "-o", "noauto_da_alloc")

Cache: TypeAlias = Literal["lost", "kept", "partly"]
"""What becomes of what was in the disk's cache: a disk may have written any part of it, in any order."""


class Written(NamedTuple):
    """An entry of the record."""

    time: int
    offset: int
    length: int
    at: int
    """Where in the record the data lie."""


class Disk(NamedTuple):
    """A mounted file system that is recorded."""

    folder: Path
    """Where it is mounted."""
    record: Path
    base: Path
    """The image as it was before."""


class NoDisk(Exception):
    """This system does not let us make a disk; the message says why."""


def _run(*command: str | Path) -> str:
    """What a command prints. Raises `NoDisk`."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoDisk(f"{command[0]} cannot do this here: {done.stderr.strip()}")
    return done.stdout.strip()


def check_system() -> None:
    """Raise `NoDisk` where there can be none."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NoDisk("only root on Linux may make a block device")
    if not Path("/dev/fuse").exists():
        raise NoDisk("there is no FUSE here")
    for program in ("mkfs.ext4", "losetup", "mount", "umount", "e2fsck", "unshare"):
        if shutil.which(program) is None:
            raise NoDisk(f"there is no {program} here")
    _run("unshare", "--mount", "true")


@contextmanager
def _mounted(image: Path, folder: Path, *options: str) -> Iterator[None]:
    device = _run("losetup", "-f", "--show", *options, image)
    folder.mkdir(exist_ok=True)
    try:
        _run(*_MOUNT, device, folder)
    finally:
        _run("losetup", "-d", device)  # it goes when it is unmounted
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def recorded_disk(folder: Path, mebibytes: int) -> Iterator[Disk]:
    """A new, empty file system. Raises `NoDisk`."""
    folder.mkdir()
    image, base, front = folder / "image", folder / "base", folder / "front"
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    _run(*_FORMAT, image)
    copy_sparse(image, base)
    front.mkdir()
    command = [sys.executable, Path(__file__).with_name("recorder.py"), image, folder / "record", front]
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as recorder:
        assert recorder.stdin is not None
        assert recorder.stdout is not None
        try:
            said = recorder.stdout.readline().strip()
            if said != "ready":
                raise NoDisk(f"a file system of our own: {said}")
            with _mounted(front / FILE, folder / "mounted", "--direct-io=on"):
                yield Disk(folder / "mounted", folder / "record", base)
        finally:
            recorder.stdin.close()


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file with its holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def read_record(record: Path) -> list[Written]:
    """All entries."""
    found = []
    at, size = 0, record.stat().st_size
    with record.open("rb") as file:
        while at + ENTRY.size <= size:
            file.seek(at)
            time, offset, length = ENTRY.unpack(file.read(ENTRY.size))
            at += ENTRY.size
            found.append(Written(time, offset, length, at))
            at += length
    return found


class PowerCuts:
    """Images of the disk as cuts at later and later moments leave it."""

    def __init__(self, disk: Disk, folder: Path, seed: int) -> None:
        self._record = disk.record
        self.entries = read_record(disk.record)
        self._durable = folder / "durable"
        copy_sparse(disk.base, self._durable)
        self._applied = 0
        self._random = random.Random(seed)

    def moments(self, began: int, ended: int, count: int) -> list[int]:
        """Moments in their order: some at random, and some just before the disk is told to empty a cache that holds something."""
        flushes = [i for i, entry in enumerate(self.entries) if entry.offset == FLUSH and began < entry.time < ended]
        full = [self.entries[i].time for i, before in zip(flushes[1:], flushes, strict=False) if i - before > 2]
        random_ones = [self._random.randrange(began, ended) for _ in range(count)]
        chosen = [self._random.choice(full) if full and i % 2 else one for i, one in enumerate(random_ones)]
        return sorted(chosen)

    def image(self, moment: int, cache: Cache, target: Path) -> int:
        """Make the image of a cut at this time (monotonic clock, nanoseconds); how many writes were in the cache."""
        behind = next((i for i, entry in enumerate(self.entries) if entry.time >= moment), len(self.entries))
        flushed = next((i for i in range(behind - 1, -1, -1) if self.entries[i].offset == FLUSH), -1) + 1
        assert flushed >= self._applied, "cuts have to come in their order"
        self._apply(self._durable, self._applied, flushed, "kept")
        self._applied = flushed
        copy_sparse(self._durable, target)
        self._apply(target, flushed, behind, cache)
        return behind - flushed

    def _apply(self, image: Path, first: int, behind: int, cache: Cache) -> None:
        if cache == "lost":
            return
        with image.open("r+b") as file, self._record.open("rb") as record:
            for entry in self.entries[first:behind]:
                if entry.offset == FLUSH:
                    continue
                for done in range(0, entry.length, _PIECE if cache == "partly" else entry.length):
                    if cache == "partly" and self._random.random() < 0.5:
                        continue
                    record.seek(entry.at + done)
                    data = record.read(min(_PIECE, entry.length - done) if cache == "partly" else entry.length)
                    file.seek(entry.offset + done)
                    file.write(data)


@contextmanager
def _unless_no_disk() -> Iterator[None]:
    try:
        yield
    except NoDisk as error:
        raise AssertionError(f"the disk that was cut off is no disk any more: {error}") from error


@contextmanager
def after_cut(image: Path, folder: Path) -> Iterator[Path]:
    """The file system of an image after its journal was replayed, as a start of the machine does it; it has to be sound then."""
    # That worked for an empty one, so that it has to work now.
    with _unless_no_disk(), _mounted(image, folder):
        pass
    checked = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"the disk that was cut off is no disk any more:\n{checked.stdout}{checked.stderr}"
    with _mounted(image, folder):
        yield folder
