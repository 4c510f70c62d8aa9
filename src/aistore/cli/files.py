"""`ais sync`, `ais put -r` and `ais get -r`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from aistore.cli.objects import connect, split_place
from aistore.cli.words import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from aistore.sdk import Bucket
    from aistore.sdk.transfer import Moved, TransferSummary

__all__ = ["get_folder", "put_folder", "sync"]


def sync(asked: argparse.Namespace) -> int:
    """Make one place like another."""
    ends = [_is_bucket(asked.source), _is_bucket(asked.destination)]
    if not any(ends):
        raise ValueError(
            f"neither {asked.source!r} nor {asked.destination!r} is a bucket; write ais://BUCKET or ais://BUCKET/PREFIX"
        )
    source: str | Bucket | None = None
    to: str | Bucket | None = None
    other_prefix = ""
    if ends[1]:
        bucket, prefix = _bucket_of(asked, asked.destination, asked.to_endpoint)
        source = asked.source
        if ends[0]:
            source, other_prefix = _bucket_of(asked, asked.source, asked.from_endpoint)
    else:
        bucket, prefix = _bucket_of(asked, asked.source, asked.from_endpoint)
        to = asked.destination
    return _tell(
        asked,
        lambda: bucket.sync(
            source=source,
            to=to,
            prefix=prefix,
            other_prefix=other_prefix,
            pattern=asked.pattern,
            delete=asked.delete,
            dry_run=asked.dry_run,
            workers=asked.workers,
            on_each=_showing(asked),
        ),
    )


def put_folder(asked: argparse.Namespace) -> int:
    """Store the files of a folder, at any depth."""
    bucket, prefix = _bucket_of(asked, asked.object)
    return _tell(asked, lambda: bucket.sync(source=asked.file, prefix=prefix, on_each=_showing(asked)))


def get_folder(asked: argparse.Namespace) -> int:
    """Make files of all objects below a prefix."""
    bucket, prefix = _bucket_of(asked, asked.object)
    if prefix and not bucket.list_objects(prefix=prefix, page_size=1).entries:
        raise ValueError(f"no object of {bucket.ref} has a name that starts with {prefix!r}")
    return _tell(asked, lambda: bucket.get_files(asked.file or os.curdir, prefix, on_each=_showing(asked)))


def _is_bucket(place: str) -> bool:
    """Whether a place of `sync` is a bucket: its provider tells it from a folder."""
    return "://" in place


def _bucket_of(asked: argparse.Namespace, place: str, endpoint: str | None = None) -> tuple[Bucket, str]:
    """Bucket and prefix; a prefix is a folder here, so it ends in a slash."""
    bucket, name = split_place(connect(asked, endpoint), place)
    return bucket, f"{name}/" if name and not name.endswith("/") else name


def _showing(asked: argparse.Namespace) -> Callable[[Moved], None]:
    """Tells what fails, and with -v or in a dry run what is done."""
    verbose = _shows_all(asked)

    def show(each: Moved) -> None:
        if each.action == "failed":
            print(f"ais: {_shown(each.name)}: {_shown(each.reason)}", file=sys.stderr)
        elif verbose and each.action != "unchanged":
            print(f"{each.action} {_shown(each.name)}" + (f" ({each.reason})" if each.reason else ""))

    return show


def _shows_all(asked: argparse.Namespace) -> bool:
    return bool(asked.verbose or getattr(asked, "dry_run", False))


def _shown(text: str) -> str:
    """A name without what a terminal would take for commands."""
    return text if text.isprintable() else repr(text)[1:-1]


def _tell(asked: argparse.Namespace, work: Callable[[], TransferSummary]) -> int:
    """Do it, and tell how it went. Exit status 1 if something failed."""
    try:
        summary = work()
    except KeyboardInterrupt as error:
        summary = getattr(error, "summary", None) or _nothing()
        print(f"ais: interrupted: {_line(summary)}", file=sys.stderr)
        raise
    print(("would be: " if summary.dry_run else "") + _line(summary))
    if summary.left_out and not _shows_all(asked):
        first = summary.left_out[0]
        count = (
            f"{len(summary.left_out):,} of what was skipped was left out, such as"
            if len(summary.left_out) > 1
            else "left out:"
        )
        print(f"ais: {count} {_shown(first.name)}: {_shown(first.reason)}; -v tells all", file=sys.stderr)
    return 1 if summary.failed else 0


def _nothing() -> TransferSummary:
    from aistore.sdk.transfer import TransferSummary

    return TransferSummary()


def _line(summary: TransferSummary) -> str:
    return (
        f"{summary.moved:,} moved, {summary.skipped:,} skipped, {summary.deleted:,} deleted, {summary.failed:,} failed, "
        f"{counted(summary.bytes, 'byte')} in {summary.seconds:.1f} s"
    )
