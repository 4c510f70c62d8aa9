"""Reading members of archives (protocol/20 4.4)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.http1.message import Reply
from aistore.server.archive.archives import Content
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format, detect
from aistore.server.archive.names import MODES, clean, matcher
from aistore.server.archive.reading import content_of, gather, in_one_piece, selected
from aistore.wire import headers as header
from aistore.wire import params as param
from aistore.wire.errors import ApiError, object_not_found
from aistore.wire.names import check_object_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.http1.server import Request
    from aistore.server.archive.index import Member
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["ArchiveQuery", "archive_query", "read_from_archive"]

_READ_AT_ONCE: Final = 1 << 20
_TAR_TYPE: Final = "application/x-tar"
_MEMBER_TYPE: Final = header.OCTETS


class ArchiveQuery(NamedTuple):
    """What a request means within an archive: one member by `path`, or with a `mode` those that match."""

    path: str
    mode: str
    expression: str
    mime: str

    def __str__(self) -> str:
        if self.path:
            return f"(archpath={self.path})"
        return f"(archregx={self.expression}, archmode={self.mode})"


def archive_query(request: Request, name: str) -> ArchiveQuery | None:
    """The members that a request on object `name` means; None if it is about the object. Raises `ApiError` 400."""
    params = request.params
    path = params.get(param.ARCHPATH, "")
    mode = params.raw.get(param.ARCHMODE)  # the reference does not decode it
    mime = params.get(param.ARCHMIME, "")
    if path:
        if mode is not None:
            why = 'dpq: archpath="archpath" (match one) and archregx="archregx" (match many) are mutually exclusive'
            raise ApiError(400, f"dpq: 'archmode={mode}', err: {why}")
        try:
            checked = check_object_name(path.removeprefix("/"))
        except ApiError:
            sent = params.raw[param.ARCHPATH]
            raise ApiError(400, f"dpq: 'archpath={sent}', err: invalid archpath \"{path[:300]}\"") from None
        return ArchiveQuery(checked.removeprefix(f"{name}/"), "", "", mime)
    expression = params.get(param.ARCHREGX, "")
    if mode is None or not (mode or expression):
        return None
    if mode not in MODES and mode not in ("", "*"):
        why = f'invalid matching mode "{mode[:100]}", expecting one of: [{" ".join(MODES)}]'
        raise ApiError(400, f"dpq: 'archmode={mode}', err: {why}")
    return ArchiveQuery("", mode, expression, mime)


async def read_from_archive(node: Node, request: Request, bucket: Bucket, name: str, query: ArchiveQuery) -> Reply:
    """The content of a member, or a TAR of several."""
    cname = bucket.id.object_cname(name)
    if "range" in request.headers:
        what = f"range: {request.headers['range']}, arch query: {query}"
        raise ApiError(400, f"cannot range-read archived content {what} - operation not supported", "ErrUnsupp")
    content = Content.open(node.store, bucket, name)
    if content is None:
        raise object_not_found(node.name, cname)
    try:
        node.store.atimes.note(content.row, time.time_ns())
        form = await node.control.archives.run(detect, name, query.mime, content.source)
        read = _read_member if query.path else _read_selected
        return await read(node, cname, content, form, query)
    except BaseException:
        content.close()
        raise


async def _read_member(node: Node, cname: str, content: Content, form: Format, query: ArchiveQuery) -> Reply:
    archives = node.control.archives
    index = await archives.index(content, form)
    member = index.find(clean(query.path))
    if member is None:
        if index.damage:
            raise ApiError(400, f"failed to open {cname}: {index.damage}")
        raise ApiError(404, f"{node.name}: {query.path} in {cname} does not exist", "ErrNotFound")
    node.stats.read(member.size)
    try:
        if form is Format.TAR:
            return await _as_it_lies(node, content, in_one_piece(content.source, form, member), member.size)
        offset = await archives.run(in_one_piece, content.source, form, member)
        if offset >= 0:
            return await _as_it_lies(node, content, offset, member.size)
        return await _decompressed(node, content, form, member)
    except BadArchive as error:
        raise ApiError(400, f"failed to read {query.path} in {cname}: {error}") from error


async def _as_it_lies(node: Node, content: Content, offset: int, size: int) -> Reply:
    from aistore.server.api.reading import part_of_file, send_checked

    headers = (("Content-Type", _MEMBER_TYPE),)
    if content.fd < 0:
        return Reply(200, headers, content.source.read_at(offset, size))
    data = node.store.verifier.read_now(content.row, content.fd, offset, size)
    if data is not None:
        content.close()
        return Reply(200, headers, data)
    part = part_of_file(node, content.row, content.give_fd(), offset, size)
    return await send_checked(Reply(200, headers, part), part)


async def _decompressed(node: Node, content: Content, form: Format, member: Member) -> Reply:
    archives = node.control.archives
    pieces: Iterator[bytes] = await archives.run(content_of, content.source, form, member)
    if member.size <= _READ_AT_ONCE:
        # What is wrong with it can still be told.
        data = await archives.run(b"".join, pieces)
        content.close()
        return Reply(200, (("Content-Type", _MEMBER_TYPE),), data)
    headers = (("Content-Type", _MEMBER_TYPE), ("Content-Length", str(member.size)))
    return Reply(200, headers, archives.stream(pieces, content))


async def _read_selected(node: Node, cname: str, content: Content, form: Format, query: ArchiveQuery) -> Reply:
    archives = node.control.archives
    failed = f"{node.name}: failed to extract files that match {query} from {cname}, err: "
    try:
        pieces = selected(content.source, form, matcher(query.mode, query.expression))
        first = await archives.run(gather, pieces)
        more = await archives.run(gather, pieces)
    except ApiError as error:
        raise ApiError(error.status, failed + error.message, "ErrFailedTo") from error
    except BadArchive as error:
        raise ApiError(400, failed + str(error), "ErrFailedTo") from error
    if not first:
        raise ApiError(404, f"{node.name}: {query} in {cname} does not exist", "ErrNotFound")
    headers = (("Content-Type", _TAR_TYPE),)
    if not more:
        content.close()
        node.stats.read(len(first))
        return Reply(200, headers, first)
    return Reply(200, headers, archives.stream(pieces, content, first + more, node.stats.read))
