"""What goes wrong with batches, besides what the cluster refuses."""

from __future__ import annotations

__all__ = ["BatchIncomplete", "MultipartDecodeError"]

_NAMED = 10


class MultipartDecodeError(Exception):
    """A buffered answer is not the multipart document that it should be."""


class BatchIncomplete(RuntimeError):
    """A batch ended before all its entries were there, and the rest could not be had. All that were given out before are good.

    `entries` are the names of those that are missing, in order, the first of them the one that stopped it; `delivered` is the number of
    those before. The cause (`__cause__`) tells why.
    """

    def __init__(self, entries: list[str], delivered: int, reason: str) -> None:
        super().__init__(entries, delivered, reason)
        self.entries = entries
        self.delivered = delivered
        self.reason = reason

    def __str__(self) -> str:
        named = ", ".join(map(repr, self.entries[:_NAMED]))
        more = f" and {len(self.entries) - _NAMED} more" if len(self.entries) > _NAMED else ""
        return (
            f"{len(self.entries)} entries of a batch are missing after {self.delivered}: {named}{more}: {self.reason}"
        )
