"""Namespaces: buckets of the same name, apart."""

from __future__ import annotations

from pydantic import BaseModel

__all__ = ["Namespace"]


class Namespace(BaseModel):
    """Namespace of a bucket: `uuid` is that of another AIStore cluster (or its alias), `name` a local one; both may be empty."""

    uuid: str = ""
    name: str = ""

    def get_path(self) -> str:
        """As in URLs and unique names: `@uuid#name` (protocol/00 6.2)."""
        return f"@{self.uuid}#{self.name}"
