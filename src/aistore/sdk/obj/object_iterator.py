"""Entries of a listing, page after page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.sdk._listing import BucketEntry, BucketList

__all__ = ["ObjectIterator"]


class ObjectIterator:
    """Iterates over the entries of all pages; the next page is requested when it is needed.

    `list_objects` is called with the keyword arguments `uuid` and `continuation_token`, both empty at first.
    """

    def __init__(self, list_objects: Callable[..., BucketList]) -> None:
        self._list_objects = list_objects
        self._entries: Iterator[BucketEntry] = iter(())
        self._uuid = ""
        self._token = ""
        self._begun = False

    def __iter__(self) -> ObjectIterator:
        return self

    def __next__(self) -> BucketEntry:
        while True:
            for entry in self._entries:
                return entry
            if self._begun and not self._token:
                raise StopIteration
            page = self._list_objects(uuid=self._uuid, continuation_token=self._token)
            self._begun = True
            self._entries = iter(page.entries)
            self._uuid, self._token = page.uuid, page.continuation_token
