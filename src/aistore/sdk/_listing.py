"""Entries and pages of object listings, decoded straight from the wire."""

from __future__ import annotations

import warnings
from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from aistore.wire import headers

if TYPE_CHECKING:
    from aistore.calls.object_handle import ObjectHandle
    from aistore.sdk.obj.object_props import ObjectProps

__all__ = ["BucketEntry", "BucketList", "Lister", "attach", "decode_page"]

_CACHED = 1 << 6
_STATUS = (1 << 5) - 1


class BucketEntry(msgspec.Struct, gc=False):
    """One object of a listing; which fields are filled depends on the properties that were asked for (protocol/10 17.2).

    `object` is a handle on the object itself. Fields have the short names of the wire, properties the readable ones.
    """

    n: str
    cs: str = ""
    a: str = ""
    v: str = ""
    t: str = ""
    s: int = 0
    c: int = 0
    f: int = 0
    object: Any = None  # a type that msgspec decodes nothing into; what users see is the property set below
    m: str = ""

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.n

    @property
    def size(self) -> int:
        """Bytes of its content."""
        return self.s

    @property
    def checksum(self) -> str:
        """Value of its checksum, whose type is that of the bucket."""
        return self.cs

    @property
    def atime(self) -> str:
        """Time of the last access, as text."""
        return self.a

    @property
    def version(self) -> str:
        """Version of the object."""
        return self.v

    @property
    def location(self) -> str:
        """Target and mountpath."""
        return self.t

    @property
    def copies(self) -> int:
        """Number of replicas."""
        return self.c

    @property
    def flags(self) -> int:
        """Status and kind of the entry, as bits (protocol/10 18.3)."""
        return self.f

    @property
    def custom(self) -> str:
        """Custom metadata as text: `[key:value key:value]`."""
        return self.m

    def is_cached(self) -> bool:
        """Whether the object is in the cluster."""
        return bool(self.f & _CACHED)

    def is_ok(self) -> bool:
        """Whether the object is where it belongs, and is no copy."""
        return not self.f & _STATUS

    def generate_object_props(self) -> ObjectProps:
        """Properties of the object as far as the entry has them."""
        from aistore.sdk.obj.object_props import ObjectProps

        known = {
            headers.NAME: self.n,
            headers.CHECKSUM_VALUE: self.cs,
            headers.ATIME: self.a,
            headers.VERSION: self.v,
            headers.LOCATION: self.t,
            "Content-Length": str(self.s),
            headers.MIRROR_COPIES: str(self.c),
        }
        return ObjectProps(known)


_slot = vars(BucketEntry)["object"]


class Lister(Protocol):
    """The bucket of a listing, in either face."""

    def _listed(self, entry: BucketEntry) -> ObjectHandle:
        """The object of an entry."""
        ...


def _object_of(entry: BucketEntry) -> ObjectHandle | None:
    """The object itself, made when it is first asked for: a listing of a million entries makes none."""
    held: Lister | ObjectHandle | None = _slot.__get__(entry)
    listed = getattr(held, "_listed", None)
    if listed is None:  # an object, or none
        return cast("ObjectHandle | None", held)
    found: ObjectHandle = listed(entry)
    _slot.__set__(entry, found)
    return found


# The field keeps its place in the struct; its name leads to the handle.
setattr(BucketEntry, "object", property(_object_of, _slot.__set__))  # noqa: B010  mypy knows the name as a field


class BucketList(msgspec.Struct):
    """A page of a listing; an empty continuation token marks the last one."""

    UUID: str
    ContinuationToken: str
    Flags: int
    Entries: list[BucketEntry] | None = None

    @property
    def uuid(self) -> str:
        """Id of the listing, for the request of the next page."""
        return self.UUID

    @property
    def continuation_token(self) -> str:
        """Where the next page begins."""
        return self.ContinuationToken

    @property
    def entries(self) -> list[BucketEntry]:
        """The objects of this page."""
        return [] if self.Entries is None else self.Entries

    @property
    def flags(self) -> int:
        """1 if a rebalance was under way, so that objects may be missing."""
        return self.Flags

    def get_entries(self) -> list[BucketEntry]:
        """The old name of `entries`."""
        warnings.warn(
            "BucketList.get_entries() is deprecated: use BucketList.entries", DeprecationWarning, stacklevel=2
        )
        return self.entries


decode_page = msgspec.msgpack.Decoder(BucketList).decode

# Documented and pickled under the name that users import them by.
BucketEntry.__module__ = BucketList.__module__ = "aistore.sdk.types"


def attach(page: BucketList, bucket: Lister) -> None:
    """Let the entries of a page find their objects in `bucket`."""
    deque(map(_slot.__set__, page.entries, repeat(bucket)), maxlen=0)
