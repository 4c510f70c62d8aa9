"""Servers that speak HTTPS: certificates of their own and of others, reloaded while they serve, and clients' certificates."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from aistore import AsyncClient, Client, LocalCluster
from aistore.local import SettingsError
from aistore.sdk.authn import AuthNClient
from aistore.server.certificate import read_certificate
from aistore.server.self_signed import make_files
from aistore.server.settings import CA, SELF_SIGNED, SERVED, ServerSettings, TlsFiles, make_settings
from aistore.server.tls import CaFile, ServerTls
from aistore.transport.errors import TlsError
from certificates import Authority, Pair
from programs import target_pids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Wait = Callable[[Callable[[], object], str], None]

LOOPBACK = ("127.0.0.1", "localhost")


@pytest.fixture(autouse=True)
def _no_other_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AIS_CLIENT_CA", "AIS_CRT", "AIS_CRT_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


def write_and_read(client: Client, name: str = "tls") -> None:
    bucket = client.bucket(name).create()
    for content in (b"", b"x" * 1000, bytes(range(256)) * 2000):
        bucket.object("o").get_writer().put_content(content)
        assert bucket.object("o").get_reader().read_all() == content
    bucket.delete()


def served(cluster: LocalCluster, url: str = "") -> int:
    """Serial number of the certificate that a process of the cluster serves."""
    at = urlsplit(url or cluster.url)
    pem = ssl.get_server_certificate((str(at.hostname), at.port or 0))
    return read_certificate(pem).serial


def tell(cluster: LocalCluster, method: str, path: str) -> tuple[int, bytes]:
    """What the cluster answers to a call that the SDK does not have."""
    context = ssl._create_unverified_context()
    try:
        with urlopen(Request(cluster.url + path, method=method), context=context, timeout=30) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


# -- certificates of their own making ----------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, 3])
def test_a_certificate_of_its_own_is_trusted_by_its_ca_and_through_the_data_folder(
    targets: int, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with LocalCluster(folder, tls=True, targets=targets, etl=False) as cluster:
        assert cluster.url.startswith("https://127.0.0.1:")
        ca = cluster.ca_cert.read_bytes()
        smap = cluster.client().cluster().get_info()
        nets = [one.public_net for one in (*smap.pmap.values(), *smap.tmap.values())]
        urls = {net.direct_url for net in nets if net is not None}
        assert all(url.startswith("https://") for url in urls)
        assert len(urls) == (1 if targets == 1 else 4)
        for endpoint in (cluster.url, cluster.url.replace("127.0.0.1", "localhost")):
            write_and_read(Client(endpoint, ca_cert=str(cluster.ca_cert)))
        write_and_read(Client(f"local://{folder}"))
        asyncio.run(_read_both(f"local://{folder}"))
        for path in (CA, SELF_SIGNED, "tls/ca.key"):
            assert (folder / path).stat().st_mode & 0o777 == 0o600
        assert (folder / "tls").stat().st_mode & 0o777 == 0o700
        first = served(cluster)
        cluster.restart()
        assert served(cluster) == first
        assert cluster.ca_cert.read_bytes() == ca
    for log in folder.glob("*.log"):
        assert "PRIVATE KEY" not in log.read_text()


async def _read_both(endpoint: str) -> None:
    async with AsyncClient(endpoint) as client:
        bucket = await client.bucket("tls-async").create()
        await bucket.object("o").get_writer().put_content(b"x" * 100_000)
        assert await bucket.object("o").get_reader().read_all() == b"x" * 100_000
        await bucket.delete()


def test_a_certificate_is_renewed_before_it_ends_and_for_new_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(tmp_path, ["one.example"])
    first = read_certificate((tmp_path / SELF_SIGNED).read_text())
    assert first.names == ("localhost", "127.0.0.1", "::1", "one.example")
    make_files(tmp_path, ["one.example"])
    assert read_certificate((tmp_path / SELF_SIGNED).read_text()) == first
    make_files(tmp_path, ["two.example"])
    second = read_certificate((tmp_path / SELF_SIGNED).read_text())
    assert "two.example" in second.names
    ca = (tmp_path / CA).read_bytes()
    monkeypatch.setattr("aistore.server.self_signed._RENEW_DAYS", 91)
    make_files(tmp_path, ["two.example"])
    assert read_certificate((tmp_path / SELF_SIGNED).read_text()).serial != second.serial
    assert (tmp_path / CA).read_bytes() == ca


# -- certificates of others --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, 3])
def test_a_changed_certificate_is_served_without_a_restart_under_load(
    targets: int, authority: Authority, tmp_path: Path, wait_until: Wait
) -> None:
    pair = authority.issue("server", *LOOPBACK, serial=1)
    with LocalCluster(tmp_path / "data", tls=pair, targets=targets, etl=False) as cluster:
        urls = [cluster.url] if targets == 1 else _all_urls(cluster, authority)
        with _load(cluster, authority) as failures:
            authority.issue("server", *LOOPBACK, serial=2)
            wait_until(lambda: {served(cluster, url) for url in urls} == {2}, "the new certificate")
            write_and_read(Client(f"local://{cluster.path}"), "again")  # who was told of it by the folder
            # One that cannot be used is not.
            good = pair.cert.read_bytes()
            pair.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\nbroken\n")
            status, said = tell(cluster, "PUT", "/v1/cluster/load-x509")
            assert status == 500
            assert b"cannot be used" in said
            other = authority.issue("other", *LOOPBACK)
            pair.cert.write_bytes(good)
            shutil.copy(other.key, pair.key)
            status, said = tell(cluster, "PUT", "/v1/cluster/load-x509")
            assert (status, b"does not belong to" in said) == (500, True)
            assert {served(cluster, url) for url in urls} == {2}
            authority.issue("server", *LOOPBACK, serial=3)
            assert tell(cluster, "PUT", "/v1/cluster/load-x509") == (200, b"")
            assert {served(cluster, url) for url in urls} == {3}
        assert failures == []
        status, said = tell(cluster, "GET", "/v1/daemon?what=tls_certificate")
        assert status == 200
        properties = json.loads(said)
        assert (properties["serial"], properties["issuer"], properties["warning"]) == ("3", "test CA", "")
        assert tell(cluster, "PUT", "/v1/cluster/load-x509/nobody")[0] == 404


def test_what_fails_while_a_certificate_changes_is_tried_again(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, say: nothing of it may end the watch over the files."""
    monkeypatch.setattr("aistore.server.tls._LOOK_SECONDS", 0.01)
    pair = authority.issue("server", *LOOPBACK, serial=1, ends=0.2)
    renewed = []

    def renew() -> None:
        renewed.append(1)
        if len(renewed) == 2:
            raise ValueError("the key of the CA is none")

    tls = ServerTls(TlsFiles(str(pair.cert), str(pair.key)), show_in=tmp_path, renew=renew)
    in_the_way = tmp_path / f"{SERVED}.new"
    in_the_way.mkdir()

    async def change() -> None:
        watching = asyncio.ensure_future(tls.watch())
        try:
            await _until(lambda: len(renewed) > 2)
            authority.issue("server", *LOOPBACK, serial=2, ends=0.2)
            await _until(lambda: "directory" in tls.failed)
            assert tls.certificate.serial == 1
            in_the_way.rmdir()
            await _until(lambda: tls.certificate.serial == 2)
        finally:
            watching.cancel()

    asyncio.run(change())
    assert read_certificate((tmp_path / SERVED).read_text()).serial == 2
    assert tls.failed == ""


async def _until(condition: Callable[[], object]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within a minute")


def _all_urls(cluster: LocalCluster, authority: Authority) -> list[str]:
    smap = Client(cluster.url, ca_cert=str(authority.path)).cluster().get_info()
    nets = [one.public_net for one in smap.tmap.values()]
    return [cluster.url, *(net.direct_url for net in nets if net is not None)]


@contextmanager
def _load(cluster: LocalCluster, authority: Authority) -> Iterator[list[BaseException]]:
    """Reads and writes over connections that stay and over fresh ones, as long as the block; what failed."""
    failures: list[BaseException] = []
    over = threading.Event()
    kept = Client(cluster.url, ca_cert=str(authority.path))
    bucket = kept.bucket("load").create()

    def work() -> None:
        number = 0
        try:
            while not over.is_set():
                number += 1
                client = kept if number % 2 else Client(cluster.url, ca_cert=str(authority.path))
                one = client.bucket("load").object(f"o{number % 7}")
                one.get_writer().put_content(b"%d" % number * 5000)
                assert one.get_reader().read_all() == b"%d" % number * 5000
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield failures
    finally:
        over.set()
        thread.join()
    bucket.delete()


def test_a_target_that_was_killed_comes_back_with_tls(authority: Authority, tmp_path: Path, wait_until: Wait) -> None:
    pair = authority.issue("server", *LOOPBACK)
    with LocalCluster(tmp_path / "data", tls=pair, targets=2, etl=False) as cluster:
        client = Client(cluster.url, ca_cert=str(authority.path))
        before = int(client.cluster().get_info().version)
        os.kill(next(iter(target_pids(cluster).values())), signal.SIGKILL)
        wait_until(lambda: int(client.cluster().get_info().version) >= before + 2, "its leaving and its return")
        assert len(client.cluster().get_info().tmap) == 2
        write_and_read(client)
        assert len(client.cluster().get_performance()) == 2


def test_an_expired_certificate_and_one_of_another_name_are_named(
    authority: Authority, tmp_path: Path, wait_until: Wait
) -> None:
    expired = authority.issue("server", *LOOPBACK, begins=-10, ends=-1)
    with LocalCluster(tmp_path / "data", tls=expired, etl=False) as cluster:
        with pytest.raises(TlsError, match=r"expired.*renewed on the server") as error:
            Client(cluster.url, ca_cert=str(authority.path)).cluster().get_uuid()
        assert error.value.untrusted
        log = cluster.path / "server.log"
        wait_until(lambda: "has expired on" in log.read_text(), "the warning")
        properties = json.loads(tell(cluster, "GET", "/v1/daemon?what=tls_certificate")[1])
        assert "has expired on" in properties["warning"]
        authority.issue("server", "elsewhere.example", begins=-20, ends=3)
        assert tell(cluster, "PUT", "/v1/cluster/load-x509")[0] == 200
        with pytest.raises(TlsError, match=r"mismatch.*--public-host"):
            Client(cluster.url, ca_cert=str(authority.path)).cluster().get_uuid()
        write_and_read(Client(f"local://{cluster.path}"))  # whom it is for does not count there
        wait_until(lambda: "expires on" in log.read_text(), "the warning before it ends")


def test_whom_to_trust_and_which_scheme_to_use_is_said(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server", *LOOPBACK)
    with LocalCluster(tmp_path / "data", tls=pair, etl=False) as cluster, LocalCluster(etl=False) as plain:
        with pytest.raises(TlsError, match=r"ca_cert.*AIS_CLIENT_CA"):
            Client(cluster.url).cluster().get_uuid()
        with pytest.raises(TlsError, match="use https://"):
            Client(cluster.url.replace("https:", "http:")).cluster().get_uuid()
        with pytest.raises(TlsError, match="use http://"):
            Client(plain.url.replace("http:", "https:")).cluster().get_uuid()

        async def ask(url: str) -> None:
            async with AsyncClient(url) as client:
                await client.cluster().get_uuid()

        for url, said in ((cluster.url, "ca_cert"), (cluster.url.replace("https:", "http:"), "use https://")):
            with pytest.raises(TlsError, match=said):
                asyncio.run(ask(url))
        with pytest.warns(UserWarning, match="Skipping SSL"):
            write_and_read(Client(cluster.url, skip_verify=True))


# -- certificates of clients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, 3])
def test_clients_have_to_show_a_certificate(targets: int, authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server", *LOOPBACK)  # of the same CA, and for servers only
    mine = authority.issue("client", client=True)
    others = Authority(authority.path.parent, "other CA").issue("stranger", client=True)
    ca = str(authority.path)
    with LocalCluster(tmp_path / "data", tls=pair, tls_client_ca=authority.path, targets=targets, etl=False) as cluster:
        client = Client(cluster.url, ca_cert=ca, client_cert=(str(mine.cert), str(mine.key)))
        write_and_read(client)
        assert len(client.cluster().get_performance()) == targets
        with pytest.raises(TlsError, match=r"asks for a client certificate.*AIS_CRT"):
            Client(cluster.url, ca_cert=ca).cluster().get_uuid()
        for wrong in (others, pair):
            with pytest.raises(TlsError, match="does not accept the client certificate"):
                Client(cluster.url, ca_cert=ca, client_cert=(str(wrong.cert), str(wrong.key))).cluster().get_uuid()


def test_only_clients_that_show_a_certificate_are_checked_at_level_3(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server", *LOOPBACK)
    others = Authority(authority.path.parent, "other CA").issue("stranger", client=True)
    with LocalCluster(
        tmp_path / "data", tls=pair, tls_client_ca=authority.path, tls_client_auth=3, etl=False
    ) as cluster:
        write_and_read(Client(cluster.url, ca_cert=str(authority.path)))
        with pytest.raises(TlsError, match="does not accept"):
            Client(
                cluster.url, ca_cert=str(authority.path), client_cert=(str(others.cert), str(others.key))
            ).cluster().get_uuid()


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_serves_and_uses_https(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    ais = [sys.executable, "-m", "aistore.cli.main"]
    serving = subprocess.Popen(
        [*ais, "serve", str(folder), "--port", "0", "--tls-self-signed", "--no-etl"], stdout=subprocess.PIPE, text=True
    )

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*ais, *map(str, arguments)], capture_output=True, text=True, timeout=60)

    with serving:
        assert serving.stdout is not None
        said = [next(serving.stdout) for _ in range(10)]
        url = next(line.split()[1] for line in said if line.startswith("  url"))
        assert url.startswith("https://")
        assert f"          export AIS_CLIENT_CA={folder / CA}\n" in said
        file = tmp_path / "file"
        file.write_bytes(b"content")
        trusting = ("--endpoint", url, "--ca-cert", folder / CA)
        assert run("create", "b", *trusting).returncode == 0
        assert run("put", file, "b/o", *trusting).returncode == 0
        unsafe = run("get", "b/o", "-", "--endpoint", url, "--skip-verify")
        assert unsafe.stdout == "content"
        assert unsafe.stderr.startswith("ais: warning: Skipping SSL") and unsafe.stderr.count("\n") == 1
        assert "b/o" in run("ls", "b", "--endpoint", f"local://{folder}").stdout.replace("o\n", "b/o\n")
        assert "ais://b" in run("status", folder).stdout
        refused = run("ls", "--endpoint", url)
        assert refused.returncode == 1
        assert "AIS_CLIENT_CA" in refused.stderr
        assert run("stop", folder).returncode == 0
        assert serving.wait(60) == 0


# -- AuthN and ETL -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, 3])
def test_an_authn_server_of_its_own_speaks_https_too(
    targets: int, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIS_AUTHN_SU_PASS", "of the first administrator")
    pair = authority.issue("server", *LOOPBACK)
    mine = authority.issue("client", client=True)
    ca = str(authority.path)
    monkeypatch.setenv("AIS_CRT", str(mine.cert))
    monkeypatch.setenv("AIS_CRT_KEY", str(mine.key))
    with LocalCluster(
        tmp_path / "data", tls=pair, tls_client_ca=ca, targets=targets, authn="local", authn_port=0, etl=False
    ) as cluster:
        log = (cluster.path / "server.log").read_text()
        url = log.partition("AuthN of this cluster serves at ")[2].split()[0]
        assert url.startswith("https://")
        authn = AuthNClient(url, ca_cert=ca)
        token = authn.login("admin", "of the first administrator")
        client = Client(cluster.url, ca_cert=ca, token=token)
        write_and_read(client)
        authn.logout()  # which the cluster is told
        with pytest.raises(Exception, match=r"revoked|token"):
            client.bucket("b").create()


def test_a_transformer_reads_over_https() -> None:
    with LocalCluster(tls=True) as cluster:
        client = cluster.client()
        bucket = client.bucket("etl").create()
        bucket.object("o").get_writer().put_content(b"content")
        etl = client.etl("reads-itself")

        @etl.init_class(communication_type="hpull")
        class Upper(_server()):  # type: ignore[misc]  # a class that the framework has
            def transform(self, data: bytes, *_args: object) -> bytes:
                return data.upper()

        from aistore.sdk.etl import ETLConfig

        made = bucket.object("o").get_reader(etl=ETLConfig("reads-itself")).read_all()
        assert made == b"CONTENT"
        etl.stop()


def _server() -> type:
    from aistore.sdk.etl.webserver import HTTPMultiThreadedServer

    return HTTPMultiThreadedServer


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"tls_key": "k.pem"}, "needs a certificate"),
        ({"tls_client_ca": "ca.pem"}, "needs a certificate"),
        ({"tls_cert": "c.pem", "tls_self_signed": True}, "makes certificate and key itself"),
        ({"tls_cert": "c.pem", "tls_client_auth": 4}, "needs tls_client_ca"),
        ({"tls_cert": "c.pem", "tls_client_auth": 2}, "proves nothing"),
        ({"tls_cert": "c.pem", "tls_client_auth": 5}, "between 0"),
        ({"tls_cert": "c.pem", "tls_client_ca": "ca.pem", "tls_client_auth": 0}, "is not used"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    setting: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        ServerSettings(tmp_path, **setting)  # type: ignore[arg-type]  # of each case


def test_a_settings_file_names_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ais.toml").write_text('tls_cert = "c.pem"\ntls_key = "/k.pem"\ntls_client_ca = "ca.pem"\n')
    settings = make_settings(tmp_path / "ais.toml", {"tls_client_auth": 3}, default_port=0)
    assert settings.tls == TlsFiles(str(tmp_path / "c.pem"), "/k.pem", str(tmp_path / "ca.pem"), 3)
    assert ServerSettings.decode(settings.encode()) == settings


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server", *LOOPBACK)
    other = authority.issue("other", *LOOPBACK)
    for wrong, said in (
        (Pair(tmp_path / "nowhere.pem", pair.key), "nowhere.pem cannot be read"),
        (Pair(pair.key, pair.key), "no certificate in PEM form"),
        (Pair(pair.cert, other.key), "does not belong to the certificate"),
        (Pair(pair.cert, tmp_path / "nowhere.key"), "nowhere.key cannot be read"),
        (Pair(authority.path, authority.path), "has no key that can be used: name the file of the key as tls_key"),
    ):
        with pytest.raises(Exception, match=said):
            LocalCluster(tmp_path / "data", tls=wrong, etl=False).start()
    with pytest.raises(RuntimeError, match="plain HTTP"):
        _ = LocalCluster(tmp_path / "data").ca_cert


def test_a_ca_that_was_renewed_is_trusted_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ca.pem"
    monkeypatch.setenv("AIS_CLIENT_CA", str(file))
    for trusted in (CaFile(str(file)), CaFile()):
        for name in ("first", "second"):
            file.write_bytes(Authority(tmp_path, name).path.read_bytes())
            (known,) = trusted.context().get_ca_certs()
            assert name in str(known["subject"])
            assert trusted.context() is trusted.context()
        file.unlink()
        with pytest.raises(SettingsError, match=r"ca\.pem"):
            trusted.context()


def test_times_of_certificates_are_read_as_they_are(authority: Authority) -> None:
    one = read_certificate(authority.issue("far", "a.example", "*.b.example", "::1", ends=365 * 40).cert.read_text())
    assert one.not_after - time.time() > 39 * 365 * 86400
    assert (one.issuer, one.subject, one.names) == ("test CA", "far", ("a.example", "*.b.example", "::1"))
    assert one.fits("x.b.example")
    assert not one.fits("x.y.b.example")
