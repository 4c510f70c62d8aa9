"""Where keys and secrets come from, how servers start with them, and where they do not show."""

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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import Client, LocalCluster
from aistore.sdk import AuthNClient
from aistore.sdk.authn.errors import AuthNError
from aistore.sdk.errors import AISError
from aistore.server.authn.keys import new_private_key, public_half
from aistore.server.authn.signing import Signer
from aistore.server.authn.tokens import sign
from aistore.server.authn.trust import Published
from aistore.server.settings import ServerSettings, SettingsError
from aistore.server.spawn import ServerStartError
from aistore.transport.errors import TlsError
from guarding import PASSWORD, SECRET, As, AuthnServer, Guarded, ais_serve, token

if TYPE_CHECKING:
    from collections.abc import Callable


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
        refused = user("GET", "/v1/daemon?what=smap")
        assert (refused.status, b"the AuthN server, which has the keys, does not answer" in refused.body) == (401, True)
        with As(cluster.url, token(admin=True)) as forger:  # a key would not help
            assert b"does not answer" not in forger("GET", "/v1/daemon?what=smap").body
        assert "start it: ais authn serve" in (cluster.path / "server.log").read_text()
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


_LOCAL = ("--authn", "local", "--authn-port", "0", "--targets", "2")


def test_an_authn_server_of_its_own(tmp_path: Path) -> None:
    with ais_serve(tmp_path / "data", *_LOCAL, AIS_AUTHN_SU_PASS="pw") as said:
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


def test_an_authn_server_over_https_with_a_ca_of_its_own(tmp_path: Path) -> None:
    """Its keys come to a cluster over HTTPS, from whom that trusts and from nobody else; clients and commands as well."""
    server = AuthnServer(tmp_path / "authn", "--tls-self-signed", secret="")
    ca = str(server.folder / "tls/ca.pem")
    try:
        assert server.url.startswith("https://")
        with pytest.raises(TlsError, match="ca_cert"):
            AuthNClient(server.url).login("admin", PASSWORD)
        admin = AuthNClient(server.url, ca_cert=ca)
        bearer = admin.login("admin", PASSWORD)
        with ais_serve(tmp_path / "data", "--authn", server.url, "--authn-ca", ca) as said:
            Client(said["url"], token=bearer).bucket("b").create()
            admin.cluster_manager().register("here", [said["url"]])
            admin.logout()
            with As(said["url"], bearer) as late:
                assert late("GET", "/v1/buckets/b").status == 401
    finally:
        server.stop()


@pytest.mark.parametrize("changes", [1, pytest.param(7, marks=pytest.mark.long)])
def test_a_new_secret_of_a_server_of_its_own_ends_tokens_in_every_process(
    tmp_path: Path, wait_until: Callable[[Callable[[], object], str], None], changes: int
) -> None:
    """However many there are in a row: also those that were seen before, and those that were never shown to a target."""
    secrets = {"AIS_AUTHN_SU_PASS": "pw", "AIS_AUTHN_SECRET_KEY": SECRET}
    with ais_serve(tmp_path / "data", *_LOCAL, **secrets) as said:
        client = AuthNClient(said["tokens"])
        old = client.login("admin", "pw")
        with As(said["url"], old) as root:
            root.make_bucket("b")
            targets = json.loads(root("GET", "/v1/daemon?what=smap").body)["tmap"].values()
            urls = [said["url"], *(one["public_net"]["direct_url"] for one in targets)]
        assert [status_at(url, old) for url in urls] == [404] * 3
        for number in range(changes):
            bearer = AuthNClient(said["tokens"]).login("admin", "pw")
            with As(said["tokens"], bearer) as root:
                changed = json.dumps({"auth": {"secret": str(number) * 40}}).encode()
                assert root("PUT", "/v1/daemon", changed).status == 200
        assert status_at(urls[0], old) == 401
        new = AuthNClient(said["tokens"]).login("admin", "pw")
        for url in urls:
            wait_until(partial(accepts, url, new), f"{url} to know the new secret")
            assert status_at(url, old) == 401


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
