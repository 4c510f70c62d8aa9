"""PUT on a bucket: put objects into an archive (protocol/10 23.6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aistore.server.api.messages import job_reply
from aistore.server.api.multiobj import Selected
from aistore.server.api.remote.reading import cached
from aistore.server.api.remote.selecting import selected_names
from aistore.server.api.remote.writing import write_through
from aistore.server.archive.formats import EXTENSIONS, by_mime, by_name
from aistore.server.jobs.archive import ArchiveOrder, archive_objects
from aistore.server.store.errors import StoreError
from aistore.wire import access, actions
from aistore.wire.errors import ApiError, unsupported
from aistore.wire.messages import BucketMessage, ListRange, decode_value
from aistore.wire.names import check_object_name
from aistore.wire.template import Template, parse_template

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aistore.http1.message import Reply
    from aistore.server.archive.formats import Format
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["ArchiveMessage", "archive"]

_FETCHED_AT_ONCE: Final = 8


class ArchiveMessage(ListRange, forbid_unknown_fields=True, kw_only=True):
    """Value of `archive` (protocol/10 23.6)."""

    tobck: BucketMessage | None = None
    archname: str = ""
    mime: str = ""
    isbn: bool = False
    bnonly: bool = False
    aate: bool = False


async def archive(node: Node, bucket: Bucket, value: object) -> Reply:
    """Have selected objects put into an archive; the answer is the id of the job, which lives on for further requests."""
    message = decode_value(value, ArchiveMessage, actions.ARCHIVE, node.gateway_name)
    if message.tobck is None or not message.tobck.name:
        raise ApiError(400, "bucket name is missing")
    form = _format(message.archname, message.mime)
    identity = message.tobck.bucket_id()
    target = node.find(identity)
    elsewhere = node.remote_of(target) is not None
    if elsewhere and message.aate:
        raise unsupported("append", f"to archives in remote bucket {identity.cname}")
    node.check_access(bucket, access.GET, "GET")
    node.check_access(target, access.PUT, "PUT")
    name = check_object_name(message.archname)
    if message.num_workers < -1:
        raise ApiError(400, f"invalid num-workers {message.num_workers} (expected -1 or more)")
    names = [check_object_name(one) for one in message.objnames]
    template = Template(("",)) if names else parse_template(message.template)
    chosen = (
        f"list:[{' '.join(names[:8])}{' ...' if len(names) > 8 else ''}]"
        if names
        else f"template:[{message.template[:256]}]"
    )
    selected: Selected[ListRange] = Selected(message, names, template, chosen)

    async def work(job: Job) -> None:
        props = node.props(target)
        order = ArchiveOrder(
            source=bucket,
            names=_names(node, bucket, selected),
            listed=bool(names),
            prefix=template.prefix or "",
            recursive=not message.non_recurs,
            target=target,
            archive=name,
            form=form,
            checksum_type=props.checksum.type,
            versioned=props.versioning.enabled,
            with_bucket=message.isbn,
            base_name=message.bnonly,
            append=message.aate,
            write=(lambda content, sum_: write_through(node, target, name, content, sum_, {})) if elsewhere else None,
        )
        try:
            await archive_objects(job, node.store, node.control.scanner, order, f"{node.name}: {{}} does not exist")
        except ApiError as error:
            job.give_up(error.message)
        except (StoreError, OSError) as error:
            job.give_up(str(error))

    job = node.control.jobs.join(
        actions.ARCHIVE,
        work,
        bucket=bucket.id,
        source=bucket.id if target.bid != bucket.bid else None,
        destination=target.id if target.bid != bucket.bid else None,
        control=f"{bucket.id.cname}=>{target.id.object_cname(name)} {chosen}",
        names=names,
    )
    return await job_reply(job)


def _names(node: Node, bucket: Bucket, selected: Selected[ListRange]) -> Callable[[], AsyncIterator[str]] | None:
    """What gives the selected names, None for those of a prefix in the bucket. Objects that live elsewhere are fetched first."""
    if node.remote_of(bucket) is not None:
        return lambda: _fetched(node, bucket, selected)
    if selected.names or selected.template.prefix is None:
        return lambda: selected_names(node, bucket, selected)
    return None


async def _fetched(node: Node, bucket: Bucket, selected: Selected[ListRange]) -> AsyncIterator[str]:
    some: list[str] = []
    async for name in selected_names(node, bucket, selected):
        some.append(name)
        if len(some) == _FETCHED_AT_ONCE:
            for one in await _fetch(node, bucket, some):
                yield one
            some = []
    for one in await _fetch(node, bucket, some):
        yield one


async def _fetch(node: Node, bucket: Bucket, names: list[str]) -> list[str]:
    """The same names, when their objects are cached; those that do not exist are not."""
    for found in await asyncio.gather(*(cached(node, bucket, name) for name in names), return_exceptions=True):
        if isinstance(found, BaseException) and not (isinstance(found, ApiError) and found.status == 404):
            raise found
    return names


def _format(name: str, mime: str) -> Format:
    """The format of an archive to be made. A mime type is only good if it is the name's extension."""
    of_mime = by_mime(mime) if mime else None
    form = by_name(name)
    if form is None:
        dot = name.rfind(".")
        extension = name[dot:] if dot > name.rfind("/") else ""
        raise ApiError(400, f'unknown filename extension ("{name[:300]}", "{extension[:100]}")', "errUnknownFileExt")
    if of_mime is not None and not (mime in EXTENSIONS and name.endswith(mime)):
        extension = next(one for one in EXTENSIONS if name.endswith(one))
        raise ApiError(400, f'mime mismatch "{mime[:100]}" vs "{extension}"')
    return form
