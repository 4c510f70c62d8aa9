"""What the system tells about its memory and, on Linux, about the processes of a transformer."""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Usage", "memory_of_machine", "open_to_others", "usage"]

_LISTEN: Final = "0A"
_PROC: Final = Path("/proc")
# What a container may have, by the second and the first version of control groups.
_GROUPS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Usage(NamedTuple):
    """What processes take together: seconds of CPU, bytes of memory."""

    cpu: float
    memory: int


def memory_of_machine() -> int:
    """Bytes of memory of this machine, or of the container that this is; 0 where nobody tells."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    for path in _GROUPS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # else "max"
            memory = min(memory, int(text))
    return memory


def usage(keeper: int) -> Usage | None:
    """What the descendants of a process take; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found = [fields for fields in map(_stat, _descendants(keeper)) if fields]
    cpu = sum(int(fields[11]) + int(fields[12]) for fields in found) / ticks
    return Usage(cpu, sum(int(fields[21]) for fields in found) * page)


def open_to_others(keeper: int) -> str | None:
    """An address beyond loopback at which a descendant of a process listens, `0.0.0.0:8000`; None if there is none."""
    if sys.platform != "linux":
        return None
    inodes = {inode for pid in _descendants(keeper) for inode in _sockets(pid)}
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            lines = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                # Words of four bytes, each in the machine's order.
                raw = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
                shown = socket.inet_ntop(family, raw)
                if not shown.removeprefix("::ffff:").startswith("127.") and shown != "::1":
                    return f"{shown}:{int(port, 16)}"
    return None


def _descendants(pid: int) -> set[int]:
    names = [entry for entry in os.listdir(_PROC) if entry.isdigit()]  # noqa: PTH208 (names only)
    parents = {name: fields[1] for name in names if (fields := _stat(int(name)))}
    ours = {str(pid)}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return {int(one) for one in ours} - {pid}


def _stat(pid: int) -> list[str]:
    """Fields behind the command of `/proc/PID/stat`, empty for a process that is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def _sockets(pid: int) -> list[str]:
    """Inodes of the sockets of a process."""
    folder = _PROC / str(pid) / "fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 (many of them)
    except OSError:
        return []
    links = []
    for name in names:
        # The connection that asked whether it is ready is being closed meanwhile: the others count all the same.
        with suppress(OSError):
            links.append(os.readlink(folder / name))  # noqa: PTH115 (as above)
    return [link[8:-1] for link in links if link.startswith("socket:[")]
