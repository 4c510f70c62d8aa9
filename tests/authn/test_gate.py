"""Around the gate: tokens that are refused, ways round it that there are not, and what it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from aistore import Client, LocalCluster
from aistore.http1.message import Reply, parse_params
from aistore.sdk import AuthNClient
from aistore.sdk.authn.errors import AuthNError
from aistore.sdk.errors import AISError
from aistore.server.authn.gate import Gate
from aistore.server.authn.keys import new_private_key, public_half
from aistore.server.authn.signing import Signer, new_key
from aistore.server.authn.tokens import digest_of, sign
from aistore.server.authn.trust import Published, WithKey
from aistore.server.settings import ServerSettings, SettingsError
from aistore.server.spawn import ServerStartError
from aistore.wire import access
from aistore.wire.errors import ApiError
from aistore.wire.values import base36
from guarding import PASSWORD, SECRET, As, AuthnServer, Guarded, token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import SimpleNamespace


@pytest.fixture(scope="module")
def bucket(there: Guarded) -> Iterator[str]:
    name = f"gate-{uuid.uuid4().hex[:8]}"
    with there.admin as root:
        root.make_bucket(name)
        assert root.put(name, "o", b"content").status == 200
    yield name
    with there.admin as root:  # the server has closed the first one's connection by then
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


# -- whose entry counts --


def test_the_entry_of_a_bucket_counts_alone(there: Guarded, bucket: str) -> None:
    with there.having(access.ALL, {bucket: access.PUT}) as user:
        assert user.get(bucket, "o").status == 403
    with there.having(0, {bucket: access.GET}) as user:
        assert user.get(bucket, "o").status == 200
        assert user.put(bucket, "n", b"1").status == 403


def test_the_entry_for_any_cluster_counts_where_there_is_no_own_one(there: Guarded, bucket: str) -> None:
    anywhere = {"id": "", "perm": str(access.GET)}
    other = {"id": "another", "perm": str(access.ALL)}
    here = {"id": there.uuid, "perm": str(access.PUT)}
    for entries, status in (([anywhere], 200), ([anywhere, here], 403), ([other], 403)):
        with As(there.url, token(clusters=entries)) as user:
            assert user.get(bucket, "o").status == status


def test_the_right_of_administrators_is_no_right_on_objects(there: Guarded, bucket: str) -> None:
    with there.having(access.ADMIN) as user:
        assert user.get(bucket, "o").status == 403


def test_a_mask_of_the_bucket_binds_administrators_who_can_take_it_back(there: Guarded) -> None:
    name = f"mask-{uuid.uuid4().hex[:8]}"
    with there.admin as root:
        root.make_bucket(name)
        assert root.action("PATCH", f"/v1/buckets/{name}", "set-bprops", {"access": str(access.GET)}).status == 200
        assert root.put(name, "o", b"1").status == 403
        assert root("HEAD", f"/v1/buckets/{name}").status == 403
        mask = str(access.ALL)
        assert root.action("PATCH", f"/v1/buckets/{name}", "set-bprops", {"access": mask}).status == 200
        assert root.put(name, "o", b"1").status == 200
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


def test_buckets_of_the_system_are_for_administrators(there: Guarded) -> None:
    with there.having(access.ALL & ~access.ADMIN) as user, there.admin as root:
        for who, known in ((user, {403, 404}), (root, {200, 404})):
            assert who("HEAD", "/v1/buckets/.sys-inventory").status in known


def test_the_configuration_tells_that_tokens_are_asked_for_and_cannot_end_it(there: Guarded) -> None:
    with there.admin as root:
        told = json.loads(root("GET", "/v1/cluster?what=cluster_config").body)["auth"]
        assert told == {"enabled": True, "client_auth_required": True}
        for off in ({"auth": {"enabled": False}}, {"auth": {"client_auth_required": False}}):
            assert root.action("PUT", "/v1/cluster", "set-config", off).status == 501
        assert root("PUT", "/v1/cluster/set-config?auth.enabled=false").status == 501
    with As(there.url, None) as stranger:
        assert stranger("GET", "/v1/daemon?what=smap").status == 401


# -- which tokens --


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_without_a_token_nothing_is_done(there: Guarded, bucket: str, method: str) -> None:
    with As(there.url, None) as stranger, there.admin as root:
        got = stranger(method, f"/v1/objects/{bucket}/o", b"other" if method == "PUT" else None)
        assert got.status == 401
        if method == "HEAD":
            assert json.loads(got.headers["Hdr-Error"])["message"] == "token required"
        assert root.get(bucket, "o").body == b"content"


def test_the_words_of_a_refusal_do_not_show_the_token(there: Guarded, bucket: str) -> None:
    bad = token(secret="x" * 32)
    with As(there.url, bad) as stranger:
        got = stranger.get(bucket, "o")
    assert got.status == 401
    assert bad.split(".")[2].encode() not in got.body


def test_a_good_token_that_expires_is_refused(there: Guarded, bucket: str) -> None:
    until = int(time.time()) + 3
    with As(there.url, token(there.uuid, access.ALL, exp=until)) as user:
        assert user.get(bucket, "o").status in (200, 401)  # a slow machine may take as long
        while time.time() <= until:
            time.sleep(0.05)
        assert user.get(bucket, "o").status == 401


def test_easy_urls_and_surplus_slashes_are_no_way_round(there: Guarded, bucket: str) -> None:
    paths = (
        f"/ais/{bucket}/o",
        f"//v1/objects/{bucket}/o",
        f"/s3/{bucket}/o",
        f"/s3//{bucket}/o",
        f"//s3/{bucket}/o",
        f"/v1/objects/{bucket}//o",
    )
    with As(there.url, None) as stranger, there.having(access.CLUSTER_READ) as user, there.admin as root:
        for path in paths:
            assert stranger("GET", path).status in (401, 403), path
            assert user("GET", path).status == 403, path
            assert root("GET", path).status == 200, path


def test_names_are_read_without_regard_to_case_where_the_call_reads_them_so(there: Guarded, bucket: str) -> None:
    """A destination that the check overlooks would be written to."""
    value = {"objnames": ["o"], "TOBCK": {"name": "nowhere-else", "provider": "ais"}}
    with there.having(0, {bucket: access.WRITE}) as user:
        assert user.action("POST", f"/v1/buckets/{bucket}", "copy-listrange", value).status in (400, 403)
    with there.admin as root:
        assert root("HEAD", "/v1/buckets/nowhere-else").status == 404


def test_encoded_names_of_parameters_are_no_way_round(there: Guarded, bucket: str) -> None:
    """A copy whose destination the check overlooks."""
    other = f"other-{uuid.uuid4().hex[:8]}"
    with there.admin as root, there.having(0, {bucket: access.WRITE}) as user:
        root.make_bucket(other)
        for name in ("object_to", "object%5Fto", "%6fbject_to", "object%5fto"):
            got = user("PUT", f"/v1/objects/{bucket}/o?{name}=ais/@%23/{other}/stolen")
            assert got.status == 403, name
        assert root.names(other) == []
        root.action("DELETE", f"/v1/buckets/{other}", "destroy-bck")


def test_a_message_longer_than_what_is_read_at_once_is_checked_too(there: Guarded, bucket: str) -> None:
    names = {"objnames": ["x" * 500 + str(number) for number in range(400)] + ["o"]}
    with there.having(0, {bucket: access.READ}) as user, there.admin as root:
        assert user.action("DELETE", f"/v1/buckets/{bucket}", "delete-listrange", names).status == 403
        assert root.get(bucket, "o").status == 200


# -- targets --


def test_a_redirect_is_good_for_what_was_asked_and_for_nothing_else(guarded3: Guarded) -> None:
    name = f"redirect-{uuid.uuid4().hex[:8]}"
    with guarded3.admin as root, guarded3.having(0, {name: access.GET | access.HEAD_OBJECT}) as user:
        root.make_bucket(name)
        assert root.put(name, "o", b"content").status == 200
        connection = http.client.HTTPConnection(urlsplit(guarded3.url).netloc)
        shown = {"Authorization": f"Bearer {token(guarded3.uuid, 0, {name: access.GET})}"}
        connection.request("GET", f"/v1/objects/{name}/o", headers=shown)
        location = urlsplit(connection.getresponse().headers["Location"])
        connection.close()
        with As(f"http://{location.netloc}", None) as stranger:
            path, query = location.path, location.query
            assert stranger("GET", f"{path}?{query}").body == b"content"
            assert stranger("HEAD", f"{path}?{query}").status == 403
            assert stranger("PUT", f"{path}?{query}", b"x").status == 403
            assert stranger("DELETE", f"{path}?{query}").status == 403
            assert stranger("GET", f"{path}x?{query}").status == 403
            assert stranger("GET", f"{path}?{query}&etl_name=x").status == 403
            unsigned = urlencode([pair for pair in parse_qsl(query) if pair[0] != "sig"])
            assert stranger("GET", f"{path}?{unsigned}").status == 401
            assert stranger("GET", f"{path}?{unsigned}&sig=x").status == 403
            assert stranger("PUT", f"{path}?{unsigned}", b"x").status == 401
        with As(f"http://{location.netloc}", token(guarded3.uuid, 0, {name: access.GET})) as direct:
            assert direct.get(name, "o").body == b"content"
            assert direct("PUT", f"{path}?{unsigned}", b"x").status == 403
        assert user.get(name, "o").body == b"content"
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


def test_the_message_of_a_redirect_is_not_changed(guarded3: Guarded) -> None:
    """What may look at a lock may not rename."""
    name = f"message-{uuid.uuid4().hex[:8]}"
    with guarded3.admin as root:
        root.make_bucket(name)
        assert root.put(name, "o", b"content").status == 200
        connection = http.client.HTTPConnection(urlsplit(guarded3.url).netloc)
        shown = {"Authorization": f"Bearer {token(guarded3.uuid, 0, {name: access.READ})}"}
        asked = json.dumps({"action": "check-lock"}).encode()
        connection.request("POST", f"/v1/objects/{name}/o", asked, shown)
        location = urlsplit(connection.getresponse().headers["Location"])
        connection.close()
        other = json.dumps({"action": "rename-obj", "name": "else"}).encode()
        with As(f"http://{location.netloc}", None) as stranger:
            assert stranger("POST", f"{location.path}?{location.query}", other).status == 403
            assert stranger("POST", f"{location.path}?{location.query}", asked).status == 200
        assert root.get(name, "o").status == 200
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


def asked_at(moment: int) -> tuple[Signer, SimpleNamespace]:
    from types import SimpleNamespace

    signer = Signer(new_key())
    query = signer.marked("GET", "/v1/objects/b/o", "a=1", "p", since=base36(moment))
    return signer, SimpleNamespace(method="GET", path="/v1/objects/b/o", query=query, params=parse_params(query))


@pytest.mark.parametrize(("age", "good"), [(0, True), (50, True), (70, False), (-70, False)])
def test_a_signature_lasts_a_minute(age: int, good: bool) -> None:
    signer, request = asked_at(time.time_ns() - age * 1_000_000_000)
    assert signer.is_good(request) is good  # type: ignore[arg-type]  # as much of a request as it looks at


def test_a_signature_of_another_cluster_is_not_good() -> None:
    _, request = asked_at(time.time_ns())
    assert not Signer(new_key()).is_good(request)  # type: ignore[arg-type]


def test_the_gateway_asks_its_targets(guarded3: Guarded) -> None:
    """Calls that a gateway relays need its signature, not a token."""
    with guarded3.having(access.SHOW_CLUSTER) as user:
        found = json.loads(user("GET", "/v1/cluster?what=sysinfo").body)
        smap = json.loads(user("GET", "/v1/daemon?what=smap").body)
        assert found["target"].keys() == smap["tmap"].keys()
        for target in smap["tmap"]:
            got = user("GET", "/v1/reverse/daemon?what=snode", headers={"Ais-Node-Id": target})
            assert json.loads(got.body)["daemon_id"] == target


# -- revoked tokens --


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


def test_a_target_that_was_not_told_finds_out_itself() -> None:
    """It may have been starting when the others were told."""
    from types import SimpleNamespace

    noted: dict[str, str] = {}
    node = SimpleNamespace(is_target=True, store=SimpleNamespace(catalog=SimpleNamespace(meta=noted.get)))
    node.smap = SimpleNamespace(uuid="here")
    gate = Gate(node, WithKey(SECRET), Signer(new_key()), lambda _, request: Reply(200))  # type: ignore[arg-type]  # as much of a node as it looks at
    asyncio.run(gate.open())
    bad = token(admin=True)
    noted["revoked"] = json.dumps({digest_of(bad).hex(): time.time() + 600})
    request = SimpleNamespace(
        method="GET", path="/v1/daemon", query="", params=parse_params(""), headers={"authorization": f"Bearer {bad}"}
    )
    with pytest.raises(ApiError, match="revoked"):
        gate.answer(request)  # type: ignore[arg-type]  # as above


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


# -- starts --


def test_what_the_authn_server_shows_to_a_cluster_is_for_that_cluster(authn: AuthnServer, guarded: Guarded) -> None:
    """Whoever runs another one, or listens there, has seen it."""
    for audience, good in (([guarded.uuid], True), (["another"], False), (..., False)):
        shown = token(admin=True, subject="AuthN", aud=audience)
        with As(guarded.url, shown) as cluster, As(authn.url, shown) as server:
            assert (cluster("POST", "/v1/tokens", b"{}").status == 200) is good
            assert server("GET", "/v1/users").status == 401
    admin = AuthNClient(authn.url)
    admin.login("admin", PASSWORD)
    with pytest.raises(AuthNError):
        admin.user_manager().create("AuthN", [], "x")


def test_keys_are_learned_from_a_server_that_publishes_them(
    tmp_path: Path, wait_until: Callable[[Callable[[], object], str], None]
) -> None:
    """Also those that it makes later, and also when it was away at the start."""
    server = AuthnServer(tmp_path / "authn", secret="")
    port = urlsplit(server.url).port or 0
    client = AuthNClient(server.url)
    before = client.login("admin", PASSWORD)
    server.stop()
    with LocalCluster(authn=server.url, etl=False, targets=2) as cluster, As(cluster.url, before) as user:
        assert user("GET", "/v1/daemon?what=smap").status == 401
        server = AuthnServer(tmp_path / "authn", secret="", port=port)
        try:
            wait_until(lambda: user("GET", "/v1/daemon?what=smap").status == 200, "the keys are there")
            with As(cluster.url, token(admin=True)) as forger:
                assert forger("GET", "/v1/daemon?what=smap").status == 401
            with As(server.url, before) as admin:
                assert admin("POST", "/v1/rotate-key").status == 200
            after = client.login("admin", PASSWORD)
            bucket = Client(cluster.url, token=before).bucket("b").create()
            bucket.object("o").get_writer().put_content(b"1")
        finally:
            server.stop()
        # Within half a minute it asks nobody: who knows the older key goes on.
        with As(cluster.url, after) as late:
            assert late("GET", "/v1/daemon?what=smap").status == 401
        assert user.get("b", "o").body == b"1"


def test_a_key_that_is_not_known_is_asked_for_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    server = AuthnServer(tmp_path / "authn", secret="")
    try:
        client = AuthNClient(server.url)
        before = client.login("admin", PASSWORD)

        async def go() -> None:
            trust = Published(server.url)
            assert trust.may_learn(before)
            await trust.learn()
            assert not trust.may_learn(before)
            with As(server.url, before) as admin:
                assert admin("POST", "/v1/rotate-key").status == 200
            after = client.login("admin", PASSWORD)
            monkeypatch.setattr(trust, "_not_before", time.monotonic() + 3600)
            assert not trust.may_learn(after)  # it was asked just before
            monkeypatch.setattr(trust, "_not_before", 0.0)
            assert trust.may_learn(after)
            await asyncio.gather(trust.learn(), trust.learn())
            assert {trust.verifier.verify(one).subject for one in (before, after)} == {"admin"}

        asyncio.run(go())
    finally:
        server.stop()


def test_a_public_key_that_is_given_is_enough(authn: AuthnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = new_private_key()
    public = public_half(pair)
    monkeypatch.delenv("AIS_AUTHN_SECRET_KEY", raising=False)
    monkeypatch.setenv("AIS_AUTHN_PUBLIC_KEY", public.pem)
    claims: dict[str, object] = {"sub": "root", "admin": True, "exp": int(time.time()) + 600}
    with LocalCluster(authn=authn.url, etl=False, targets=2) as cluster:
        with As(cluster.url, sign(claims, pair, public.kid)) as root:
            root.make_bucket("b")
            assert root.put("b", "o", b"1").status == 200
            assert root.get("b", "o").body == b"1"
        with As(cluster.url, token(admin=True)) as forger:
            assert forger.get("b", "o").status == 401


def test_a_server_that_signs_with_a_secret_publishes_no_key(
    authn: AuthnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIS_AUTHN_SECRET_KEY", raising=False)
    with pytest.raises(ServerStartError, match="AIS_AUTHN_SECRET_KEY"):
        LocalCluster(authn=authn.url, etl=False).start()


def test_keys_do_not_come_over_a_network_that_others_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIS_AUTHN_SECRET_KEY", raising=False)
    with pytest.raises(ServerStartError, match="https"):
        LocalCluster(authn="http://192.0.2.1:52001", etl=False).start()


def test_transformers_are_for_administrators_and_transformed_objects_for_readers(
    authn: AuthnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aistore.sdk.etl import ETLConfig
    from aistore.sdk.etl.webserver import HTTPMultiThreadedServer

    class Upper(HTTPMultiThreadedServer):
        def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
            assert isinstance(data, bytes)
            return data.upper()

    monkeypatch.setenv("AIS_AUTHN_SECRET_KEY", SECRET)
    with LocalCluster(authn=authn.url, targets=2) as cluster:
        root = Client(cluster.url, token=token(admin=True))
        uuid = root.cluster().get_uuid()
        root.bucket("b").create().object("o").get_writer().put_content(b"one")
        for mask in (access.ALL & ~access.ADMIN, access.READ):
            with pytest.raises(AISError) as refused:
                Client(cluster.url, token=token(uuid, mask)).etl("etl-upper").init_class()(Upper)
            assert refused.value.status_code == 403
        root.etl("etl-upper").init_class()(Upper)
        mine = Client(cluster.url, token=token(uuid, 0, {"b": access.GET})).bucket("b").object("o")
        assert mine.get_reader(etl=ETLConfig("etl-upper")).read_all() == b"ONE"
        with pytest.raises(AISError) as refused:
            Client(cluster.url, token=token(uuid, 0, {"b": access.PUT})).bucket("b").object("o").get_reader(
                etl=ETLConfig("etl-upper")
            ).read_all()
        assert refused.value.status_code == 403
        job = root.bucket("b").transform(etl_name="etl-upper", to_bck=root.bucket("c"))
        root.job(job).wait()
        assert root.bucket("c").object("o").get_reader().read_all() == b"ONE"


def test_web_pages_are_kept_from_the_authn_server(authn: AuthnServer) -> None:
    with As(authn.url, None) as page:
        assert page("GET", "/v1/clusters").status == 200
        assert page("GET", "/v1/clusters", None, {"Host": "evil.example"}).status == 421
        assert page("POST", "/v1/users/admin", b"{}", {"Origin": "http://evil.example"}).status == 403


def test_an_authn_server_of_its_own(tmp_path: Path) -> None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("AIS_")}
    command = [sys.executable, "-m", "aistore.cli.main", "serve", str(tmp_path / "data"), "--port", "0", "--no-etl"]
    command += ["--authn", "local", "--authn-port", "0", "--targets", "2"]
    with subprocess.Popen(
        command, env={**environment, "AIS_AUTHN_SU_PASS": "pw"}, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            said: dict[str, str] = {}
            for line in server.stdout:
                said[line.split()[0]] = line.split()[-1]
                if line.startswith("Stop it"):
                    break
            client = AuthNClient(said["tokens"])
            client.login("admin", "pw")
            root = Client(said["url"], token=client.client.token)
            bucket = root.bucket("b").create()
            bucket.object("o").get_writer().put_content(b"1")
            (info,) = client.cluster_manager().list().clusters.values()
            assert info.id == root.cluster().get_uuid()
            client.user_manager().create("guest", [f"Guest-{info.id}"], "x")
            guest = AuthNClient(said["tokens"])
            mine = Client(said["url"], token=guest.login("guest", "x")).bucket("b")
            assert mine.object("o").get_reader().read_all() == b"1"
            with pytest.raises(AISError) as refused:
                mine.object("o").delete()
            assert refused.value.status_code == 403
            guest.logout()
            with pytest.raises(AISError) as refused:
                mine.object("o").get_reader().read_all()
            assert refused.value.status_code == 401
        finally:
            server.terminate()


def test_a_new_secret_of_a_server_of_its_own_ends_tokens_in_every_process(
    tmp_path: Path, wait_until: Callable[[Callable[[], object], str], None]
) -> None:
    """Also those that were seen before, and those that were never shown to a target."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("AIS_")}
    environment |= {"AIS_AUTHN_SU_PASS": "pw", "AIS_AUTHN_SECRET_KEY": SECRET}
    command = [sys.executable, "-m", "aistore.cli.main", "serve", str(tmp_path / "data"), "--port", "0", "--no-etl"]
    command += ["--authn", "local", "--authn-port", "0", "--targets", "2"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said: dict[str, str] = {}
            for line in server.stdout:
                said[line.split()[0]] = line.split()[-1]
                if line.startswith("Stop it"):
                    break
            client = AuthNClient(said["tokens"])
            old = client.login("admin", "pw")
            with As(said["url"], old) as root:
                root.make_bucket("b")
                targets = json.loads(root("GET", "/v1/daemon?what=smap").body)["tmap"].values()
                urls = [said["url"], *(one["public_net"]["direct_url"] for one in targets)]
            assert [status_at(url, old) for url in urls] == [404] * 3
            with As(said["tokens"], old) as root:
                changed = json.dumps({"auth": {"secret": "n" * 40}}).encode()
                assert root("PUT", "/v1/daemon", changed).status == 200
            assert status_at(urls[0], old) == 401
            new = AuthNClient(said["tokens"]).login("admin", "pw")
            for url in urls:
                wait_until(partial(accepts, url, new), f"{url} to know the new secret")
                assert status_at(url, old) == 401
        finally:
            server.terminate()


def accepts(url: str, bearer: str) -> bool:
    return status_at(url, bearer) == 404


def status_at(url: str, bearer: str) -> int:
    """What a node says of an object that there is not; 0 while it does not answer."""
    with contextlib.suppress(OSError, http.client.HTTPException), As(url, bearer) as caller:
        return caller("GET", "/v1/objects/b/o").status
    return 0


def test_a_wide_open_server_has_to_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--allow-remote"):
        ServerSettings(tmp_path, host="0.0.0.0")
    ServerSettings(tmp_path, host="0.0.0.0", authn="local")
    with pytest.raises(SettingsError):
        ServerSettings(tmp_path, authn="nonsense")


def test_no_secret_shows_where_others_look(authn: AuthnServer, guarded3: Guarded) -> None:
    """In no line of `ps`, no log and no `repr`."""
    settings = ServerSettings(
        guarded3.folder,
        authn="local",
        authn_secret=SECRET,
        authn_first=("admin", "pass word"),
        redirect_key="key of redirects",
    )
    shown = repr(settings) + repr(Signer("key of redirects"))
    for secret in (SECRET, "pass word", "key of redirects"):
        assert secret not in shown
    targets = re.findall(r"target \w+ serves at \S+ \(process (\d+)\)", (guarded3.folder / "server.log").read_text())
    assert len(targets) >= 3
    for pid in targets:
        environment = Path(f"/proc/{pid}/environ")
        if environment.exists():  # Linux, and a target that was not started again
            assert SECRET.encode() not in environment.read_bytes()
    listed = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert SECRET not in listed
    for folder in (authn.folder, guarded3.folder):
        for path in folder.glob("*.log*"):
            assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc on this system")
def test_what_a_server_was_started_with_shows_no_secret(authn: AuthnServer, tmp_path: Path) -> None:
    """Other processes of the same user, such as transformers, may read that."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("AIS_")}
    command = [sys.executable, "-m", "aistore.cli.main", "serve", str(tmp_path), "--port", "0", "--authn", authn.url]
    with subprocess.Popen(
        command, env={**environment, "AIS_AUTHN_SECRET_KEY": SECRET}, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            assert any(line.startswith("Stop it") for line in server.stdout)
            for process in (server, authn.process):
                shown = Path(f"/proc/{process.pid}/environ").read_bytes()
                assert b"AIS_AUTHN_SECRET_KEY=*" in shown
                assert SECRET.encode() not in shown
                assert b"AIS_AUTHN_SU_PASS=admin" not in shown
        finally:
            server.terminate()


def test_processes_that_are_started_inherit_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from aistore.server.process import with_secrets

    given = {"AIS_AUTHN_SECRET_KEY": SECRET, "AIS_AUTHN_SU_PASS": "pw", "AIS_AUTHN_SU_NAME": "chief"}
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    settings = with_secrets(ServerSettings(tmp_path, authn="local"))
    assert (settings.authn_secret, settings.authn_first) == (SECRET, ("chief", "pw"))
    assert {"AIS_AUTHN_SECRET_KEY", "AIS_AUTHN_SU_PASS"} & set(os.environ) == set()
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    assert with_secrets(ServerSettings(tmp_path)).authn_secret == ""
    assert {"AIS_AUTHN_SECRET_KEY", "AIS_AUTHN_SU_PASS"} & set(os.environ) == set()


def test_clients_of_s3_show_a_token_as_that_of_their_session(there: Guarded, bucket: str) -> None:
    bearer = token(there.uuid, 0, {bucket: access.GET})
    with As(there.url, None) as user:
        session = {"X-Amz-Security-Token": bearer, "Authorization": "AWS4-HMAC-SHA256 Credential=x"}
        assert user("GET", f"/s3/{bucket}/o", None, session).body == b"content"
        assert user("PUT", f"/s3/{bucket}/n", b"1", session).status == 403
        got = user("GET", f"/s3/{bucket}/o")
        assert got.status == 403
        assert b"<Code>AccessDenied</Code>" in got.body


# -- what a redirect must not be made to say --


def redirected(guarded: Guarded, bearer: str, path: str, method: str = "GET") -> str:
    """Where the gateway sends somebody."""
    connection = http.client.HTTPConnection(urlsplit(guarded.url).netloc)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {bearer}"})
        return connection.getresponse().headers["Location"]
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["utm", "%75tm"])
def test_nobody_chooses_when_a_redirect_is_good(guarded3: Guarded, name: str) -> None:
    """Else a token that ends today would be good for signatures of next year."""
    bucket = f"later-{uuid.uuid4().hex[:8]}"
    later = base36(time.time_ns() + 86_400 * 10**9)
    with guarded3.admin as root:
        root.make_bucket(bucket)
        assert root.put(bucket, "o", b"content").status == 200
        reader = token(guarded3.uuid, 0, {bucket: access.GET})
        location = urlsplit(redirected(guarded3, reader, f"/v1/objects/{bucket}/o?{name}={later}&pid=x&sig="))
        given = parse_qsl(location.query)
        assert [key for key, _ in given] == ["pid", "utm", "sig"]
        assert abs(int(dict(given)["utm"], 36) - time.time_ns()) < 3600 * 10**9
        with As(f"http://{location.netloc}", None) as stranger:
            assert stranger("GET", f"{location.path}?{location.query}").body == b"content"
        root.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck")


def test_a_redirect_that_is_shown_again_gets_no_younger(guarded3: Guarded) -> None:
    bucket = f"again-{uuid.uuid4().hex[:8]}"
    with guarded3.admin as root:
        root.make_bucket(bucket)
        reader = token(guarded3.uuid, 0, {bucket: access.GET})
        first = urlsplit(redirected(guarded3, reader, f"/v1/objects/{bucket}/o"))
        second = urlsplit(redirected(guarded3, "", f"{first.path}?{first.query}"))
        assert dict(parse_qsl(second.query)) == dict(parse_qsl(first.query))
        root.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck")


def test_a_redirect_is_not_good_for_a_bucket_of_the_same_name_elsewhere(guarded3: Guarded) -> None:
    """The provider is read as it was sent: an encoded one is none, and must not become one on the way to a target."""
    bucket = f"elsewhere-{uuid.uuid4().hex[:8]}"
    with guarded3.admin as root:
        root.make_bucket(bucket)
        assert root.put(bucket, "o", b"content").status == 200
        reader = token(guarded3.uuid, 0, {bucket: access.GET})
        location = urlsplit(redirected(guarded3, reader, f"/v1/objects/{bucket}/o?%70rovider=aws"))
        assert "%70rovider=aws" in location.query
        with As(f"http://{location.netloc}", None) as stranger:
            other = location.query.replace("%70rovider", "provider")
            assert stranger("GET", f"{location.path}?{location.query}").body == b"content"
            assert stranger("GET", f"{location.path}?{other}").status == 403
        root.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck")


def test_what_another_bucket_holds_is_not_told_by_the_job_that_counts_it(there: Guarded, bucket: str) -> None:
    other = f"other-{uuid.uuid4().hex[:8]}"
    with there.admin as root, there.having(access.SHOW_CLUSTER, {other: access.HEAD_BUCKET}) as user:
        root.make_bucket(other)
        job = root.action("GET", f"/v1/buckets/{bucket}", "summary-bck", {}).body.decode()
        asked = {"uuid": job}
        assert user.action("GET", f"/v1/buckets/{bucket}", "summary-bck", asked).status == 403
        assert user.action("GET", f"/v1/buckets/{other}", "summary-bck", asked).status == 404
        assert user("HEAD", f"/v1/buckets/{other}?bsumm_remote=true&uuid={job}").status == 404
        assert root.action("GET", f"/v1/buckets/{bucket}", "summary-bck", asked).status in (200, 202)
        root.action("DELETE", f"/v1/buckets/{other}", "destroy-bck")


def test_buckets_of_the_system_are_made_by_administrators(there: Guarded, bucket: str) -> None:
    """Else whoever may copy could write what others take for an inventory."""
    system = ".sys-inventory"
    uname = f"ais/@%23/{system}/"
    rights = access.ALL & ~access.ADMIN
    with there.having(rights, {bucket: rights}) as user, there.admin as root:
        copied = user.action("POST", f"/v1/buckets/{bucket}?bck_to={uname}", "copy-bck", {})
        made = user.action("POST", f"/v1/buckets/{system}", "create-bck")
        moved = user.action("POST", f"/v1/buckets/{bucket}?bck_to={uname}", "move-bck")
        over_s3 = user("PUT", f"/s3/{system}")
        assert [got.status for got in (made, copied, moved, over_s3)] == [403] * 4
        assert root("HEAD", f"/v1/buckets/{bucket}").status == 200
        assert root("HEAD", f"/v1/buckets/{system}").status == 404
