"""Import: a file of the user whose server this is becomes an object, without a second copy where that can be.

A server must not read what a client names: others reach a loopback address, too. So the client shows that it is the same user by a file that
it makes in the data folder, and that nobody else could make there.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from aistore.http1.message import Reply
from aistore.server.jobs.importing import take_in
from aistore.server.store.content import in_thread
from aistore.wire.errors import ApiError
from aistore.wire.headers import JSON_UTF8
from aistore.wire.names import check_object_name
from aistore.wire.props import encode_wire

if TYPE_CHECKING:
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["import_file"]

_is_proof = re.compile(r"import-[0-9a-f]{32}").fullmatch


async def import_file(node: Node, bucket: Bucket, path: str, name: str, proof: str, *, link: bool) -> Reply:
    """Make an object of a file; the answer says how that was done, and its size. Raises `ApiError`, `StoreFull`, `BucketGone`."""
    if not await in_thread(_is_own_user, node, proof):
        what = "import: this client does not show that it belongs to the user of this server"
        raise ApiError(403, f"{what} (promote takes files from {node.settings.promote_root})")
    if bucket.remote is not None:
        raise ApiError(400, f"import: {bucket.id.cname} is a remote bucket; put its files")
    if not path.startswith("/") or "\0" in path:
        raise ApiError(400, f'import: "{path}" is not an absolute path')
    name = check_object_name(name)
    props = node.props(bucket)
    kind = props.checksum.type
    try:
        content, checksum, how = await take_in(node.store, path, kind, link=link)
    except OSError as error:
        raise ApiError(400, f"import: {error.strerror or error}") from None
    size = len(content) if isinstance(content, bytes) else content.size
    await node.store.put(bucket, name, content, kind, checksum, versioned=props.versioning.enabled)
    return Reply(200, [("Content-Type", JSON_UTF8)], encode_wire({"how": how, "size": size}))


def _is_own_user(node: Node, proof: str) -> bool:
    """Whether the data folder has a file of this name that is the server's user's alone (blocking)."""
    if not _is_proof(proof):
        return False
    try:
        status = os.lstat(node.settings.data_dir / proof)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and status.st_nlink == 1
