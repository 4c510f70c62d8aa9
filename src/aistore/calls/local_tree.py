"""A folder as one end of a transfer: what it holds, and how files get into it.

Everything here may wait for a disk. Folders are opened one by one below the first, by descriptor and without following links, so nothing
that a bucket's names say, and no link that lies in the folder, leads out of it.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import os
import re
import stat
import threading
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from aistore.calls.steps import local
from aistore.calls.transfers import Entry, Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.calls.steps import Steps
    from aistore.calls.transfers import Halt

__all__ = ["LocalTree", "Partial", "check_below", "name_filter"]

_PART = re.compile(r"\.ais-[0-9a-f]{16}\.part")
_STALE_SECONDS = 60.0  # an unfinished file is locked a moment after it is made
_TAKEN = 512
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS)
_PIECE = 1 << 20
_TRIES = 5


def check_below(name: str) -> None:
    """Raise `Failed` unless a name is a path that stays below a folder."""
    if "\0" in name:
        raise Failed("the name has a NUL, which no file's may have")
    if name.startswith("/"):
        raise Failed("the name is an absolute path")
    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise Failed(f"the name has {part!r} as a part of its path")


def name_filter(pattern: str) -> Callable[[str], object] | None:
    """Whether the last part of a name matches a pattern of the shell; None where all do."""
    return None if pattern == "*" else re.compile(fnmatch.translate(pattern)).match


class LocalTree:
    """A folder, and all that lies at any depth in it."""

    def __init__(self, root: str | os.PathLike[str], halt: Halt, *, dry_run: bool = False) -> None:
        self.root = os.path.abspath(os.fspath(root))  # noqa: PTH100 (what stands in front of names is a text)
        self.halt = halt
        self._dry_run = dry_run
        self._fd = -1
        self._partials: set[Partial] = set()

    def open(self, *, create: bool) -> None:
        """Open the folder, which may be made. Raises ValueError if it is none."""
        from aistore.sdk._paths import validate_directory

        if create:
            os.makedirs(self.root, exist_ok=True)  # noqa: PTH103 (as above)
        validate_directory(self.root)
        self._fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def exists(self) -> bool:
        """Whether there is something of its name."""
        return os.path.lexists(self.root)

    def close(self) -> None:
        """Let go of the folder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- what it holds --

    def cursor(self, pattern: str) -> _TreeCursor:
        """Files whose names match the pattern, and what is left out."""
        return _TreeCursor(self._walk(), name_filter(pattern))

    def _walk(self) -> Iterator[Entry]:
        """All that is no folder, in the order of the names' characters, which is that of the bytes of UTF-8 and so of listings."""
        stack = [self._listed("")]
        while stack:
            self.halt.check()
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif entry.name.endswith("/") and not entry.unknown:
                stack.append(self._listed(entry.name))
            else:
                yield entry

    def _listed(self, folder: str) -> Iterator[Entry]:
        try:
            with os.scandir(f"{self.root}/{folder}") as found:
                # Names only, which is all that is held of a folder at a time: a folder sorts as if its slash were a part of its name.
                names = sorted(one.name + ("/" if one.is_dir(follow_symlinks=False) else "") for one in found)
        except OSError as error:
            yield Entry(folder, problem=f"the folder cannot be read: {error.strerror}", unknown=True)
            return
        for name in names:
            if name.endswith("/"):
                yield Entry(folder + name)
            elif not (_PART.fullmatch(name) and self._is_leftover(folder + name)):
                yield self._entry(folder + name)

    def _entry(self, name: str) -> Entry:
        try:
            status = os.lstat(f"{self.root}/{name}")
        except OSError as error:
            return Entry(name, problem=f"cannot be looked at: {error.strerror}")
        if stat.S_ISLNK(status.st_mode):
            return Entry(name, problem="a symbolic link")
        if not stat.S_ISREG(status.st_mode):
            return Entry(name, problem="neither a file nor a folder")
        try:
            name.encode()
        except UnicodeEncodeError:
            return Entry(name, problem="the name is not UTF-8")
        return Entry(name, status.st_size)

    def _is_leftover(self, name: str) -> bool:
        """Whether a name of ours is a file in the making; one that was left behind by a process that was killed is removed."""
        path = f"{self.root}/{name}"
        with suppress(OSError):
            fd = os.open(path, _READ)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._dry_run and time.time() - os.fstat(fd).st_mtime > _STALE_SECONDS:
                    os.unlink(path)  # noqa: PTH108 (as above)
            finally:
                os.close(fd)
        return True

    # -- reading --

    def digest(self, name: str, kind: str) -> str | None:
        """Checksum of a file; None for a type that is unknown here."""
        from aistore.calls.integrity import running_hasher

        hasher = running_hasher(kind)
        if hasher is None:
            return None
        fd, _ = self.open_file(name)
        try:
            while piece := os.read(fd, _PIECE):
                self.halt.check()
                hasher.update(piece)
        finally:
            os.close(fd)
        return hasher.hexdigest()

    def open_file(self, name: str) -> tuple[int, os.stat_result]:
        """A descriptor of a file for reading. Raises `OSError`, `Failed` if it is no file now."""
        parent, last = self._parent(name, create=False)
        try:
            fd = os.open(last, _READ, dir_fd=parent)
        except OSError as error:
            raise Failed(f"cannot be read: {error.strerror}") from error
        finally:
            os.close(parent)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise Failed("no file any more")
        return fd, status

    # -- writing --

    def file(self, name: str, *, replaces: bool) -> Partial:
        """A file in the making; `replaces` says that one of this name was there when the folder was looked through."""
        check_below(name)
        return Partial(self, name, replaces)

    def write(self, name: str, content: bytes, *, replaces: bool) -> None:
        """Make a file of this content."""
        partial = self.file(name, replaces=replaces)
        try:
            partial.open()
            partial.write(memoryview(content))
            partial.finish()
        except BaseException:
            partial.abandon()
            raise

    def remove(self, name: str) -> None:
        """Remove a file, and the folders that it leaves empty."""
        parent, last = self._parent(name, create=False)
        try:
            if not stat.S_ISREG(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode):
                raise Failed("no file any more")
            os.unlink(last, dir_fd=parent)
        except FileNotFoundError:
            return
        finally:
            os.close(parent)
        above = name.rpartition("/")[0]
        with suppress(OSError):
            while above:
                folder, last = self._parent(above, create=False)
                try:
                    os.rmdir(last, dir_fd=folder)
                finally:
                    os.close(folder)
                above = above.rpartition("/")[0]

    def abandon(self) -> None:
        """Remove all files in the making; none of them is finished from now on."""
        for partial in list(self._partials):
            partial.disown()

    def _parent(self, name: str, *, create: bool) -> tuple[int, str]:
        """A descriptor of the folder that `name` lies in, and its last part."""
        *folders, last = name.split("/")
        fd = os.dup(self._fd)
        try:
            for depth, folder in enumerate(folders):
                below = _open_folder(fd, folder, "/".join(folders[: depth + 1]), create=create)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd, last

    def __repr__(self) -> str:
        return f"<LocalTree {self.root}>"


def _open_folder(parent: int, name: str, path: str, *, create: bool) -> int:
    for _ in range(_TRIES):
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
                what = "a symbolic link, which is not followed" if stat.S_ISLNK(mode) else "a file, and no folder"
                raise Failed(f"{path!r} is {what}") from error
            raise
        with suppress(FileExistsError):  # another worker's, or removed by one: look again
            os.mkdir(name, dir_fd=parent)
    raise Failed(f"the folder {path!r} comes and goes")


class _TreeCursor:
    __slots__ = ("_entries", "_matches")

    def __init__(self, entries: Iterator[Entry], matches: Callable[[str], object] | None) -> None:
        self._entries = entries
        self._matches = matches

    def more(self) -> Steps[list[Entry]]:
        return local(self._take)

    def _take(self) -> list[Entry]:
        matches = self._matches
        if matches is None:
            return list(islice(self._entries, _TAKEN))
        found: list[Entry] = []
        for entry in self._entries:
            if entry.unknown or matches(entry.name.rpartition("/")[2]):
                found.append(entry)
                if len(found) == _TAKEN:
                    break
        return found


class Partial:
    """A file in the making, beside the one that it becomes.

    It is locked, so that what a killed process left can be told from it. It is not synced: power loss may leave a file short, which the
    next transfer finds by its checksum.
    """

    __slots__ = ("_fd", "_last", "_lock", "_name", "_parent", "_replaces", "_temporary", "_tree")

    def __init__(self, tree: LocalTree, name: str, replaces: bool) -> None:
        self._tree = tree
        self._name = name
        self._replaces = replaces
        self._temporary = self._last = ""
        self._parent = self._fd = -1
        self._lock = threading.Lock()

    def open(self) -> None:
        for left in range(_TRIES - 1, -1, -1):
            self._parent, self._last = self._tree._parent(self._name, create=True)
            temporary = f".ais-{os.urandom(8).hex()}.part"
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(temporary, flags, 0o666, dir_fd=self._parent)
            except FileNotFoundError:  # a deletion emptied the folder, and removed it, a moment ago
                os.close(self._parent)
                self._parent = -1
                if not left:
                    raise
            else:
                break
        self._temporary = temporary
        self._tree._partials.add(self)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: memoryview) -> None:
        self._tree.halt.check()
        while data:
            data = data[os.write(self._fd, data) :]

    def finish(self) -> None:
        self._tree.halt.check()
        if self._replaces:
            self._replace()
        else:
            self._appear()
        self._release()

    def _replace(self) -> None:
        with suppress(FileNotFoundError):  # it went away meanwhile
            if not stat.S_ISREG(os.stat(self._last, dir_fd=self._parent, follow_symlinks=False).st_mode):
                raise Failed("what was a file became something else")
        self._rename()

    def _rename(self) -> None:
        os.rename(self._temporary, self._last, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        self._temporary = ""

    def _appear(self) -> None:
        """Take the name, unless something has it: of another case, or spelled otherwise, or come meanwhile."""
        taken = "a file or folder of this name is there already, perhaps in another case or spelling"
        try:
            os.link(
                self._temporary, self._last, src_dir_fd=self._parent, dst_dir_fd=self._parent, follow_symlinks=False
            )
        except FileExistsError as error:
            raise Failed(taken) from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with suppress(FileNotFoundError):
                os.stat(self._last, dir_fd=self._parent, follow_symlinks=False)
                raise Failed(taken) from error
            self._rename()

    def abandon(self) -> None:
        self._release()

    def disown(self) -> None:
        """Remove the file under whoever still writes to it, whose descriptors stay open."""
        with self._lock:
            self._unlink()

    def _release(self) -> None:
        """Close everything; the temporary name goes, whether the content has another one or not."""
        with self._lock:
            self._unlink()
            self._tree._partials.discard(self)
            for fd in (self._parent, self._fd):
                if fd >= 0:
                    os.close(fd)
            self._parent = self._fd = -1

    def _unlink(self) -> None:
        if self._temporary and self._parent >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._parent)
