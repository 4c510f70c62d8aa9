"""Access keys: what users of S3 sign with, from the AuthN server that makes them to the clusters that check."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from aistore import LocalCluster
from aistore.aio import AsyncAuthNClient
from aistore.sdk import AuthNClient
from aistore.sdk.authn import errors
from aistore.sdk.authn.access_attr import AccessAttr
from aistore.server.authn.pushing import Pushing
from aistore.wire.authn import ClusterAcl
from aistore.wire.errors import ApiError
from guarding import PASSWORD, SECRET, As, AuthnServer, Guarded, token
from s3.conftest import boto_client, with_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Clients = Callable[[str, str, str | None], Any]


@pytest.fixture(scope="module")
def alias(there: Guarded) -> str:
    """The cluster's own: roles outlive it."""
    return f"c-{hash(there.uuid) & 0xFFFFFFFF:08x}"


@pytest.fixture(scope="module")
def admin(authn: AuthnServer, there: Guarded, alias: str) -> Iterator[AuthNClient]:
    """An administrator of the AuthN server that the cluster is registered with."""
    client = AuthNClient(authn.url)
    client.login("admin", PASSWORD)
    client.cluster_manager().register(alias, [there.url])
    yield client
    client.cluster_manager().delete(cluster_alias=alias)


@pytest.fixture
def reader(admin: AuthNClient, bucket: str, alias: str) -> Iterator[str]:
    """A user who may read the bucket, and nothing else."""
    admin.role_manager().create("s3-reader", "", alias, [AccessAttr.ACCESS_RO], bucket_name=bucket)
    admin.user_manager().create("s3-alice", ["s3-reader"], "pw")
    yield "s3-alice"
    admin.user_manager().delete("s3-alice", missing_ok=True)
    admin.role_manager().delete("s3-reader", missing_ok=True)


@pytest.fixture
def s3_of() -> Iterator[Clients]:
    """Makes clients of boto3, by URL, key and secret."""
    with contextlib.ExitStack() as made:

        def make(url: str, key: str, secret: str | None) -> Any:
            assert secret
            return made.enter_context(
                contextlib.closing(boto_client(f"{url}/s3", key, secret, signature_version="s3v4"))
            )

        yield make


def code(what: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as raised:
        what(**arguments)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return str(raised.value.response["Error"]["Code"])


def test_a_key_may_what_its_user_may_until_it_is_deleted(
    authn: AuthnServer, there: Guarded, reader: str, bucket: str, s3_of: Clients
) -> None:
    alice = AuthNClient(authn.url)
    alice.login(reader, "pw")
    keys = alice.access_key_manager()
    key = keys.create()
    s3 = s3_of(there.url, key.id, key.secret)
    assert s3.get_object(Bucket=bucket, Key="o")["Body"].read() == b"content"
    assert code(s3.put_object, Bucket=bucket, Key="n", Body=b"1") == "AccessDenied"
    assert code(s3.list_buckets) == "AccessDenied"
    wrong = s3_of(there.url, key.id, "wrong")
    assert code(wrong.get_object, Bucket=bucket, Key="o") == "SignatureDoesNotMatch"
    assert [(one.id, one.secret) for one in keys.list()] == [(key.id, None)]
    assert str(key.secret) not in repr(key)
    keys.delete(key.id)
    assert code(s3.get_object, Bucket=bucket, Key="o") == "InvalidAccessKeyId"
    with pytest.raises(errors.ErrAccessKeyNotFound):
        keys.delete(key.id)
    keys.delete(key.id, missing_ok=True)


def test_what_a_role_grants_counts_at_once(
    admin: AuthNClient, there: Guarded, alias: str, reader: str, bucket: str, s3_of: Clients
) -> None:
    key = admin.access_key_manager().create(reader)
    s3 = s3_of(there.url, key.id, key.secret)
    admin.role_manager().update("s3-reader", "", alias, [AccessAttr.ACCESS_RW], bucket)
    s3.put_object(Bucket=bucket, Key="new", Body=b"1")
    admin.role_manager().delete("s3-reader")
    assert code(s3.get_object, Bucket=bucket, Key="o") == "InvalidAccessKeyId"  # it is good for nothing here
    admin.user_manager().update(reader, roles=[f"Guest-{alias}"])
    s3.get_object(Bucket=bucket, Key="o")
    admin.user_manager().delete(reader)
    assert code(s3.get_object, Bucket=bucket, Key="o") == "InvalidAccessKeyId"


def test_keys_of_others_are_for_administrators(authn: AuthnServer, admin: AuthNClient, reader: str) -> None:
    of_admin = admin.access_key_manager().create()
    alice = AuthNClient(authn.url)
    alice.login(reader, "pw")
    keys = alice.access_key_manager()
    assert keys.list() == []
    with pytest.raises(errors.ErrAccessKeyNotFound):
        keys.delete(of_admin.id)
    with pytest.raises(errors.AuthNError):
        keys.create("admin")
    with pytest.raises(errors.AuthNError):
        AuthNClient(authn.url).access_key_manager().list()
    with pytest.raises(errors.ErrUserNotFound):
        admin.access_key_manager().create("nobody")
    for seconds in (1.0, -5.0, 91 * 86400.0):
        with pytest.raises(errors.AuthNError):
            keys.create(expires_in=seconds)
    assert {one.user for one in admin.access_key_manager().list()} >= {"admin"}
    admin.access_key_manager().delete(of_admin.id)


def test_the_asyncio_client_does_the_same(authn: AuthnServer, admin: AuthNClient) -> None:
    async def go() -> None:
        async with AsyncAuthNClient(authn.url, token=admin.client.token) as client:
            keys = client.access_key_manager()
            made = await keys.create(expires_in=3600)
            assert made.secret
            assert abs(made.expires - time.time() - 3600) < 600
            assert made.id in [one.id for one in await keys.list()]
            await keys.delete(made.id)
            with pytest.raises(errors.ErrAccessKeyNotFound):
                await keys.delete(made.id)

    asyncio.run(go())


# -- clusters that come, go and are away --


class Told(ThreadingHTTPServer):
    """A cluster that remembers the access keys that it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Listens)
        self.keys: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Listens(BaseHTTPRequestHandler):
    server: Told

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/access-keys":
            self.server.keys = json.loads(body)["keys"]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def told() -> Iterator[Told]:
    with Told() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_a_cluster_is_told_of_a_key_is_good_nowhere_else(
    authn: AuthnServer, admin: AuthNClient, there: Guarded, told: Told
) -> None:
    """Not even at the AuthN server, where the token of an administrator would make it one; and it forgets when it leaves."""
    with As(authn.url, admin.client.token) as root:
        known = json.dumps({"id": "curious", "alias": "curious", "urls": [told.url]}).encode()
        assert root("POST", "/v1/clusters", known).status == 200
        key = admin.access_key_manager().create()
        try:
            (bearer,) = [one["token"] for one in told.keys if one["id"] == key.id]
        finally:
            assert root("DELETE", "/v1/clusters/curious").status == 200
            admin.access_key_manager().delete(key.id)
    assert told.keys == []
    with As(authn.url, bearer) as thief:
        assert thief("GET", "/v1/users").status == 401
    with As(there.url, bearer) as thief:
        assert thief("GET", "/v1/daemon?what=smap").status == 401


def test_the_token_of_a_key_counts_only_with_a_signature(there: Guarded, s3_of: Clients) -> None:
    bearer = token(admin=True, access_key="AISK", aud=[there.uuid])
    s3_of(there.url, *with_key(there, bearer)).list_buckets()
    assert code(s3_of(there.url, *with_key(there, token(admin=True, access_key="AISK", aud=["other"]))).list_buckets)
    with As(there.url, bearer) as thief:
        assert thief("GET", "/v1/daemon?what=smap").status == 401
        assert thief("GET", "/s3", headers={"X-Amz-Security-Token": bearer, "Authorization": ""}).status == 403


def test_a_ca_that_cannot_be_read_is_an_answer_that_did_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that clusters are told again when it is there, and not never."""
    monkeypatch.setenv("AIS_CLIENT_CA", "/not/there.pem")
    service: Any = SimpleNamespace(external_url="", own_cluster=None, keys=SimpleNamespace(sign=lambda _: "token"))
    with pytest.raises(ApiError, match=r"status 502: the CA /not/there\.pem"):
        asyncio.run(Pushing(service).shake_hands(ClusterAcl("c", urls=["https://127.0.0.1:9"])))


def test_keys_outlive_restarts_and_catch_up(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[[Callable[[], object], str], None],
    s3_of: Clients,
) -> None:
    """A cluster asks nobody when it starts, and what it missed while it was away it is told when it is back."""
    monkeypatch.setenv("AIS_AUTHN_SECRET_KEY", SECRET)
    server = AuthnServer(tmp_path / "authn")
    try:
        admin = AuthNClient(server.url)
        admin.login("admin", PASSWORD)
        keys = admin.access_key_manager()
        before = keys.create()
        with LocalCluster(tmp_path / "data", authn=server.url, etl=False) as cluster:
            url = cluster.url
            admin.cluster_manager().register("here", [url])
            s3_of(url, before.id, before.secret).create_bucket(Bucket="kept")
        server.stop()
        with LocalCluster(tmp_path / "data", authn=server.url, etl=False, port=port_of(url)):
            s3_of(url, before.id, before.secret).head_bucket(Bucket="kept")
        server = AuthnServer(tmp_path / "authn", port=port_of(server.url))
        keys.delete(before.id)
        revoked = AuthNClient(server.url).login("admin", PASSWORD)
        admin.token_manager().revoke(revoked)
        after = keys.create()
        with LocalCluster(tmp_path / "data", authn=server.url, etl=False, port=port_of(url)):
            known = s3_of(url, after.id, after.secret)
            wait_until(lambda: _is_known(known), "the cluster to know the new key")
            assert not _is_known(s3_of(url, before.id, before.secret))
            with As(url, revoked) as thief:
                assert thief("GET", "/v1/daemon?what=smap").status == 401
    finally:
        server.stop()


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def _is_known(s3: Any) -> bool:
    try:
        s3.list_buckets()
    except ClientError:
        return False
    return True


def test_the_command_logs_in_and_makes_keys(
    authn: AuthnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aistore.cli.main import main

    file = tmp_path / "config" / "token"
    monkeypatch.setenv("AIS_AUTHN_TOKEN_FILE", str(file))
    monkeypatch.delenv("AIS_AUTHN_TOKEN", raising=False)
    monkeypatch.setenv("AIS_AUTHN_URL", authn.url)
    assert main(["authn", "key", "ls"]) == 1
    assert "ais authn login" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("wrong\n"))
    assert main(["authn", "login", "admin"]) == 1
    assert "invalid credentials" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    file.parent.mkdir()
    others = [file.with_name(name) for name in ("token.new", f"token.{os.getpid()}")]
    for other in others:
        other.symlink_to(tmp_path / "of somebody else")  # who would read it there
    assert main(["authn", "login", "admin"]) == 0
    assert not (tmp_path / "of somebody else").exists()
    assert all(other.is_symlink() for other in others)  # nor is it of somebody who logs in at the same time
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["token"]
    capsys.readouterr()
    assert main(["authn", "key", "create", "--days", "7"]) == 0
    made = dict(line.split("=") for line in capsys.readouterr().out.splitlines())
    assert len(made["AWS_SECRET_ACCESS_KEY"]) == 40
    assert main(["authn", "key", "ls"]) == 0
    assert made["AWS_ACCESS_KEY_ID"] in capsys.readouterr().out
    assert main(["authn", "key", "rm", made["AWS_ACCESS_KEY_ID"]]) == 0
    assert main(["authn", "key", "rm", made["AWS_ACCESS_KEY_ID"]]) == 1
    assert main(["authn", "logout"]) == 0
    assert not file.exists()
