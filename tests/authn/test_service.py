"""The AuthN server: its start, what it keeps, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from typing import TYPE_CHECKING

import pytest

from aistore.sdk import AuthNClient
from aistore.sdk.authn.errors import AuthNError, ErrUserInvalidCredentials, ErrUserNotFound
from aistore.server.authn.passwords import hash_password
from aistore.server.authn.service import AuthnError, AuthnService
from aistore.server.authn.settings import AuthnSettings, FirstAdministrator
from aistore.server.authn.throttle import Throttle
from aistore.wire.errors import ApiError
from guarding import PASSWORD, SECRET, As, AuthnServer, token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., AuthnServer]]:
    """Starts AuthN servers on one folder, one after the other."""
    started: list[AuthnServer] = []

    def start(**options: str) -> AuthnServer:
        started.append(AuthnServer(tmp_path / "data", **options))  # type: ignore[arg-type]  # texts
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop()
        else:
            one._close()


def root(url: str) -> AuthNClient:
    client = AuthNClient(url)
    client.login("admin", PASSWORD)
    return client


def test_a_new_server_wants_a_password_for_its_administrator(serve: Callable[..., AuthnServer]) -> None:
    server = serve(password="")
    assert not server.url
    assert "AIS_AUTHN_SU_PASS" in server.said
    assert server.process.wait(60) == 1


def test_the_first_administrator_is_not_called_as_the_server_calls_itself(tmp_path: Path) -> None:
    first = FirstAdministrator("AuthN", PASSWORD)
    service = AuthnService(AuthnSettings(tmp_path, port=0, secret=SECRET, first=first))
    with pytest.raises(AuthnError, match="AIS_AUTHN_SU_NAME"):
        asyncio.run(service.start())


def test_a_short_secret_is_refused(serve: Callable[..., AuthnServer]) -> None:
    server = serve(secret="aBitLongSecretKey")
    assert not server.url
    said = server.said
    assert "32" in said
    assert "aBitLong" not in said


def test_changes_survive_kill_9_and_the_environment_changes_no_password(serve: Callable[..., AuthnServer]) -> None:
    server = serve()
    client = root(server.url)
    client.user_manager().create("alice", [], "her password")
    server.kill()
    server = serve(password="another")
    assert AuthNClient(server.url).login("alice", "her password")
    assert root(server.url)
    with pytest.raises(ErrUserInvalidCredentials):
        AuthNClient(server.url).login("admin", "another")


def test_nobody_else_may_read_what_it_keeps(serve: Callable[..., AuthnServer]) -> None:
    server = serve()
    root(server.url)
    found = [server.folder, *server.folder.rglob("*")]
    assert len(found) > 4
    assert [path.name for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_what_happens_is_noted_and_no_secret_is(serve: Callable[..., AuthnServer]) -> None:
    server = serve()
    client = root(server.url)
    given = client.client.token
    assert given
    client.user_manager().create("alice", [], "her password")
    with pytest.raises(ErrUserInvalidCredentials):
        AuthNClient(server.url).login("alice", "wrong password")
    with As(server.url, given[:-3]) as stranger:
        assert stranger("GET", "/v1/users").status == 401
    client.logout()
    lines = [json.loads(line) for line in (server.folder / "audit.log").read_text().splitlines()]
    assert [(line["actor"], line["action"], line["what"], line["outcome"]) for line in lines] == [
        ("admin", "login", "admin", "ok"),
        ("admin", "add user", "alice", "ok"),
        ("", "login", "alice", "refused"),
        ("admin", "revoke token", "admin", "ok"),
    ]
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    kept = b"".join(path.read_bytes() for path in server.folder.glob("*.log*"))
    for secret in (given, given[:-3], "her password", "wrong password", SECRET):
        assert secret.encode() not in kept
    stored = b"".join(path.read_bytes() for path in server.folder.glob("authn.db*"))
    assert b"her password" not in stored
    assert b"$argon2id$" in stored


def test_a_hash_of_a_password_costs_what_it_should() -> None:
    """64 MiB and three passes, the second of the choices that RFC 9106 4 recommends."""
    assert hash_password("her password").startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_refused_token_is_not_shown_again(serve: Callable[..., AuthnServer]) -> None:
    bad = token(secret="x" * 32)
    with As(serve().url, bad) as stranger:
        got = stranger("GET", "/v1/users")
    assert got.status == 401
    assert bad.encode() not in got.body


def test_the_last_administrator_stays(serve: Callable[..., AuthnServer]) -> None:
    users = root(serve().url).user_manager()
    users.create("chief", ["Admin"], "x")
    users.delete("chief")
    with pytest.raises(AuthNError) as refused:
        users.delete("admin")
    assert refused.value.status_code == 403


def test_a_long_password_is_refused(serve: Callable[..., AuthnServer]) -> None:
    users = root(serve().url).user_manager()
    users.create("alice", [], "p" * 1024)
    with pytest.raises(AuthNError) as refused:
        users.create("bob", [], "p" * 1025)
    assert refused.value.status_code == 400
    url = users.client.endpoint
    assert AuthNClient(url).login("alice", "p" * 1024)
    with pytest.raises(ErrUserInvalidCredentials):
        AuthNClient(url).login("alice", "p" * 1025)


def test_a_slash_in_a_name_is_a_part_of_it(authn: AuthnServer) -> None:
    users = root(authn.url).user_manager()
    users.create("slash", [], "x")
    with pytest.raises(ErrUserNotFound):
        users.delete("slash/and-more")
    users.delete("slash")


def test_rights_of_roles_add_up_and_aliases_become_ids(serve: Callable[..., AuthnServer]) -> None:
    server = serve()
    client = root(server.url)
    with As(server.url, client.client.token) as admin:
        assert admin("POST", "/v1/clusters", b'{"id": "the-uuid", "alias": "near"}').status == 200
        for name, perm in (("one", "1"), ("two", "4")):
            entry = {"bck": {"name": "b", "provider": "ais", "namespace": {"uuid": "the-uuid"}}, "perm": perm}
            role = {"name": name, "clusters": [{"id": "near", "perm": perm}], "buckets": [entry]}
            assert admin("POST", "/v1/roles", json.dumps(role).encode()).status == 200
    client.user_manager().create("alice", ["one", "two"], "x")
    part = AuthNClient(server.url).login("alice", "x").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["clusters"] == [{"id": "the-uuid", "perm": "5"}]
    assert [entry["perm"] for entry in claims["buckets"]] == ["5"]
    assert claims["aud"] == ["the-uuid"]


def test_keys_are_rotated_and_older_tokens_stay_good(serve: Callable[..., AuthnServer]) -> None:
    server = serve(secret="")
    client = root(server.url)
    old = client.client.token
    with As(server.url, old) as admin:
        assert admin("POST", "/v1/rotate-key").status == 200
        keys = json.loads(admin("GET", "/.well-known/jwks.json").body)["keys"]
        assert admin("GET", "/v1/users").status == 200
    assert len({key["kid"] for key in keys}) == 2
    new = client.login("admin", PASSWORD)
    assert old is not None
    kids = [json.loads(base64.urlsafe_b64decode(one.split(".")[0] + "=="))["kid"] for one in (old, new)]
    assert kids == [key["kid"] for key in keys]


def test_settings_hide_the_secret_and_a_new_one_ends_all_tokens(serve: Callable[..., AuthnServer]) -> None:
    server = serve()
    with As(server.url, root(server.url).client.token) as admin:
        assert SECRET.encode() not in admin("GET", "/v1/daemon").body
        assert admin("PUT", "/v1/daemon", b'{"auth": {"secret": "short"}}').status == 400
        assert admin("PUT", "/v1/daemon", json.dumps({"auth": {"secret": "n" * 40}}).encode()).status == 200
        assert admin("GET", "/v1/daemon").status == 401
    root(server.url)


@pytest.mark.parametrize("seconds", [59, -1, 90 * 24 * 3600 + 1])
def test_lifetimes_have_bounds(authn: AuthnServer, seconds: float) -> None:
    with pytest.raises(AuthNError) as refused:
        AuthNClient(authn.url).login("admin", PASSWORD, expires_in=seconds)
    assert refused.value.status_code == 400


# -- guessing passwords --


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def is_refused(throttle: Throttle, account: str, address: str) -> bool:
    try:
        throttle.check(account, address)
    except ApiError as error:
        assert error.status == 429
        assert int(error.headers["Retry-After"]) > 0
        return True
    return False


def test_failures_make_further_attempts_wait_longer_and_longer() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(5):
        assert not is_refused(throttle, "alice", "a")
        throttle.failed("alice", "a")
    waits = []
    for _ in range(8):
        began = clock.now
        while is_refused(throttle, "alice", "a"):
            clock.now += 0.5
        waits.append(clock.now - began)
        throttle.failed("alice", "a")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not is_refused(throttle, "alice", "elsewhere")
    throttle.succeeded("alice", "a")
    assert not is_refused(throttle, "alice", "a")


def test_one_address_cannot_try_many_accounts_and_many_cannot_try_one() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for number in range(20):
        throttle.failed(f"user{number}", "a")
    assert is_refused(throttle, "alice", "a")
    assert not is_refused(throttle, "alice", "b")
    for number in range(100):
        throttle.failed("alice", f"address{number}")
    assert is_refused(throttle, "alice", "b")
    clock.now += 1000
    assert not is_refused(throttle, "alice", "b")


def test_a_network_of_ipv6_is_one_address() -> None:
    throttle = Throttle(Clock())
    for number in range(20):
        throttle.failed(f"user{number}", f"2001:db8::{number}")
    assert is_refused(throttle, "alice", "2001:db8::ffff:1")
    assert not is_refused(throttle, "alice", "2001:db8:0:1::1")
    throttle.succeeded("alice", "2001:db8:0:2::1")
    for _ in range(20):
        throttle.failed("alice", "::1")
    assert is_refused(throttle, "alice", "::1")
    assert not is_refused(throttle, "alice", "2001:db8:0:2::2")


def test_strangers_do_not_keep_an_owner_out() -> None:
    """Where the account was logged in from before, what others fail at does not count."""
    throttle = Throttle(Clock())
    throttle.succeeded("alice", "home")
    for number in range(200):
        throttle.failed("alice", f"address{number}")
    assert is_refused(throttle, "alice", "new")
    assert not is_refused(throttle, "alice", "home")
    for _ in range(5):
        throttle.failed("alice", "home")
    assert is_refused(throttle, "alice", "home")


def test_those_who_share_an_address_with_strangers_are_not_kept_out() -> None:
    """An owner who was there before, and everybody behind a proxy on the machine itself."""
    throttle = Throttle(Clock())
    throttle.succeeded("alice", "office")
    for number in range(50):
        for address in ("office", "127.0.0.1", "::1", "::ffff:127.0.0.1"):
            throttle.failed(f"user{number}", address)
    assert not is_refused(throttle, "alice", "office")
    assert is_refused(throttle, "bob", "office")
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert not is_refused(throttle, "bob", address)
    for _ in range(5):
        throttle.failed("bob", "127.0.0.1")
    assert is_refused(throttle, "bob", "127.0.0.1")


def test_a_server_refuses_who_guesses(serve: Callable[..., AuthnServer]) -> None:
    server = serve()
    with As(server.url, None) as stranger:
        statuses = [stranger("POST", "/v1/users/nobody", b'{"password": "x"}').status for _ in range(5)]
        assert statuses == [401] * 5
        # A machine may take longer for an attempt than it has to wait, but not again and again.
        for _ in range(20):
            if (got := stranger("POST", "/v1/users/nobody", b'{"password": "x"}')).status == 429:
                break
        assert got.status == 429
        assert int(got.headers["Retry-After"]) > 0
    assert root(server.url)


def test_a_secret_of_the_environment_counts_and_says_so(serve: Callable[..., AuthnServer]) -> None:
    """Where another one was set while the server ran."""
    server = serve()
    with As(server.url, root(server.url).client.token) as admin:
        assert admin("PUT", "/v1/daemon", json.dumps({"auth": {"secret": "n" * 40}}).encode()).status == 200
    server.stop()
    again = serve()
    with As(again.url, token(admin=True)) as admin:
        assert admin("GET", "/v1/users").status == 200
    assert "AIS_AUTHN_SECRET_KEY has another one" in (again.folder / "server.log").read_text()


def test_more_rights_than_fit_a_token_are_refused_at_login(serve: Callable[..., AuthnServer]) -> None:
    server = serve()
    client = root(server.url)
    entry = {"provider": "ais", "namespace": {"uuid": "here", "name": ""}}
    buckets = [{"bck": {"name": f"bucket-{number}", **entry}, "perm": "771"} for number in range(200)]
    with As(server.url, client.client.token) as admin:
        assert admin("POST", "/v1/roles", json.dumps({"name": "many", "buckets": buckets}).encode()).status == 200
    client.user_manager().create("alice", ["many"], "pw")
    with pytest.raises(AuthNError, match="fewer roles"):
        AuthNClient(server.url).login("alice", "pw")
    client.role_manager().delete("many")
    AuthNClient(server.url).login("alice", "pw")
