"""Lists of an account's buckets, from endpoints that are not to be trusted."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from aistore.server.backends import bucket_lists
from aistore.server.backends.bucket_lists import azure_containers
from peer import Peer, always

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDLESS = b"<E><Containers><Container><Name>a</Name></Container></Containers><NextMarker>again</NextMarker></E>"


def account(peer: Peer) -> Mapping[str, str]:
    return {"account_name": "me", "account_key": base64.b64encode(b"key").decode(), "endpoint": peer.url}


def test_a_signature_is_taken_nowhere_else() -> None:
    with Peer(always()) as elsewhere, Peer(always(307, b"", f"Location: {elsewhere.url}/")) as peer:
        with pytest.raises(HTTPError, match="307") as caught:
            azure_containers(account(peer), {})
        caught.value.close()
        assert "sharedkey me:" in peer.requests[0].headers["authorization"].lower()
        assert not elsewhere.requests


def test_a_list_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_lists, "_PAGES_MAX", 3)
    with Peer(always(200, ENDLESS)) as peer:
        with pytest.raises(ValueError, match="more than 3 pages"):
            azure_containers(account(peer), {})
        assert len(peer.requests) == 3
