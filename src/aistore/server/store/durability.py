"""What a write survives (docs/durability.md)."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["DURABILITIES", "Durability"]

Durability = Literal["strict", "relaxed"]

DURABILITIES: Final[tuple[Durability, ...]] = ("strict", "relaxed")
