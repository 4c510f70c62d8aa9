"""Web pages are kept out: what gives a browser away, and what every other client may do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from aistore.http1.head import parse_request
from aistore.http1.incoming import Request
from aistore.server.guard import Guard
from aistore.server.settings import ServerSettings
from aistore.wire.errors import ApiError
from serving import Raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.http1.connection import Connection


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with LocalCluster(allow_hosts=["dev.example"]) as cluster:
        yield urlsplit(cluster.url).port or 0


def status(port: int, head: str, version: str = "1.1", method: str = "GET") -> int:
    with Raw(port) as raw:
        raw.send(f"{method} /v1/health HTTP/{version}\r\n{head}\r\n".encode())
        return raw.answer(method).status


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:{}", "[::1]:{}", "localhost", "LOCALHOST:{}", "localhost.:1", "ais.localhost", "dev.example", "Dev.Example:{}"],
)  # fmt: skip
def test_hosts_that_are_this_machine(port: int, host: str) -> None:
    for _ in range(2):  # the second time from memory
        assert status(port, f"Host: {host.format(port)}\r\n") == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", "127.0.0.1@evil", "[evil]", ""],
)  # fmt: skip
def test_a_page_that_reaches_this_machine_by_a_name_of_its_own(port: int, host: str) -> None:
    for _ in range(2):
        assert status(port, f"Host: {host.format(port)}\r\n") == 421
        assert status(port, f"Host: {host.format(port)}\r\n", method="HEAD") == 421


def test_an_old_request_needs_no_host(port: int) -> None:
    assert status(port, "", "1.0") == 200
    assert status(port, "Host: evil.example\r\n", "1.0") == 421


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://localhost", "http://localhost:1", "x-extension://a", "localhost:{}"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_pages_of_other_origins(port: int, origin: str, method: str) -> None:
    assert status(port, f"Host: localhost:{port}\r\nOrigin: {origin.format(port)}\r\n", method=method) == 403


def test_pages_of_the_server_itself(port: int) -> None:
    ours = f"Host: localhost:{port}\r\nOrigin: http://LocalHost:{port}\r\nSec-Fetch-Site: same-origin\r\n"
    assert status(port, ours) == status(port, ours, method="PUT") == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_says_of_a_request(port: int, site: str) -> None:
    said = f"Host: localhost:{port}\r\nSec-Fetch-Site: {site}\r\n"
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert status(port, said, method=method) == 403
    assert (
        status(port, said) == status(port, said, method="HEAD") == 200
    )  # a link may lead here; what it shows stays the browser's


@pytest.mark.parametrize(
    ("host", "allow_hosts", "refused"),
    [("127.0.0.1", (), True), ("::1", (), True), ("0.0.0.0", (), False), ("0.0.0.0", ("named.example",), True)],
)
def test_where_names_are_checked(host: str, allow_hosts: tuple[str, ...], refused: bool) -> None:
    guard = Guard(ServerSettings(Path("/data"), host=host, allow_remote=True, allow_hosts=allow_hosts))
    request = asking("other.example")
    for _ in range(2):
        if refused:
            with pytest.raises(ApiError, match="--allow-host"):
                guard.check(request)
        else:
            guard.check(request)
    guard.check(asking("[::1]:80"))


@pytest.mark.parametrize(
    ("host", "allow_hosts", "refused"),
    [("evil.example", (), True), ("dev.example", ("dev.example",), False), ("192.168.7.7", (), False)],
)
def test_pages_that_give_a_server_a_name_run_no_code_on_it(
    host: str, allow_hosts: tuple[str, ...], refused: bool
) -> None:
    """By DNS rebinding a page is of the server's own origin; `--allow-etl` is meant for people, not for pages that they look at."""
    settings = ServerSettings(Path("/data"), host="0.0.0.0", allow_remote=True, allow_etl=True, allow_hosts=allow_hosts)
    guard = Guard(settings)
    request = asking(f"{host}:80", f"Origin: http://{host}:80\r\n")
    for _ in range(2):
        if refused:
            with pytest.raises(ApiError, match="--allow-host"):
                guard.check(request)
            guard.check(asking(f"{host}:80"))  # no browser
        else:
            guard.check(request)


def asking(host: str, more: str = "") -> Request:
    head = parse_request(f"PUT / HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
    return Request(head, b"", None, cast("Connection", None))  # nobody answers it
