"""What can be wrong with an archive."""

from __future__ import annotations

__all__ = ["BadArchive"]


class BadArchive(Exception):
    """The content is not the archive that it should be, is damaged, or asks for more than an archive may; the text says what."""
