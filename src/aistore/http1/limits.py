"""What clients may take of a server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of connections, of their time and of the memory that they hold. Times are in seconds."""

    connections: int = 10_000
    per_address: int = 2500
    """Connections from one address (of IPv6, one network of /64) of another machine; clients on this machine share theirs."""
    head: float = 16.0
    """From the first byte of a head to its last, however the rest comes, and from the connection to the first byte."""
    idle: float = 75.0
    body: float = 30.0
    """Longest wait for the next byte of a request body, and how long one may arrive more slowly than `rate`."""
    write: float = 60.0
    """Longest wait for a client to take the next byte of an answer, and how long it may take them more slowly than `rate`."""
    rate: int = 1024
    """Bytes a second that bodies have to move with."""
    linger: float = 2.0
    """How long what a client still sends is dropped after its last answer, so that it can read that."""
    max_body: int = 1 << 50
    """Bytes of a request body, announced or in chunks."""
    memory: int = 512 << 20
    """Bytes of request bodies that are held in memory at once; requests that need more are answered 503."""
    unread: int = 256 << 20
    """Bytes of answers that are held in memory because clients do not take them; further long answers are 503 instead."""
