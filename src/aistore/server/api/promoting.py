"""Promote: files that the server reaches become objects (protocol/20 12)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from aistore.server.api.importing import import_file
from aistore.server.api.messages import OK, job_reply
from aistore.server.api.remote.writing import Remote
from aistore.server.jobs.promote_root import PromoteRoot
from aistore.server.jobs.promoting import Promotion
from aistore.server.store.content import in_thread
from aistore.wire import access, actions
from aistore.wire.errors import ApiError
from aistore.wire.messages import decode_value

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.wire.messages import ActionMessage

__all__ = ["promote"]

_AT_ONCE: Final = 16  # files; more are a job


class _Promote(msgspec.Struct, forbid_unknown_fields=True):
    tid: str = ""
    src: str = ""
    obj: str = ""
    rcr: bool = False
    ovw: bool = False
    dls: bool = False
    notshr: bool = False
    # Of this server alone, see `importing`.
    imp: Literal["", "reflink", "link"] = ""
    proof: str = ""


async def promote(node: Node, bucket: Bucket, message: ActionMessage) -> Reply:
    """Make objects of a file or a folder; the answer is empty if that is done, else the job's id."""
    asked = decode_value(message.value, _Promote, actions.PROMOTE, node.name)
    node.check_access(bucket, access.PROMOTE, "PROMOTE")
    if message.name and asked.src and message.name != asked.src:
        raise ApiError(400, f'conflicting promote source: "{message.name}" vs "{asked.src}"')
    source = asked.src or message.name
    if asked.imp:
        return await import_file(node, bucket, source, asked.obj, asked.proof, link=asked.imp == "link")
    _check_source(node, source)
    if asked.tid and not node.smap.has_target(asked.tid):
        what = f"node {asked.tid} not present in Smap v{node.smap.version}"
        raise ApiError(400, f"{node.gateway_name}: promote failure: {what}", "errNodeNotFound")
    files = await in_thread(_find, node, bucket, source, asked.obj, asked.rcr)
    props = node.props(bucket)
    promotion = Promotion(
        node.store, bucket, PromoteRoot(node.settings.promote_root), props.checksum.type, props.versioning.enabled,
        asked.obj, asked.ovw, asked.dls, None if bucket.remote is None else Remote(node, bucket),
    )  # fmt: skip
    if len(files) <= _AT_ONCE:
        try:
            await promotion.all(files)
        except OSError as error:
            raise ApiError(400, f"{node.name}: cannot promote: {error}") from None
        return OK

    async def work(job: Job) -> None:
        await promotion.all(files, job)

    job = node.control.jobs.start(
        actions.PROMOTE, work, bucket=bucket.id, control=f"{source}=>{bucket.id.object_cname(asked.obj)}"
    )
    return await job_reply(job)


def _check_source(node: Node, source: str) -> None:
    """Refuse what protocol/20 12.1 refuses."""
    root = node.settings.promote_root
    if not source:
        raise ApiError(400, "invalid promote source: pathname is empty", "errInvalidPromoteSource")
    why = ""
    if not source.startswith("/"):
        why = "must be an absolute path"
    elif any(element in (".", "..") for element in source.split("/")) or "\0" in source:
        why = "must not contain '.' or '..' path elements"
    elif not f"{source.rstrip('/')}/".startswith(f"{root.rstrip('/')}/"):
        why = f"must be under {root}"
    if why:
        raise ApiError(400, f'invalid promote source "{source}": {why}', "errInvalidPromoteSource")


def _find(node: Node, bucket: Bucket, source: str, prefix: str, recursive: bool) -> list[tuple[str, str]]:
    """Files to promote, and what their objects are called behind the prefix (blocking)."""
    root = node.settings.promote_root
    asked = ("POST", f"/v1/txn/{bucket.id.name}/begin")  # where the reference's targets find this out
    if not os.path.isdir(root):  # noqa: PTH112 (a text as it came)
        raise ApiError(400, f'promote root "{root}" does not exist')
    # A link on the way would lead somewhere else.
    inside = os.path.relpath(source, root)
    if os.path.realpath(source) != os.path.normpath(os.path.join(os.path.realpath(root), inside)):  # noqa: PTH118 (as above)
        what = f'invalid promote source "{source}": must be under {root}'
        raise ApiError(400, what, "errInvalidPromoteSource")
    try:
        if PromoteRoot(root).is_file(source):
            whole = prefix != "" and not prefix.endswith("/")
            return [(source, "" if whole else os.path.basename(source))]  # noqa: PTH119 (as above)
        files = PromoteRoot(root).files_in(source, recursive=recursive)
    except FileNotFoundError:
        raise ApiError(404, f"stat {source}: no such file or directory", call=asked) from None
    except OSError as error:
        raise ApiError(400, f"{node.name}: cannot promote: {error}") from None
    if not files:
        raise ApiError(400, f'{node.name}: directory "{source}" is empty', call=asked)
    return files
