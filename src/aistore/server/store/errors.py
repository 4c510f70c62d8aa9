"""What can go wrong in the store; the API turns these into the protocol's errors."""

from __future__ import annotations

__all__ = [
    "BucketExists",
    "BucketGone",
    "ContentChanged",
    "ContentDamaged",
    "ContentMissing",
    "CustomTooLong",
    "ObjectMissing",
    "PartsRefused",
    "StoreBroken",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "UploadGone",
]


class StoreError(Exception):
    """Base of the store's errors."""


class BucketGone(StoreError):
    """The bucket does not exist (any more)."""


class BucketExists(StoreError):
    """A bucket of this identity exists."""


class ObjectMissing(StoreError):
    """The object does not exist (any more)."""


class ContentChanged(StoreError):
    """The object has other content now than that which a change was about: look again."""


class ContentDamaged(StoreError):
    """An object's content is not what was stored: bytes on the disk have changed. Overwriting or deleting the object ends that."""

    def __init__(self, reason: str, bid: int = 0, name: str = "") -> None:
        super().__init__(reason)
        self.bid = bid
        """Number of the object's bucket, 0 if nobody said."""
        self.name = name


class ContentMissing(ContentDamaged):
    """An object's content is not in the data folder: somebody else removed it."""


class CustomTooLong(StoreError):
    """The object would have more custom metadata than is kept of one."""


class UploadGone(StoreError):
    """There is no such upload (any more), or not of this object."""

    def __init__(self, upload_id: str, *, elsewhere: bool = False) -> None:
        super().__init__(upload_id)
        self.upload_id = upload_id
        self.elsewhere = elsewhere
        """Whether it is one of another object."""


class TooManyUploads(StoreError):
    """More uploads in parts are under way than a bucket may have."""


class PartsRefused(StoreError):
    """An upload cannot be completed with these parts; the message says why."""


class StoreClosed(StoreError):
    """The store was closed."""


class StoreBroken(StoreError):
    """The disk failed while a change was made durable, so nobody can tell whether it is there before the next start has looked.

    Nothing is changed until then; reads go on.
    """


class StoreFull(StoreError):
    """No room for more content: the disk or the configured capacity is used up. Nothing was stored; reads and deletes go on."""


class StoreCorrupt(StoreError):
    """The data folder cannot be used as it is; the message says why and what to do."""
