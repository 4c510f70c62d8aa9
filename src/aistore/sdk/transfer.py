"""What became of many objects or files that were moved at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Moved", "Reason", "TransferSummary"]

_SHOWN = 3


class Reason(NamedTuple):
    """Why something of this name was not moved; the name is that of the file or object, below the folder or prefix."""

    name: str
    reason: str


class Moved(NamedTuple):
    """What was done, or in a dry run would be, with one name: `action` is `moved`, `unchanged`, `skipped`, `deleted` or `failed`."""

    action: str
    name: str
    size: int
    reason: str
    """Why it was skipped or failed; of what was moved, how (`put`, `multipart`, `get`, `copy`, `reflink`, ...)."""


@dataclass(frozen=True, repr=False)
class TransferSummary:
    """What a call that moves many objects or files did; after a dry run, what it would do.

    Only counts grow with the work: of reasons the first 1,000 are kept.
    """

    moved: int = 0
    """Files or objects stored at the destination."""
    skipped: int = 0
    """Those that are there already, unchanged, and those that are left out (`left_out` says why)."""
    deleted: int = 0
    """Those removed at the destination, because the source has them no more."""
    failed: int = 0
    """Those that could not be moved or deleted; `failures` says why."""
    bytes: int = 0
    """Content of what was moved."""
    seconds: float = 0.0
    """Duration of the call."""
    dry_run: bool = False
    """Nothing was done: the counts say what would be."""
    how: Mapping[str, int] = field(default_factory=dict)
    """How many were moved in which way."""
    failures: tuple[Reason, ...] = ()
    """What failed, and why."""
    left_out: tuple[Reason, ...] = ()
    """What was left out, and why: symbolic links, special files, folder markers."""

    def __repr__(self) -> str:
        would = " (dry run)" if self.dry_run else ""
        text = (
            f"<TransferSummary{would} {self.moved:,} moved, {self.skipped:,} skipped, {self.deleted:,} deleted, "
            f"{self.failed:,} failed, {self.bytes:,} bytes in {self.seconds:.1f} s"
        )
        if self.how:
            text += " by " + ", ".join(f"{way} {count:,}" for way, count in sorted(self.how.items()))
        for name, reason in self.failures[:_SHOWN]:
            text += f"; {name!r}: {reason}"
        return text + ("; ...>" if self.failed > _SHOWN else ">")
