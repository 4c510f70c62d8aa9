"""Clients of AuthN: errors, models, and tokens that come from files."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import pytest

from aistore.aio import AsyncAuthNClient, AsyncClient
from aistore.sdk import AuthNClient, Client
from aistore.sdk.authn import errors
from aistore.sdk.authn.access_attr import AccessAttr
from aistore.sdk.authn.types import ClusterPermission, LoginMsg, RoleInfo, RolesList, UserInfo, UserMap, UsersList
from aistore.sdk.errors import AISError, APIRequestError
from aistore.transport.token import TokenFile
from answering import answering
from guarding import PASSWORD, token
from peer import Peer

if TYPE_CHECKING:
    from pathlib import Path

    from guarding import AuthnServer, Guarded
    from peer import Received

BITS = [one for one in AccessAttr.__members__.values() if one.bit_count() == 1]


# -- errors --


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "invalid credentials", errors.ErrUserInvalidCredentials),
        (401, "token required", errors.AuthNError),
        (400, "invalid credentials", errors.AuthNError),
        (404, "cluster x does not exist", errors.ErrClusterNotFound),
        (404, 'role "x" does not exist', errors.ErrRoleNotFound),
        (404, 'user "x" does not exist', errors.ErrUserNotFound),
        (404, 'role "x" of user "y"', errors.ErrUserNotFound),
        (409, "cluster x[x] already registered", errors.ErrClusterAlreadyRegistered),
        (409, "role x already exists", errors.ErrRoleAlreadyExists),
        (409, "user x already exists", errors.ErrUserAlreadyExists),
        (403, "cannot remove", errors.AuthNError),
        (501, "no", errors.AuthNError),
    ],
)
def test_refusals_become_errors(status: int, message: str, kind: type[errors.AuthNError]) -> None:
    body = json.dumps({"message": message, "status": status}).encode()
    with Peer(answering(lambda _: (status, body))) as peer, pytest.raises(errors.AuthNError) as refused:
        AuthNClient(peer.url).user_manager().get("x")
    error = refused.value
    assert type(error) is kind
    assert isinstance(error, APIRequestError)
    assert not isinstance(error, AISError)
    assert (error.status_code, error.message) == (status, body.decode())
    assert str(error).startswith(f"STATUS:{status}, MESSAGE:{body.decode()}, REQ_URL:{peer.url}/v1/users/x")
    assert type(pickle.loads(pickle.dumps(error))) is kind


def test_missing_ok_swallows_what_is_missing_and_nothing_else() -> None:
    said = ["404", 'user "x" does not exist']
    with Peer(answering(lambda _: (int(said[0]), said[1].encode()))) as peer:
        client = AuthNClient(peer.url)
        client.user_manager().delete("x", missing_ok=True)
        with pytest.raises(errors.ErrUserNotFound):
            client.user_manager().delete("x")
        with pytest.raises(errors.ErrUserNotFound):
            client.role_manager().delete("x", missing_ok=True)
        said[:] = "403", "no"
        with pytest.raises(errors.AuthNError):
            client.user_manager().delete("x", missing_ok=True)


def test_names_do_not_leave_their_place_in_the_path() -> None:
    seen: list[str] = []

    def answer(request: Received) -> tuple[object, ...]:
        seen.append(request.target)
        return 404, b"user "

    with Peer(answering(answer)) as peer, pytest.raises(errors.ErrUserNotFound):
        AuthNClient(peer.url).user_manager().get("a/../b?c")
    assert seen == ["/v1/users/a%2F..%2Fb%3Fc"]


# -- models --


def test_rights_are_told_by_name_without_their_sets() -> None:
    assert AccessAttr.describe(0) == ""
    assert AccessAttr.describe(5 | 1 << 40) == "GET,PUT"
    assert AccessAttr.describe(AccessAttr.ACCESS_SU).split(",") == [one.name for one in BITS]
    assert len(BITS) == 18


def test_seconds_keep_their_fraction() -> None:
    assert LoginMsg(password="p", expires_in=1.5).as_dict() == {"password": "p", "expires_in": 1_500_000_000}
    assert LoginMsg(password="p").as_dict() == {"password": "p", "expires_in": None}


def test_no_password_shows() -> None:
    user = UserInfo(id="a", password="hidden", roles=RolesList([]))
    assert user.dict() == {"id": "a", "roles": [], "pass": "hidden"}
    for shown in (repr(user), str(user), repr(LoginMsg(password="hidden"))):
        assert "hidden" not in shown


def test_masks_that_servers_leave_out_are_none() -> None:
    assert ClusterPermission.model_validate({"id": "x"}).perm == "0"


def test_users_are_found_by_name_and_by_value() -> None:
    alice = UserInfo(id="alice", roles=RolesList([RoleInfo(name="r", desc="")]))
    users = UserMap({"alice": alice})
    assert "alice" in users
    assert alice in users
    assert list(users) == ["alice"]
    assert users.users["alice"].roles.roles[0].name == "r"
    with pytest.warns(DeprecationWarning):
        assert list(UsersList({"alice": alice})) == [alice]


# -- clients --


def test_a_client_logs_in_changes_and_logs_out(authn: AuthnServer) -> None:
    client = AuthNClient(authn.url)
    assert not client.client.token
    assert client.login("admin", PASSWORD, expires_in=60) == client.client.token
    users = client.user_manager()
    users.create("sdk-user", [], "one")
    assert users.list()["sdk-user"] == users.get("sdk-user") == users.update("sdk-user", password="two")
    with pytest.raises(errors.ErrRoleNotFound):
        users.update("sdk-user", roles=["no-such-role"])
    users.delete("sdk-user")
    client.logout()
    assert client.client.token is None


def test_the_asyncio_client_does_the_same(authn: AuthnServer) -> None:
    import asyncio

    async def go() -> None:
        async with AsyncAuthNClient(authn.url) as client:
            await client.login("admin", PASSWORD)
            users = client.user_manager()
            await users.create("aio-user", [], "one")
            assert "aio-user" in await users.list()
            with pytest.raises(errors.ErrUserAlreadyExists):
                await users.create("aio-user", [], "one")
            await users.delete("aio-user")
            assert any(role.admin for role in await client.role_manager().list())
            await client.logout()
            assert client.client.token is None
            with pytest.raises(ValueError, match="logged in"):
                await client.logout()

    asyncio.run(go())


def test_what_a_client_shows_is_not_its_token(authn: AuthnServer) -> None:
    client = AuthNClient(authn.url, token="shown to nobody")
    cluster = Client(authn.url, token="shown to nobody")
    for one in (client, client.client, client.client.transport, cluster):
        assert "nobody" not in repr(one)


# -- token files --


def test_a_token_comes_from_the_file_that_the_environment_names(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(json.dumps({"token": token(admin=True)}))
    monkeypatch.setenv("AIS_AUTHN_TOKEN_FILE", str(file))
    monkeypatch.delenv("AIS_AUTHN_TOKEN", raising=False)
    with Client(guarded.url) as client:
        assert client.cluster().get_uuid() == guarded.uuid
    monkeypatch.setenv("AIS_AUTHN_TOKEN", "wins over the file")
    with Client(guarded.url) as client, pytest.raises(AISError, match="malformed"):
        client.cluster().get_uuid()


def test_a_token_comes_from_where_the_reference_keeps_it(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AIS_AUTHN_TOKEN", "AIS_AUTHN_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Client(guarded.url) as client, pytest.raises(AISError, match="token required"):
        client.cluster().get_uuid()
    file = tmp_path / ".config" / "ais" / "cli" / "auth.token"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"token": token(admin=True)}))
    with Client(guarded.url) as client:
        assert client.cluster().get_uuid() == guarded.uuid


def counted(answers: list[str]) -> tuple[object, list[str]]:
    """A server that accepts one token at a time, and what it was shown."""
    seen: list[str] = []

    def answer(request: Received) -> tuple[object, ...]:
        seen.append(request.headers.get("authorization", ""))
        return (200, b"{}") if seen[-1] == f"Bearer {answers[0]}" else (401, b"token expired")

    return answering(answer), seen


def test_a_refused_token_is_read_again_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    monkeypatch.setenv("AIS_AUTHN_TOKEN_FILE", str(file))
    monkeypatch.delenv("AIS_AUTHN_TOKEN", raising=False)
    good = ["one"]
    script, seen = counted(good)
    with Peer(script) as peer, Client(peer.url) as client:  # type: ignore[arg-type]  # a script
        ask = client.cluster().client.request
        ask("PUT", "x", data=b"body")
        good[0] = "two"
        with pytest.raises(AISError, match="expired"):  # the file is as it was
            ask("GET", "x")
        file.write_text("two")
        ask("PUT", "x", data=b"body")
        ask("GET", "x")
        assert seen == ["Bearer one"] * 3 + ["Bearer two"] * 2
        again = pickle.loads(pickle.dumps(client))
        file.write_text("three")
        good[0] = "three"
        again.cluster().client.request("GET", "x")
    assert seen[-1] == "Bearer three"


def test_the_asyncio_client_reads_it_again_too(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    file = tmp_path / "token"
    file.write_text(token(admin=True, secret="x" * 32))
    monkeypatch.setenv("AIS_AUTHN_TOKEN_FILE", str(file))
    monkeypatch.delenv("AIS_AUTHN_TOKEN", raising=False)

    async def go() -> None:
        async with AsyncClient(guarded.url) as client:
            with pytest.raises(AISError, match="signature"):
                await client.cluster().get_uuid()
            file.write_text(token(admin=True))
            assert await client.cluster().get_uuid() == guarded.uuid

    asyncio.run(go())


@pytest.mark.parametrize("content", [b"{}", b'{"token": 5}', b"[1]x\n\ny", b"\xff\xfe", b'{"token": "a\\nb"}'])
def test_a_file_without_a_token_is_said(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="holds no token"):
        TokenFile(file).read()
