"""`ais create`, `ais ls`, `ais get` and `ais put`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aistore.cli.words import in_a_shell

if TYPE_CHECKING:
    import argparse

    from aistore.sdk import Bucket, Client
    from aistore.sdk.types import BucketModel


def connect(asked: argparse.Namespace, endpoint: str | None = None) -> Client:
    """The client that a command talks through, to an endpoint of its own or to that of the command."""
    from aistore.sdk import Client

    warn_once()
    return Client(
        endpoint or asked.endpoint or os.environ.get("AIS_ENDPOINT") or "local:",
        skip_verify=asked.skip_verify,
        ca_cert=asked.ca_cert,
    )


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return in_a_shell(super().format(record))


def warn_once() -> None:
    """Show the first repeat of a request, so that a command that waits says why; the last failure is told anyhow."""
    log = logging.getLogger("aistore.transport")
    if log.handlers:  # of the other end of a sync
        return
    warnings = logging.StreamHandler()
    warnings.setFormatter(_Formatter("ais: %(message)s"))
    untold = iter((True,))
    warnings.addFilter(lambda _: next(untold, False))
    log.addHandler(warnings)
    log.propagate = False


def split_place(client: Client, place: str) -> tuple[Bucket, str]:
    """The bucket, and the name or prefix in it, of `[PROVIDER://][@CLUSTER/]BUCKET[/NAME]`."""
    from aistore.sdk import Namespace

    provider, found, rest = place.partition("://") if "://" in place else ("", "", place)
    namespace = None
    if rest.startswith(("@", "#")):
        cluster, _, rest = rest.partition("/")
        uuid, _, inner = cluster.removeprefix("@").partition("#")
        namespace = Namespace(uuid=uuid, name=inner)
    bucket, _, name = rest.partition("/")
    if not bucket or (found and not provider):
        raise ValueError(
            f"{place!r} names no bucket; write BUCKET/NAME, ais://BUCKET/NAME or ais://@CLUSTER/BUCKET/NAME"
        )
    # `az` is how the server writes the provider; the SDK's own names are those of the official one.
    return client.bucket(bucket, provider={"": "ais", "az": "azure"}.get(provider, provider), namespace=namespace), name


def create(asked: argparse.Namespace) -> int:
    """Create a bucket."""
    bucket, name = split_place(connect(asked), asked.bucket)
    if name:
        raise ValueError(f"{asked.bucket!r} names an object, not a bucket")
    bucket.create()
    return 0


def ls(asked: argparse.Namespace) -> int:
    """List buckets, or the objects of one, page by page."""
    client = connect(asked)
    if not asked.place:
        return _ls_buckets(client)
    bucket, prefix = split_place(client, asked.place)
    for entry in bucket.list_objects_iter(prefix=prefix, props="name,size" if asked.long else "name"):
        print(f"{entry.size:>14,}  {entry.name}" if asked.long else entry.name)
    return 0


def _ls_buckets(client: Client) -> int:
    """List the buckets of the cluster and its backends, and those of the clusters that are attached to it."""
    from aistore.calls.buckets import list_buckets
    from aistore.sdk.errors import AISError

    shown = {_shown_bucket(found) for found in client.cluster().list_buckets("")}
    try:
        shown.update(map(_shown_bucket, client.bucket("any").client.run(list_buckets("ais", "@@"))))
    except AISError as error:
        print(f"ais: not all buckets of other clusters are shown: {error.detail}", file=sys.stderr)
    for name in sorted(shown):
        print(name)
    return 0


def _shown_bucket(found: BucketModel) -> str:
    """A bucket as it is written on the command line."""
    inner = found.namespace.get_path().rstrip("#") if found.namespace else ""
    return f"{found.provider}://{inner + '/' if inner not in ('', '@') else ''}{found.name}"


def get(asked: argparse.Namespace) -> int:
    """Read an object, or many. A file appears whole or not at all."""
    if asked.recursive:
        from aistore.cli.files import get_folder

        return get_folder(asked)
    bucket, name = split_place(connect(asked), asked.object)
    if not name:
        raise ValueError(f"{asked.object!r} names a bucket, not an object; all its objects are read by: ais get -r")
    reader = bucket.object(name).get_reader()
    if asked.file == "-":
        reader.copy_to(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    path = Path(asked.file or name.rsplit("/", 1)[-1])
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {str(path.parent)!r}")
    reader.download(path / name.rsplit("/", 1)[-1] if path.is_dir() else path)
    return 0


def put(asked: argparse.Namespace) -> int:
    """Store a file, or standard input, as an object, or the files of a folder."""
    if asked.recursive:
        from aistore.cli.files import put_folder

        return put_folder(asked)
    bucket, name = split_place(connect(asked), asked.object)
    if asked.file == "-":
        if not name:
            raise ValueError(f"{asked.object!r} does not say under which name to store standard input")
        bucket.object(name).get_writer().put_content(sys.stdin.buffer)
        return 0
    path = Path(asked.file)
    if path.is_dir():
        raise ValueError(f"{asked.file!r} is a folder; all its files are stored by: ais put -r")
    if not name or name.endswith("/"):
        name += path.name
    bucket.object(name).get_writer().put_file(path)
    return 0
