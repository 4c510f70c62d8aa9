"""What the store hands out: buckets and object rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from aistore.server.store.errors import BucketGone, CustomTooLong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.server.store.catalog import Transaction
    from aistore.wire.names import BucketId

__all__ = [
    "INSERT_OBJECT",
    "LOOKUP_PLAIN",
    "OBJECT_COLUMNS",
    "Bucket",
    "ObjectRow",
    "encode_pairs",
    "next_version",
    "pairs_of_new_content",
    "require_bucket",
]

_CUSTOM_MAX: Final = 16 << 10  # bytes of an object's pairs: those of all changes together
_ROW_BYTES = 600  # measured, with the head that the API keeps in it

OBJECT_COLUMNS = "size, layout, content, checksum_type, checksum, version, atime, mtime, custom"
LOOKUP_PLAIN: Final = f"SELECT {OBJECT_COLUMNS} FROM object WHERE bucket = ? AND name = ?"  # noqa: S608 (constants)
"""The row of an object by bucket number and name, without its content."""
INSERT_OBJECT: Final = "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""Make a row: bucket number, name, and the values of `OBJECT_COLUMNS`."""


class Bucket:
    """A bucket as the catalog knows it; `props` is the encoded property document, which the store does not read."""

    __slots__ = ("bid", "id", "parsed", "props", "remote", "stale")

    def __init__(self, bid: int, bucket: BucketId, props: bytes) -> None:
        self.bid = bid
        """Number of the bucket in the catalog; never used again for another."""
        self.id = bucket
        self.props = props
        self.parsed: object = None
        """The decoded properties, kept here by whoever decodes them."""
        self.remote: BucketId | None = None
        """The bucket elsewhere whose objects are cached in this one, if there is one; told by the properties, and kept by who decodes them."""
        self.stale = False
        """True once the bucket was destroyed or its properties changed: ask the store again."""

    def __repr__(self) -> str:
        return f"Bucket({self.id.cname!r}, bid={self.bid})"


class ObjectRow:
    """One version of an object. A new version is a new row; of a row only the access time is ever changed."""

    __slots__ = (
        "atime", "bid", "checksum", "checksum_type", "content", "custom", "data", "head", "layout", "mtime", "name", "size", "verified",
        "version", "weight",
    )  # fmt: skip

    def __init__(
        self,
        bid: int,
        name: str,
        size: int,
        layout: int,
        content: int,
        checksum_type: str,
        checksum: str,
        version: str,
        atime: int,
        mtime: int,
        custom: str | None,
        data: bytes | None = None,
    ) -> None:
        self.bid = bid
        self.name = name
        self.size = size
        """Bytes of content."""
        self.layout = layout
        self.content = content
        self.checksum_type = checksum_type
        """One of the protocol's types; `none` if no checksum is stored."""
        self.checksum = checksum
        """Lower-case hex, empty for type `none`."""
        self.version = version
        self.atime = atime
        """Last access, Unix nanoseconds."""
        self.mtime = mtime
        """Time of the PUT, Unix nanoseconds."""
        self.custom: dict[str, str] = json.loads(custom) if custom else {}
        self.data = data
        """The content, if it lives in the catalog."""
        self.weight = _ROW_BYTES + 2 * len(name) + (len(data) if data is not None else 0)
        """Bytes of memory that the row takes, about."""
        if custom:
            self.weight += 4 * len(custom)  # the pairs, and the head that carries them
        self.head: bytes | None = None
        """Encoded answer head without access time, kept here by the API."""
        self.verified = 0.0
        """When content in the catalog was last compared with the checksum (`time.monotonic`), 0 if it was not since this row came into memory."""


def require_bucket(tx: Transaction, bucket: Bucket) -> None:
    """Raise `BucketGone` if the bucket is not there (any more)."""
    if tx.execute("SELECT 1 FROM bucket WHERE id = ?", (bucket.bid,)).fetchone() is None:
        raise BucketGone(bucket.id.cname)


def next_version(old: str, custom: dict[str, str] | None) -> str:
    """Version of an object that replaces one of version `old`, with these custom pairs."""
    # An object that came from elsewhere keeps that place's version (protocol/20 6.1).
    if old and custom and custom.get("source"):
        return old
    return str(int(old) + 1) if old.isascii() and old.isdigit() and len(old) < 19 else "1"


def pairs_of_new_content(old: str | None, custom: dict[str, str] | None) -> dict[str, str] | None:
    """Custom pairs of an object that gets new content: those of the row before, and `custom` over them."""
    if not old:
        return custom
    kept: dict[str, str] = json.loads(old)
    kept.pop("ETag", None)  # it tells of the content
    return {**kept, **(custom or {})}


def encode_pairs(pairs: Mapping[str, str] | None) -> str | None:
    """Custom pairs as the catalog keeps them. Raises `CustomTooLong`."""
    if not pairs:
        return None
    text = json.dumps(pairs, ensure_ascii=False)
    if len(text) > _CUSTOM_MAX or len(text.encode()) > _CUSTOM_MAX:
        raise CustomTooLong(f"custom metadata: an object holds at most {_CUSTOM_MAX} bytes of it")
    return text
