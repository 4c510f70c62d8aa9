"""Revoked tokens: refused by every process of a registered cluster, at once and later."""

from __future__ import annotations

import asyncio
import errno
import json
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from aistore import Client, LocalCluster
from aistore.http1.message import Reply, parse_params
from aistore.sdk import AuthNClient
from aistore.sdk.errors import AISError
from aistore.server.authn.gate import Gate
from aistore.server.authn.pushing import Pushing
from aistore.server.authn.revoked import Revoked
from aistore.server.authn.signing import Signer, new_key
from aistore.server.authn.tokens import digest_of
from aistore.server.authn.trust import WithKey
from aistore.server.store.errors import StoreFull
from aistore.wire import access
from aistore.wire.authn import ClusterAcl
from aistore.wire.errors import ApiError
from faults import Faults, inject
from guarding import PASSWORD, SECRET, As, AuthnServer, Guarded, token
from store_truth import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return inject(monkeypatch)


def test_a_revoked_token_is_refused_by_every_process(there: Guarded, bucket: str) -> None:
    bad = token(there.uuid, access.ALL, jti=uuid.uuid4().hex)
    with As(there.url, bad) as user, there.admin as root:
        assert user.get(bucket, "o").status == 200
        smap = json.loads(root("GET", "/v1/daemon?what=smap").body)
        nodes = {node["public_net"]["direct_url"] for node in smap["tmap"].values()}
        assert all(_get(url, bucket, bad) == 200 for url in nodes)
        body = json.dumps({"tokens": [bad], "version": "0"}).encode()
        assert root("DELETE", "/v1/tokens", body).status == 200
        got = user.get(bucket, "o")
        assert got.status == 401
        assert b"revoked" in got.body
        assert all(_get(url, bucket, bad) == 401 for url in nodes)


def _get(url: str, bucket: str, bearer: str) -> int:
    with As(url, bearer) as user:
        return user.get(bucket, "o").status


def test_what_comes_slowly_counts_when_it_has_come(there: Guarded, bucket: str) -> None:
    bad = token(there.uuid, 0, {bucket: access.DELETE_OBJECT}, jti=uuid.uuid4().hex)
    message = json.dumps({"action": "delete-listrange", "value": {"objnames": ["o", *["x" * 1000] * 100]}}).encode()

    def body() -> Iterator[bytes]:
        yield message[:-1]
        revoked = json.dumps({"tokens": [bad], "version": "0"}).encode()
        assert root("DELETE", "/v1/tokens", revoked).status == 200
        yield message[-1:]

    with As(there.url, bad) as user, there.admin as root:
        assert user("GET", "/v1/tokens").status == 405  # it is known to be good
        got = user("DELETE", f"/v1/buckets/{bucket}", body(), {"Content-Length": str(len(message))})
        assert (got.status, b"revoked" in got.body) == (401, True)
        assert root.get(bucket, "o").status == 200


def test_a_target_that_was_not_told_finds_out_itself() -> None:
    """It may have been starting when the others were told."""
    from types import SimpleNamespace

    noted: dict[str, str] = {}
    node = SimpleNamespace(is_target=True, store=SimpleNamespace(catalog=SimpleNamespace(meta=noted.get)))
    node.smap = SimpleNamespace(uuid="here")
    gate = Gate(node, WithKey(SECRET), Signer(new_key()), lambda _, request: Reply(200))  # type: ignore[arg-type]  # as much of a node as it looks at
    asyncio.run(gate.open())
    bad = token(admin=True)
    noted[f"revoked {digest_of(bad).hex()}"] = str(int(time.time()) + 600)
    request = SimpleNamespace(
        method="GET", path="/v1/daemon", query="", params=parse_params(""), headers={"authorization": f"Bearer {bad}"}
    )
    with pytest.raises(ApiError, match="revoked"):
        gate.answer(request)  # type: ignore[arg-type]  # as above


def test_what_a_version_before_kept_counts(tmp_path: Path) -> None:
    now = int(time.time())

    async def test() -> None:
        async with opened(tmp_path) as store:
            catalog = store.catalog
            old, over, new = (digest_of(text) for text in ("old", "over", "new"))
            await catalog.set_meta({"revoked": json.dumps({old.hex(): now + 600, over.hex(): now - 1})})
            await catalog.set_meta({f"revoked {over.hex()}": str(now - 1)})
            revoked = Revoked(catalog)
            await revoked.take_over()
            await revoked.add({new: now + 600, over: now - 1})
            assert [revoked.holds(one) for one in (old, over, new)] == [True, False, True]
            assert catalog.meta("revoked") is None

    asyncio.run(test())


def test_what_could_not_be_kept_counts(tmp_path: Path, faults: Faults) -> None:
    token = digest_of("t")

    async def test() -> None:
        async with opened(tmp_path) as store:
            revoked = Revoked(store.catalog)
            faults.arm(1, number=errno.ENOSPC, lasting=True)
            with pytest.raises(StoreFull):
                await revoked.add({token: time.time() + 600})
            faults.disarm()
            assert (revoked.holds(token), revoked.keeps(token)) == (True, False)
            await revoked.add({token: time.time() + 600})
            assert revoked.keeps(token)

    asyncio.run(test())


def test_many_tokens_are_told_in_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with all of them could be longer than a cluster takes."""
    told: list[int] = []

    async def ask(self: Pushing, cluster: object, method: str, resource: str, body: bytes) -> Reply:
        told.append(len(json.loads(body)["tokens"]))
        return Reply(200)

    monkeypatch.setattr(Pushing, "_ask", ask)
    pushing = Pushing.__new__(Pushing)
    assert asyncio.run(pushing._tell_tokens(ClusterAcl("here"), ["x"] * 2500)) == ""
    assert told == [1000, 1000, 500]


@pytest.mark.parametrize("targets", [1, 2])
def test_revoked_tokens_stay_so_after_a_restart(
    authn: AuthnServer, monkeypatch: pytest.MonkeyPatch, targets: int
) -> None:
    monkeypatch.setenv("AIS_AUTHN_SECRET_KEY", SECRET)
    bad = token(admin=True, subject="thief")
    with LocalCluster(authn=authn.url, etl=False, targets=targets) as cluster:
        with As(cluster.url, token(admin=True)) as root:
            assert root("DELETE", "/v1/tokens", json.dumps({"tokens": [bad]}).encode()).status == 200
        cluster.restart()
        with As(cluster.url, bad) as thief, As(cluster.url, token(admin=True)) as root:
            assert thief("GET", "/v1/daemon?what=smap").status == 401
            smap = json.loads(root("GET", "/v1/daemon?what=smap").body)
        for node in smap["tmap"].values():
            assert _get(node["public_net"]["direct_url"], "nothing-here", bad) in (401, 404)
            with As(node["public_net"]["direct_url"], bad) as thief:
                assert thief("GET", "/v1/daemon?what=smap").status == 401


def test_logging_out_is_known_to_a_registered_cluster_at_once(authn: AuthnServer, guarded: Guarded) -> None:
    client = AuthNClient(authn.url)
    bearer = client.login("admin", PASSWORD)
    clusters = client.cluster_manager()
    clusters.register("logout", [guarded.url])
    try:
        leaving = AuthNClient(authn.url)
        left = leaving.login("admin", PASSWORD)
        cluster = Client(guarded.url, token=left).cluster()
        assert cluster.get_uuid() == guarded.uuid
        leaving.logout()
        with pytest.raises(AISError, match="revoked") as refused:
            cluster.get_uuid()
        assert refused.value.status_code == 401
    finally:
        clusters.delete(cluster_alias="logout")
    assert Client(guarded.url, token=bearer).cluster().get_uuid() == guarded.uuid


def test_a_cluster_that_is_registered_is_told_what_was_revoked_before(authn: AuthnServer, guarded: Guarded) -> None:
    client = AuthNClient(authn.url)
    client.login("admin", PASSWORD)
    bad = AuthNClient(authn.url).login("admin", PASSWORD)
    client.token_manager().revoke(bad)
    with As(guarded.url, bad) as thief:
        assert thief("GET", "/v1/daemon?what=smap").status == 200
        client.cluster_manager().register("before", [guarded.url])
        try:
            assert thief("GET", "/v1/daemon?what=smap").status == 401
        finally:
            client.cluster_manager().delete(cluster_alias="before")


def test_a_cluster_with_another_secret_is_not_registered(
    authn: AuthnServer, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIS_AUTHN_SECRET_KEY", "another secret, which is long enough, too")
    client = AuthNClient(authn.url)
    client.login("admin", PASSWORD)
    with LocalCluster(authn=authn.url, etl=False) as other, As(authn.url, client.client.token) as admin:
        body = json.dumps({"id": "other", "alias": "other", "urls": [other.url]}).encode()
        got = admin("POST", "/v1/clusters", body)
    assert got.status == 400
    assert b"failed to validate-signer" in got.body
    assert "other" not in client.cluster_manager().list().clusters
