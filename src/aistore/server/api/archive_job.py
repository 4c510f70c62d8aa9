"""PUT on a bucket: put objects into an archive (protocol/10 23.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.server.api.messages import text_reply
from aistore.server.archive.formats import EXTENSIONS, by_mime, by_name
from aistore.server.jobs.archive import ArchiveOrder, archive_objects
from aistore.server.store.errors import StoreError
from aistore.wire import access, actions
from aistore.wire.errors import ApiError, not_implemented
from aistore.wire.messages import BucketMessage, ListRange, decode_value
from aistore.wire.names import check_object_name
from aistore.wire.template import Template, parse_template

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.server.archive.formats import Format
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["archive"]


class _ArchiveMessage(ListRange, forbid_unknown_fields=True, kw_only=True):
    tobck: BucketMessage | None = None
    archname: str = ""
    mime: str = ""
    isbn: bool = False
    bnonly: bool = False
    aate: bool = False


def archive(node: Node, bucket: Bucket, value: object) -> Reply:
    """Have selected objects put into an archive; the answer is the id of the job, which lives on for further requests."""
    message = decode_value(value, _ArchiveMessage, actions.ARCHIVE, node.gateway_name)
    if message.tobck is None or not message.tobck.name:
        raise ApiError(400, "bucket name is missing")
    form = _format(message.archname, message.mime)
    identity = message.tobck.bucket_id()
    target = node.find(identity)
    if target.remote is not None:
        raise not_implemented("archive", f"objects into remote bucket {identity.cname}")
    node.check_access(bucket, access.GET, "GET")
    node.check_access(target, access.PUT, "PUT")
    name = check_object_name(message.archname)
    if message.num_workers < -1:
        raise ApiError(400, f"invalid num-workers {message.num_workers} (expected -1 or more)")
    names = [check_object_name(one) for one in message.objnames]
    template = Template(("",)) if names else parse_template(message.template)

    async def work(job: Job) -> None:
        props = node.props(target)
        order = ArchiveOrder(
            source=bucket,
            names=names or (map(check_object_name, template.names()) if template.prefix is None else None),
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
        )
        try:
            await archive_objects(job, node.store, node.control.scanner, order, f"{node.name}: {{}} does not exist")
        except ApiError as error:
            job.give_up(error.message)
        except (StoreError, OSError) as error:
            job.give_up(str(error))

    chosen = (
        f"list:[{' '.join(names[:8])}{' ...' if len(names) > 8 else ''}]"
        if names
        else f"template:[{message.template[:256]}]"
    )
    job = node.control.jobs.join(
        actions.ARCHIVE,
        work,
        bucket=bucket.id,
        source=bucket.id if target.bid != bucket.bid else None,
        destination=target.id if target.bid != bucket.bid else None,
        control=f"{bucket.id.cname}=>{target.id.object_cname(name)} {chosen}",
    )
    return text_reply(job.id)


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
