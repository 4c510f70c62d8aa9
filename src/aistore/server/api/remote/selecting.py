"""Which objects jobs on remote buckets act on (protocol/10 14, 22)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from aistore.server.backends.base import where
from aistore.server.store.scan import Bounds
from aistore.wire.messages import ListRange
from aistore.wire.names import check_object_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aistore.server.api.multiobj import Selected
    from aistore.server.backends.base import RemoteObject
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["cached_names", "objects_there", "selected_names", "workers_of"]

M = TypeVar("M", bound=ListRange)

_WORKERS: Final = 8
_WORKERS_MAX: Final = 64
_SCAN: Final = 1000


def workers_of(number: int) -> int:
    """How many objects a job works on at a time, of the number that its request tells (protocol/10 14)."""
    return 1 if number < 0 else min(number or _WORKERS, _WORKERS_MAX)


async def selected_names(node: Node, bucket: Bucket, selected: Selected[M]) -> AsyncIterator[str]:
    """Selected names; those of a prefix as the backend lists them."""
    prefix = selected.template.prefix
    if selected.names or prefix is None:
        for name in _told(selected):
            yield name
        return
    async for found in objects_there(node, bucket, prefix, recursive=not selected.message.non_recurs):
        yield found.name


async def objects_there(node: Node, bucket: Bucket, prefix: str, *, recursive: bool) -> AsyncIterator[RemoteObject]:
    """Objects with a prefix as the backend lists them."""
    backend, token = node.backends.of(bucket), ""
    while True:
        page = await backend.list(where(bucket), prefix, token, backend.page_size, recursive=recursive)
        for found in page.objects:
            if not found.directory:
                yield found
        token = page.token
        if not token:
            return


async def cached_names(node: Node, bucket: Bucket, selected: Selected[M]) -> AsyncIterator[str]:
    """Selected names; those of a prefix as they are in the cache."""
    prefix = selected.template.prefix
    if selected.names or prefix is None:
        for name in _told(selected):
            yield name
        return
    scanner, bounds = node.control.scanner, Bounds(prefix, prefix)
    while True:
        rows = await scanner.run(lambda: scanner.rows(bucket.bid, bounds, "", _SCAN))  # noqa: B023 (awaited before it changes)
        if not rows:
            return
        for (name,) in rows:
            if not selected.message.non_recurs or "/" not in name[len(prefix) :]:
                yield name
        bounds = Bounds(prefix, rows[-1][0], inclusive=False)


def _told(selected: Selected[M]) -> Iterable[str]:
    """Names that the message tells, by list or by range."""
    return selected.names or map(check_object_name, selected.template.names())
