"""Listing the objects of a bucket (protocol/10 17-20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk._listing import attach, decode_page
from aistore.sdk.list_object_flag import ListObjectFlag
from aistore.transport.request import Request
from aistore.wire import actions, headers
from aistore.wire.messages import encode_action

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Steps
    from aistore.sdk._listing import BucketEntry, BucketList, Lister

__all__ = ["Listing", "Pages", "all_entries", "archive_entries", "page"]

_IN_ARCHIVE = 1 << 7  # flag of an entry (protocol/10 18.3)
_MSGPACK = ("Accept", headers.MSGPACK)


class Listing:
    """What is listed: a request that stays the same from page to page, but for its token and id.

    Raises NotImplementedError for `start_after` in a cloud bucket, whose backend could not do it.
    """

    __slots__ = ("_headers", "_ref", "_value")

    def __init__(
        self,
        ref: BucketRef,
        prefix: str = "",
        props: str = "",
        page_size: int = 0,
        flags: Iterable[ListObjectFlag] | None = None,
        target: str = "",
        inventory_name: str = "",
        start_after: str = "",
    ) -> None:
        if start_after and ref.provider != "ais":
            raise NotImplementedError(f"start_after works for ais buckets only, not for {ref}")
        chosen = list(flags or ())
        self._headers: tuple[tuple[str, str], ...] = (_MSGPACK,)
        if inventory_name:
            chosen.append(ListObjectFlag.NBI)
            self._headers = (_MSGPACK, (headers.INVENTORY_NAME, inventory_name))
        self._ref = ref
        self._value: dict[str, object] = {
            "prefix": prefix,
            "pagesize": page_size,
            "uuid": "",
            "props": props,
            "continuation_token": "",
            "flags": str(ListObjectFlag.join_flags(chosen)),
            "target": target,
        }
        if start_after:
            self._value["start_after"] = start_after

    def request(self, uuid: str = "", token: str = "") -> Request:
        """The request for the page behind `token`; `uuid` is the id that the first page gave."""
        value = self._value
        if uuid or token:
            value = {**value, "uuid": uuid, "continuation_token": token}
            # Tokens go on from where it started.
            if token:
                value.pop("start_after", None)
        ref = self._ref
        return Request("GET", ref.resource, ref.query, self._headers, encode_action(actions.LIST, value=value))


def page(listing: Listing, bucket: Lister, uuid: str = "", token: str = "") -> Steps[BucketList]:
    """One page, whose entries find their objects in `bucket`."""
    answer = yield listing.request(uuid, token)
    found = decode_page(answer.content)
    attach(found, bucket)
    return found


class Pages:
    """The pages of a listing, one after the other."""

    __slots__ = ("_bucket", "_listing", "_more", "_token", "_uuid")

    def __init__(self, listing: Listing, bucket: Lister) -> None:
        self._listing = listing
        self._bucket = bucket
        self._uuid = self._token = ""
        self._more = True

    def next(self) -> Steps[list[BucketEntry] | None]:
        """Entries of the next page; None after the last one."""
        if not self._more:
            return None
        found = yield from page(self._listing, self._bucket, self._uuid, self._token)
        self._uuid, self._token = found.uuid, found.continuation_token
        self._more = bool(self._token)
        return found.entries


def all_entries(listing: Listing, bucket: Lister) -> Steps[list[BucketEntry]]:
    """The entries of all pages."""
    pages = Pages(listing, bucket)
    found: list[BucketEntry] = []
    while (entries := (yield from pages.next())) is not None:
        found += entries
    return found


def archive_entries(
    listing: Listing, bucket: Lister, archive_obj_name: str, include_archive_obj: bool
) -> Steps[list[BucketEntry]]:
    """Entries of an archive's members, after that of the archive itself if that is wanted; `listing` is that of its name as prefix."""
    entries = yield from all_entries(listing, bucket)
    inside = archive_obj_name + "/"
    # Other objects begin with the archive's name too.
    return [
        entry
        for entry in entries
        if (entry.f & _IN_ARCHIVE and entry.n.startswith(inside))
        or (include_archive_obj and entry.n == archive_obj_name)
    ]
