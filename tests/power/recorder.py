"""A disk that remembers all that was written to it, and when: one file of a FUSE file system, served by a process of its own.

A loop device on that file passes on what a file system sends to a disk: writes, and the commands that have the disk empty its cache (as
fsync of the file). So the record is that of a disk with a volatile cache, which is what dm-log-writes gives where the kernel has it.

`python recorder.py IMAGE RECORD MOUNTPOINT`; says `ready`, and ends with its standard input. Linux, root.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import sys
import threading
import time
from typing import Final

ENTRY: Final = struct.Struct("<QQI")
"""Of a record: time (monotonic clock, nanoseconds), offset, length of the data that follow; an offset of `FLUSH` is no write."""
FLUSH: Final = (1 << 64) - 1
FILE: Final = "disk"

_MAX_WRITE: Final = 1 << 20
_IN: Final = struct.Struct("<IIQQIIIHH")
_OUT: Final = struct.Struct("<IiQ")
_ATTR: Final = struct.Struct("<QQQQQQIIIIIIIIII")
_FOREVER: Final = 1 << 30
_FILE_NODE: Final = 2
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC = (
    1,
    2,
    3,
    4,
    14,
    15,
    16,
    17,
    18,
    20,
)
_FLUSH, _INIT, _OPENDIR, _RELEASEDIR, _INTERRUPT, _DESTROY, _BATCH_FORGET = 25, 26, 27, 29, 36, 38, 42
_NO_ANSWER: Final = frozenset((_FORGET, _INTERRUPT, _BATCH_FORGET))
_NOTHING_TO_DO: Final = frozenset((_RELEASE, _FLUSH, _RELEASEDIR, _DESTROY))


class Recorder:
    """Answers the kernel."""

    def __init__(self, device: int, image: int, record: int) -> None:
        self._device = device
        self._image = image
        self._record = record
        self._size = os.fstat(image).st_size

    def serve(self) -> None:
        """Until the file system is unmounted."""
        while True:
            try:
                message = os.read(self._device, _MAX_WRITE + 8192)
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.ECONNABORTED, errno.EBADF):
                    return
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue
                raise
            _, opcode, unique, node, *_ = _IN.unpack_from(message)
            if opcode in _NO_ANSWER:
                continue
            try:
                answer, status = self._answer(opcode, node, memoryview(message)[_IN.size :]), 0
            except OSError as error:
                answer, status = b"", -(error.errno or errno.EIO)
            with contextlib.suppress(FileNotFoundError):  # nobody waits for it any more
                os.writev(self._device, [_OUT.pack(_OUT.size + len(answer), status, unique), answer])

    def _answer(self, opcode: int, node: int, body: memoryview) -> bytes:
        if opcode == _WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40 : 40 + size]
            os.pwrite(self._image, data, offset)
            self._note(offset, data)
            return struct.pack("<II", size, 0)
        if opcode == _FSYNC:
            self._note(FLUSH, memoryview(b""))
            return b""
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return os.pread(self._image, size, offset)
        if opcode == _INIT:
            major, minor, ahead, _ = struct.unpack_from("<IIII", body)
            # Version, read-ahead, flags (big writes), requests in the background, size of writes, granularity of times, pages.
            return struct.pack("<IIIIHHIIHHI28x", major, min(minor, 38), ahead, 1 << 5, 64, 48, _MAX_WRITE, 1, 0, 0, 0)
        if opcode in (_GETATTR, _SETATTR):
            return struct.pack("<QII", _FOREVER, 0, 0) + self._attributes(node)
        if opcode == _LOOKUP:
            if bytes(body).rstrip(b"\0") != FILE.encode():
                raise FileNotFoundError(errno.ENOENT, "")
            return struct.pack("<QQQQII", _FILE_NODE, 0, _FOREVER, _FOREVER, 0, 0) + self._attributes(_FILE_NODE)
        if opcode in (_OPEN, _OPENDIR):
            return struct.pack("<QII", 0, 1 if opcode == _OPEN else 0, 0)  # direct: nothing is cached before it is here
        if opcode == _STATFS:
            return struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 19, 1 << 19, 8, 4, 4096, 255, 4096, 0)
        if opcode in _NOTHING_TO_DO:
            return b""
        raise OSError(errno.ENOSYS, "")

    def _note(self, offset: int, data: memoryview) -> None:
        # The time is that before the kernel learns of the end: whoever was told of a write later saw its record made.
        os.writev(self._record, [ENTRY.pack(time.monotonic_ns(), offset, len(data)), data])

    def _attributes(self, node: int) -> bytes:
        mode, size = (stat.S_IFDIR | 0o700, 0) if node == 1 else (stat.S_IFREG | 0o600, self._size)
        return _ATTR.pack(node, size, size >> 9, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def main(image: str, record: str, mountpoint: str) -> int:
    """Serve until the standard input ends."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"recorder", mountpoint.encode(), b"fuse.recorder", 0, options.encode()):
        number = ctypes.get_errno()
        print(f"cannot mount: {os.strerror(number)}", flush=True)
        return 1
    recorder = Recorder(
        device,
        os.open(image, os.O_RDWR | os.O_CLOEXEC),
        os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC),
    )
    serving = threading.Thread(target=recorder.serve, daemon=True)
    serving.start()
    print("ready", flush=True)
    sys.stdin.read()
    libc.umount2(mountpoint.encode(), 2)  # lazily: what still uses it gets errors
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
