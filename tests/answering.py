"""Servers of a test's own, and clients that try once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import xxhash

from aistore.sdk import Client
from aistore.sdk.retry_config import ColdGetConf, RetryConfig
from policies import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from peer import Peer, PeerConnection, Received

MADE: list[Client] = []
"""Clients of the test that runs: caught errors hold on to them in circles, so their connections are closed after it."""


def answering(answer: Callable[[Received], tuple[object, ...]]) -> Callable[[PeerConnection], None]:
    """A script that answers every request with the status, body and header lines that `answer` returns."""

    def script(connection: PeerConnection) -> None:
        while True:
            status, body, *headers = answer(connection.request())
            connection.answer(status, body, *headers)  # type: ignore[arg-type]  # what the test returned

    return script


def attempts_of(count: int) -> RetryConfig:
    """`count` attempts over the network, and none after an error status."""
    policy = Policy(count)
    assert policy.http_retry is not None
    assert policy.network_retry is not None
    return RetryConfig(policy.http_retry, policy.network_retry, ColdGetConf())


def client_of(peer: Peer, attempts: int = 1) -> Client:
    """A client that tries `attempts` times over the network and never repeats after an error status."""
    MADE.append(Client(peer.url, retry_config=attempts_of(attempts), timeout=5))
    return MADE[-1]


def checksum(content: bytes) -> tuple[str, str]:
    """Header lines of the checksum of `content`."""
    return "Ais-Checksum-Type: xxhash2", f"Ais-Checksum-Value: {xxhash.xxh64_hexdigest(content)}"


def refusal(message: str, status: int, tcode: str = "") -> bytes:
    """An error document."""
    document: dict[str, object] = {"tcode": tcode} if tcode else {}
    return json.dumps({**document, "message": message, "status": status}, separators=(",", ":")).encode() + b"\n"
