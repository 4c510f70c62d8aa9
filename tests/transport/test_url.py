"""URLs: the base of an endpoint, origins, and where a redirect leads."""

from __future__ import annotations

import pytest

from aistore.transport.redirect import keeps_token, resolve
from aistore.transport.request import Request
from aistore.transport.url import Origin, base_url, split_url


@pytest.mark.parametrize(
    ("endpoint", "base"),
    [
        ("http://h:8080", "http://h:8080/v1"),
        ("http://h:8080/", "http://h:8080/v1"),
        ("http://h:1/prefix", "http://h:1/v1"),
        ("http://h:1/prefix/", "http://h:1/prefix/v1"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("https://h", "https://h/v1"),
        ("HTTP://H:80", "http://h/v1"),
        ("http://[::1]:8080/?x#y", "http://[::1]:8080/v1"),
    ],
)
def test_the_base_is_v1_resolved_against_the_endpoint(endpoint: str, base: str) -> None:
    assert base_url(endpoint) == base


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:8080",
        "localhost",
        "ftp://h",
        "http://",
        "http:///x",
        "http://h:99999",
        "http://h:x",
        "http://h h",
        "http://h\r\nX: y",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"no http:// or https:// URL|out of range"):
        split_url(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("127.example.com", False),
        ("example.com", False),
    ],
)
def test_loopback_is_only_this_machine(host: str, loopback: bool) -> None:
    assert split_url(f"http://{host}:1")[0].is_loopback is loopback


HERE = Origin("http", "gate", 80)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("http://t:81/v1/objects/b/o?provider=ais&pid=p&utm=1", "http://t:81/v1/objects/b/o?provider=ais&pid=p&utm=1"),
        ("http://t:81/v1/objects/b/a b", "http://t:81/v1/objects/b/a%20b"),
        ("http://t:81/\xc3\xbc#fragment", "http://t:81/%C3%BC"),
        ("https://t", "https://t/"),
        ("/v1/objects/b/o", "http://gate/v1/objects/b/o"),
        ("other?x", "http://gate/v1/objects/b/other?x"),
        ("//t:81/x", "http://t:81/x"),
    ],
)
def test_where_a_redirect_leads(location: str, url: str) -> None:
    assert resolve(location, HERE, "/v1/objects/b/o?provider=ais") == split_url(url)


@pytest.mark.parametrize("location", ["ftp://t/x", "http://", "http://t:99999/", "javascript:alert(1)", "http://a b/"])
def test_a_redirect_to_something_else_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match=r"no http:// or https:// URL|out of range"):
        resolve(location, HERE, "/")


def test_the_token_stays_with_its_origin() -> None:
    get, put = Request("GET", "objects/b/o"), Request("PUT", "objects/b/o", body=b"x")
    other = HERE._replace(port=81)
    assert keeps_token(get, HERE, HERE)
    assert not keeps_token(get, HERE, other)
    assert not keeps_token(put, HERE, other)
    assert not keeps_token(put, HERE, HERE._replace(scheme="https"))
    gate, target = Origin("https", "gate", 443), Origin("https", "target", 443)
    assert keeps_token(put, gate, target), "protocol/00 9.5"
    assert not keeps_token(get, gate, target)
