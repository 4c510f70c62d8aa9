"""Local files into objects."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aistore.calls.file_uploads import upload
from aistore.calls.steps import local
from aistore.calls.transfers import BATCH, Transfer
from aistore.calls.uploads import store
from aistore.sdk._paths import files_of, validate_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.file_uploads import Together
    from aistore.calls.steps import Answer, Steps

__all__ = ["PutFiles", "put_file"]

_log = logging.getLogger("aistore.sdk.bucket.put_files")
# Windows knows only the second one, the others only the first.
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def put_file(
    path: str, query: str, source: str | PathLike[str], custom_metadata: Mapping[str, str] | None = None
) -> Steps[Answer]:
    """Store a local file as the object at `path`; raises ValueError if it is none."""
    file = Path(source)
    with ExitStack() as opened:
        yield from local(validate_file, file)
        content = yield from local(lambda: opened.enter_context(file.open("rb")))
        return (yield from store(path, query, content, custom_metadata))


class _File(NamedTuple):
    path: str
    name: str


class PutFiles(Transfer[_File]):
    """Stores the files of a folder as objects, as `Bucket.put_files` says; the first failure ends it."""

    title = "put_files"

    def __init__(
        self,
        ref: BucketRef,
        together: Together,
        folder: str | Path,
        prefix_filter: str,
        pattern: str,
        basename: bool,
        prepend: str,
        recursive: bool,
        dry_run: bool,
        verbose: bool,
    ) -> None:
        super().__init__(dry_run, None)
        self.names: list[str] = []
        """Names of the objects, in the order in which the files were found."""
        self._ref = ref
        self._together = together
        self._folder = folder
        self._verbose = verbose and _log.isEnabledFor(logging.INFO)
        self._found: Iterator[tuple[str, str]] = files_of(folder, prefix_filter, pattern, basename, prepend, recursive)
        self._basename = basename

    def plan(self) -> Steps[list[_File]]:
        return (yield from local(self._take))

    def _take(self) -> list[_File]:
        if self._basename:
            # Of files of the same name the last one is what stays.
            self._basename = False
            last = {}
            for path, name in self._found:
                self.names.append(name)
                last[name] = path
            self._found = iter([(path, name) for name, path in last.items()])
            return self._batch()
        found = self._batch()
        self.names += [one.name for one in found]
        return found

    def _batch(self) -> list[_File]:
        return [_File(*found) for found in islice(self._found, BATCH)]

    def act(self, item: _File) -> Steps[None]:
        if self.dry_run:
            how, size = "put", (yield from local(os.stat, item.path)).st_size
        else:
            path, query = self._ref.object_path(item.name), self._ref.query
            how, size = yield from upload(path, query, lambda: _open(item.path), self.halt, self._together)
        self.tally.moved(item.name, size, how)
        if self._verbose:
            done = "would be uploaded" if self.dry_run else "uploaded"
            _log.info("File '%s' %s as object '%s', %d bytes", item.path, done, item.name, size)

    def failed(self, item: _File, error: Exception) -> None:
        self.tally.failed(item.name, str(error))
        raise error

    def finished(self) -> list[str]:
        """The names of the objects, once all is done."""
        if self._verbose:
            done = "would go" if self.dry_run else "uploaded"
            _log.info("%d files of %s %s to bucket %s", len(self.names), self._folder, done, self._ref)
        return self.names


def _open(path: str) -> tuple[int, os.stat_result]:
    fd = os.open(path, _READ)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise ValueError(f"Path: {path} is not a file")
    return fd, status
