"""Identifiers of jobs, nodes and clusters (protocol/00 4.5, 6.4)."""

from __future__ import annotations

import os
import re

MIN_JOB_ID = 9
MAX_ID = 32

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALPHABET = _LETTERS + "0123456789-_"
_NICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?", re.ASCII)
_REBALANCE = re.compile(r"g[0-9]+", re.ASCII)


def _pick(alphabet: str, count: int) -> str:
    # Unbiased: bytes at and above the largest multiple of the alphabet's length are thrown away.
    limit = 256 - 256 % len(alphabet)
    chosen = ""
    while len(chosen) < count:
        chosen += "".join(alphabet[b % len(alphabet)] for b in os.urandom(2 * count) if b < limit)
    return chosen[:count]


def new_job_id() -> str:
    """A fresh job id: nine characters; some kinds put a prefix such as `inv-` before it."""
    return _pick(_LETTERS, 1) + _pick(_ALPHABET, MIN_JOB_ID - 2) + _pick(_LETTERS, 1)


def new_letters(prefix: str = "") -> str:
    """The ten-letter ids of `archive` and, after `tco-`, of multi-object copy (protocol/10 1.5)."""
    return prefix + _pick(_LETTERS, 10)


def new_node_id(role: str) -> str:
    """A fresh node id of eight characters; `role` is its first: `p` for a gateway, `t` for a target."""
    return role + _pick(_LETTERS, 7)


def is_node_id(text: str) -> bool:
    return len(text) <= MAX_ID and _NICE.fullmatch(text) is not None


def is_job_id(text: str) -> bool:
    """Whether `text` is well-formed: at least nine characters of the nice alphabet, or `g<number>` of a rebalance."""
    return (len(text) >= MIN_JOB_ID and is_node_id(text)) or _REBALANCE.fullmatch(text) is not None
