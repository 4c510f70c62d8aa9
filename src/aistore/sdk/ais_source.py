"""What buckets and groups of objects have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aistore.sdk.obj.object import Object
    from aistore.sdk.request_client import RequestClient

__all__ = ["AISSource"]


class AISSource(ABC):
    """A source of objects: a bucket, or some objects of one."""

    __slots__ = ()

    @property
    @abstractmethod
    def client(self) -> RequestClient:
        """Client that makes the requests of this source."""

    @abstractmethod
    def list_all_objects_iter(self, prefix: str = "", props: str = "name,size") -> Iterable[Object]:
        """Objects whose names start with `prefix`, with the properties in `props`."""

    @abstractmethod
    def list_urls(self, prefix: str = "", etl: object = None) -> Iterable[str]:
        """URLs of the objects whose names start with `prefix`."""
