"""Which target owns an object: rendezvous hashing (protocol/00 10.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Mapping

SEED = 1103515245
_MASK = (1 << 64) - 1


def placement_digest(text: str) -> int:
    """XXH64 of a node id or an object's unique name."""
    return xxhash.xxh64_intdigest(text.encode(), SEED)


def mix(value: int) -> int:
    """Spread 64 bits over 64 bits; the weight of a target is `mix(node digest ^ object digest)`."""
    z = (value + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z = ((z ^ (z >> 31)) + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z = ((z ^ (z >> 31)) * 5) & _MASK
    return (((z << 7) | (z >> 57)) * 9) & _MASK


def owner(uname: str, targets: Mapping[str, int]) -> str:
    """Id of the target that owns the object of this unique name.

    `targets` maps the ids of active targets to their digests. Raises LookupError when there is none.
    """
    if not targets:
        raise LookupError("no active target in the cluster map")
    if len(targets) == 1:
        return next(iter(targets))
    key = placement_digest(uname)
    return max(targets, key=lambda node: mix(targets[node] ^ key))
