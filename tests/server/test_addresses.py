"""Where clients are sent by a server that listens on every address of its machine."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore.server.settings import ServerSettings
from aistore.server.spawn import start
from calling import Caller
from serving import Raw, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["", "127.0.0.3"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Its URL, and the public host that it was given."""
    settings = ServerSettings(
        tmp_path / "data", host="0.0.0.0", allow_remote=True, targets=2, durability="relaxed", public_host=request.param
    )
    server = start(settings)
    try:
        yield server.ready.url, request.param
    finally:
        server.process.terminate()
        server.process.wait(60)
        with suppress(OSError):
            os.close(server.lifeline)


def test_redirects_and_map_lead_somewhere(served: tuple[str, str]) -> None:
    url, public = served
    port = urlsplit(url).port or 0
    assert urlsplit(url).hostname not in ("0.0.0.0", None)
    with Caller(f"http://127.0.0.1:{port}") as call:
        call.make_bucket("b")
        assert call.put("b", "o", b"content").status == 200  # the redirect is followed
        smap = json.loads(call("GET", "/v1/daemon?what=smap").body)
    with Raw(port) as raw:
        raw.send(request("GET", "/v1/objects/b/o"))
        location = urlsplit(raw.answer().headers["location"])
    assert location.hostname == (public or "127.0.0.1")
    hosts = {node["public_net"]["node_ip_addr"] for node in [*smap["tmap"].values(), smap["proxy_si"]]}
    assert hosts == {urlsplit(url).hostname}
    for node in smap["tmap"].values():
        with Caller(node["public_net"]["direct_url"]) as call:
            assert call("GET", "/v1/health").status == 200
