"""Properties of objects: their attributes, and what they are called."""

from __future__ import annotations

from aistore.sdk.obj.object_attributes import ObjectAttributes
from aistore.wire import headers

__all__ = ["ObjectProps"]

_NAME = headers.NAME.lower()
_BUCKET_NAME = headers.BUCKET_NAME.lower()
_BUCKET_PROVIDER = headers.BUCKET_PROVIDER.lower()


class ObjectProps(ObjectAttributes):
    """Attributes of an object, with its name and that of its bucket."""

    __slots__ = ()

    @property
    def bucket_name(self) -> str:
        """Name of the object's bucket."""
        return self._fields.get(_BUCKET_NAME, "")

    @property
    def bucket_provider(self) -> str:
        """Provider of the object's bucket."""
        return self._fields.get(_BUCKET_PROVIDER, "")

    @property
    def name(self) -> str:
        """Name of the object."""
        return self._fields.get(_NAME, "")

    def named(self, name: str, bucket_name: str, bucket_provider: str) -> ObjectProps:
        """These properties, completed by the names that the answer to a selective HEAD leaves out; returns itself."""
        self._fields.setdefault(_NAME, name)
        self._fields.setdefault(_BUCKET_NAME, bucket_name)
        self._fields.setdefault(_BUCKET_PROVIDER, bucket_provider)
        return self
