"""Local files into objects."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from aistore.calls.steps import local
from aistore.calls.uploads import store
from aistore.sdk._paths import files_of, validate_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Answer, Steps

__all__ = ["put_file", "put_files"]

_log = logging.getLogger("aistore.sdk.bucket.put_files")


def put_file(
    path: str, query: str, source: str | PathLike[str], custom_metadata: Mapping[str, str] | None = None
) -> Steps[Answer]:
    """Store a local file as the object at `path`; raises ValueError if it is none."""
    file = Path(source)
    with ExitStack() as opened:
        yield from local(validate_file, file)
        content = yield from local(lambda: opened.enter_context(file.open("rb")))
        return (yield from store(path, query, content, custom_metadata))


def put_files(
    ref: BucketRef,
    folder: str | Path,
    prefix_filter: str,
    pattern: str,
    basename: bool,
    prepend: str,
    recursive: bool,
    dry_run: bool,
    verbose: bool,
) -> Steps[list[str]]:
    """Store the files of a folder as objects, as `Bucket.put_files` says; returns the names of the objects."""
    files = yield from local(lambda: list(files_of(folder, prefix_filter, pattern, basename, prepend, recursive)))
    stored = []
    for file, name in files:
        if not dry_run:
            yield from put_file(ref.object_path(name), ref.query, file)
        stored.append(name)
        if verbose:
            done = "would be uploaded" if dry_run else "uploaded"
            _log.info("File '%s' %s as object '%s', %d bytes", file, done, name, file.stat().st_size)
    if verbose:
        _log.info("%d files of %s %s to bucket %s", len(stored), folder, "would go" if dry_run else "uploaded", ref)
    return stored
