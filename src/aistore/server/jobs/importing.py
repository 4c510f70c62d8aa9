"""Files of this machine that become content without a second copy, where the file system can.

A reflink shares blocks until somebody writes, so the object stays what it is whatever becomes of the file. A hard link is the file: whoever
writes to it in place changes content that is taken to be immutable, and so it is made only when that is asked for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from typing import TYPE_CHECKING, Final

from aistore.server.jobs.promote_root import open_regular
from aistore.server.store.content import full_or, in_thread
from aistore.server.store.room import make_room
from aistore.server.store.schema import INLINE_MAX
from aistore.wire.checksum import digest

if TYPE_CHECKING:
    from aistore.server.store.content import Upload
    from aistore.server.store.store import Store

__all__ = ["take_in"]

_FICLONE: Final = 0x40049409  # Linux, linux/fs.h
_CANNOT: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.EACCES}
)
_PIECE: Final = 1 << 20


async def take_in(store: Store, path: str, kind: str, *, link: bool) -> tuple[bytes | Upload, str, str]:
    """Content of a file, its checksum of type `kind`, and how it came: `inline`, `reflink`, `link` or `copy`.

    Raises `OSError`, `StoreFull`.
    """
    fd, status = await in_thread(open_regular, path)
    try:
        size = status.st_size
        if size <= INLINE_MAX:
            data = await in_thread(os.pread, fd, INLINE_MAX + 1, 0)
            if len(data) <= INLINE_MAX:
                await make_room(store, len(data), in_catalog=True)
                return data, digest(kind, data), "inline"
        await make_room(store, 0, held=size)
        upload = await store.content.create(0)
        try:
            how = await in_thread(_share, path, fd, upload, link)
            if not how:
                await make_room(store, size)
                upload.reserve(size)
                how = "copy"
            return upload, await in_thread(_finish, path, fd, upload, kind, how), how
        except BaseException:
            upload.abandon()
            raise
    finally:
        os.close(fd)


def _share(path: str, fd: int, upload: Upload, link: bool) -> str:
    """Let the content file have the bytes of the file; how, empty if the file system cannot."""
    if sys.platform == "linux":
        try:
            fcntl.ioctl(upload.fd, _FICLONE, fd)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise full_or(error) from error
        else:
            return "reflink"
    return "link" if link and _linked(path, fd, upload) else ""


def _linked(path: str, fd: int, upload: Upload) -> bool:
    upload.path.unlink()
    try:
        os.link(path, upload.path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise full_or(error) from error
        _reopen(upload, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        return False
    _reopen(upload, os.O_RDONLY | os.O_NOFOLLOW)
    # The path may name another file by now than the one that is open.
    if not os.path.samestat(os.fstat(upload.fd), os.fstat(fd)):
        raise OSError(f"{path} was replaced while it was imported")
    return True


def _reopen(upload: Upload, flags: int) -> None:
    new = os.open(upload.path, flags | os.O_CLOEXEC, 0o600)
    os.close(upload.fd)
    upload.fd = new


def _finish(path: str, fd: int, upload: Upload, kind: str, how: str) -> str:
    """Complete the content file; its checksum. Raises `OSError` for a file that changes meanwhile."""
    before = os.fstat(fd)
    if how == "copy":
        offset = 0
        while piece := os.pread(fd, _PIECE, offset):
            upload.write(piece)
            offset += len(piece)
    upload.size = os.fstat(upload.fd).st_size
    checksum = upload.checksum(kind)
    after = os.fstat(fd)
    # What is cloned is what it was at one moment.
    if how != "reflink" and (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise OSError(f"{path} changed while it was imported")
    upload.finish()
    return checksum
