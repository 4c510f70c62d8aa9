"""No secret is in a log, an error, a `repr`, a list of processes or the environment of a child."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from aistore import AsyncClient, Client
from aistore.sdk.authn import AuthNClient
from aistore.sdk.errors import AISError, APIRequestError
from aistore.server.authn.settings import AuthnSettings, FirstAdministrator
from aistore.server.settings import ServerSettings
from aistore.transport.token import TokenFile
from calling import Caller, where
from etl_rest import Etl, acting
from guarding import As
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from calling import Got


def mark(what: str) -> str:
    """A secret that is not found by chance."""
    return f"{what}{os.urandom(16).hex()}"


class Secrets:
    """What must not show up, by what it is, and everything where it could."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self.seen: list[tuple[str, str]] = []

    def new(self, what: str) -> str:
        return self.add(what, mark("Sx"))

    def add(self, what: str, value: str) -> str:
        assert value
        self._known[what] = value
        return value

    def look(self, place: str, text: str) -> None:
        self.seen.append((place, text))

    @property
    def shown(self) -> set[tuple[str, str]]:
        """Which secrets were seen where; each also as base64, as `Basic` sends it."""
        return {(what, place) for what, secret in self._known.items() for place, text in self.seen if secret in text}


class Watched(Caller):
    """Calls of nobody in particular, whose answers are looked at."""

    def __init__(self, url: str, secrets: Secrets, token: str = "") -> None:
        super().__init__(url)
        self._secrets = secrets
        self._shown = {"Authorization": f"Bearer {token}"} if token else {}

    def __enter__(self) -> Watched:
        return self

    def __call__(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Got:
        assert body is None or isinstance(body, bytes)
        got = super().__call__(method, path, body, {**self._shown, **(headers or {})})
        said = "" if got.status < 400 else f"{got.headers}\n{got.body.decode('utf-8', 'replace')}"
        self._secrets.look(f"answer to {method} {path.partition('?')[0]}", said)
        return got


class Server:
    """`ais serve` with all that has secrets, and as talkative as it can be."""

    def __init__(self, folder: Path, secrets: Secrets) -> None:
        self.folder = folder / "data"
        self.password = secrets.new("first administrator's password")
        config = folder / "ais.toml"
        config.write_text(
            "[backends.aws]\n"
            'endpoint = "http://127.0.0.1:9"\nregion = "us-east-1"\naccess_key_id = "AKID"\n'
            f'secret_access_key = "{secrets.new("S3 key of a backend")}"\n'
            f'session_token = "{secrets.new("session token of a backend")}"\n'
            '[backends."ais.far"]\nendpoint = "http://127.0.0.1:9"\n'
            f'token = "{secrets.new("token for another cluster")}"\n'
        )
        environment = {name: text for name, text in os.environ.items() if not name.startswith("AIS_")}
        environment |= {
            "AIS_AUTHN_SECRET_KEY": secrets.new("secret that tokens are signed with"),
            "AIS_AUTHN_SU_PASS": self.password,
            "PIP_INDEX_URL": f"http://user:{secrets.new('password of an index of packages')}@127.0.0.1:9/simple",
        }
        options = ["--port", "0", "--targets", "2", "--authn", "local", "--authn-port", "0", "--config", str(config)]
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aistore.cli.main", "serve", str(self.folder), *options, "--log-level", "debug", "--access-log"],
                env={**environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )  # fmt: skip
        self.url = self.authn = ""

    def started(self) -> None:
        until(lambda: "Stop it" in self.output.read_text() or self.process.poll() is not None)
        for line in self.output.read_text().splitlines():
            if line.lstrip().startswith("url "):
                self.url = line.split()[1]
            if "AuthN server, " in line:
                self.authn = line.rpartition(" ")[2]
        assert self.url, self.output.read_text()
        assert self.authn

    def family(self) -> dict[int, str]:
        """The process and all that come from it, with their command lines."""
        parents = {}
        for entry in Path("/proc").iterdir():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (ValueError, OSError):
                continue
        ours = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        lines = {}
        for pid in ours:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                lines[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        return lines

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def server(tmp_path: Path, secrets: Secrets) -> Iterator[Server]:
    made = Server(tmp_path, secrets)
    try:
        made.started()
        yield made
    finally:
        made.stop()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_no_secret_is_seen_anywhere(server: Server, secrets: Secrets) -> None:
    token = _logins(server, secrets)
    with Watched(server.url, secrets, token) as root, Watched(server.url, secrets) as nobody:
        root.make_bucket("b")
        assert root.put("b", "o", b"content").status == 200
        _tokens_of_nobody(nobody, secrets, token)
        _access_keys(server, secrets, token)
        _redirects(server, root, secrets, token)
        _urls_with_passwords(root, secrets)
        _remote(root, secrets)
        _documents(root, secrets)
        with Etl(root) as etl:
            _transformer(server, root, etl, secrets)
            _processes(server, secrets)
        _objects_of_clients(server, secrets, token)
    _new_secret(server, secrets, token)
    _files(server, secrets)
    assert secrets.shown == set()
    assert len(secrets.seen) > 100


def _logins(server: Server, secrets: Secrets) -> str:
    client = AuthNClient(server.authn)
    with pytest.raises(APIRequestError) as refused:
        client.login("admin", secrets.new("wrong password"))
    _error(secrets, refused.value)
    token = secrets.add("token", client.login("admin", server.password))
    secrets.add("signature of a token", token.rpartition(".")[2])
    client = AuthNClient(server.authn, token=token)
    users = client.user_manager()
    users.create("alice", [], secrets.new("password of a user"))
    users.update("alice", secrets.new("new password of a user"))
    with pytest.raises(APIRequestError) as refused:
        users.create("alice", [], secrets.new("password of a user that there is"))
    _error(secrets, refused.value)
    secrets.look("repr of AuthNClient", repr(client) + repr(users))
    return token


def _tokens_of_nobody(call: Watched, secrets: Secrets, token: str) -> None:
    """Tokens, keys and signatures that are good for nothing, in all places where one may think of putting them."""
    path = "/v1/objects/b/o"
    bad = f"{token.rpartition('.')[0]}.{secrets.new('signature of a forged token')}"
    basic = base64.b64encode(f"admin:{secrets.new('password in Basic')}".encode()).decode()
    secrets.add("Basic", basic)
    signed = secrets.new("SigV4 signature")
    for headers in (
        {"Authorization": f"Bearer {bad}"},
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"Bearer {secrets.new('token that is none')}"},
        {"Cookie": f"token={secrets.new('token in a cookie')}"},
        {"X-Amz-Security-Token": secrets.new("token for S3")},
        {"Authorization": f"AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={signed}"},
        {"X-Request-Id": f"bad id {secrets.new('word in a request id that is none')}"},
    ):  # fmt: skip
        for where_ in (path, "/s3/b/o", "/v1/cluster", "/v1/daemon?what=config", "/ais/b/o"):
            assert call("GET", where_, None, headers).status in (401, 403, 400), (where_, headers)
    presigned = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={secrets.new('credential of a presigned URL')}"
    presigned += f"&X-Amz-Signature={secrets.new('signature of a presigned URL')}&X-Amz-Security-Token={secrets.new('token in a presigned URL')}"
    for query in (
        f"token={secrets.new('token in a query')}",
        f"access_token={bad}",
        presigned,
        f"pid=p&utm=1&sig={secrets.new('signature of a redirect')}",
        f"what={secrets.new('word')[:2]}%zz&token={secrets.new('token in a bad query')}",
    ):
        for where_ in (path, "/s3/b/o", "/v1/nowhere", "/v1/buckets/b"):
            assert call("GET", f"{where_}?{query}").status >= 400


def _access_keys(server: Server, secrets: Secrets, token: str) -> None:
    """Access keys for S3, with good signatures and others, in headers and in URLs."""
    keys = AuthNClient(server.authn, token=token).access_key_manager()
    made = keys.create()
    assert made.secret
    credentials = Credentials(made.id, secrets.add("secret of an access key", made.secret))
    secrets.look("repr of an access key", f"{made!r} {made} {keys.list()!r}")
    where_ = f"{server.url}/s3/b/o"
    good = AWSRequest("GET", where_, {"Host": urlsplit(server.url).netloc})
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(good)
    headers = dict(good.headers.items())
    secrets.add("SigV4 signature of ours", headers["Authorization"].rpartition("=")[2])
    presigned = AWSRequest("GET", where_, {})
    S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60).add_auth(presigned)
    query = urlsplit(presigned.url).query
    secrets.add("signature of a URL that we presigned", parse_qs(query)["X-Amz-Signature"][0])
    with Watched(server.url, secrets) as call:
        assert call("GET", "/s3/b/o", None, headers).body == b"content"
        assert call("GET", f"/s3/b/o?{query}").body == b"content"
        assert call("GET", "/s3/b/other", None, headers).status == 403
        assert call("GET", f"/s3/b/other?{query}").status == 403
        assert call("GET", f"/v1/objects/b/o?{query}").status == 401
    # Who signed is told; a line comes behind its answer.
    log = server.folder / "server.access.log"
    until(lambda: bool(re.search(r"GET /s3/b/o 200 .*, admin from", log.read_text())))


def _redirects(server: Server, root: Watched, secrets: Secrets, token: str) -> None:
    """Errors of a target that a signed redirect led to."""
    with As(server.url, token) as caller:
        signed = caller.redirected("GET", where("b", "missing"))
        if "sig=" not in signed:  # without a token nobody is redirected
            import http.client

            connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
            connection.request("GET", where("b", "missing"), headers={"Authorization": f"Bearer {token}"})
            signed = connection.getresponse().headers["Location"]
            connection.close()
    target = urlsplit(signed)
    secrets.add("signature of our own redirect", parse_qs(target.query)["sig"][0])
    with Watched(f"http://{target.netloc}", secrets) as call:
        assert call("GET", f"{target.path}?{target.query}").status == 404
        assert call("HEAD", f"{target.path}?{target.query}").status == 403
    assert root("GET", where("b", "missing")).status == 404
    with Client(server.url, token=token) as client, pytest.raises(AISError) as missing:
        client.bucket("b").object("missing").get_reader().read_all()
    _error(secrets, missing.value)
    assert "sig=***" in str(missing.value)


def _urls_with_passwords(root: Watched, secrets: Secrets) -> None:
    def url(what: str, path: str = "") -> str:
        return f"http://user:{secrets.new(f'password in the URL of {what}')}@127.0.0.1:9{path}"

    attach = {"Ais-Remote-Ais-Alias": "x", "Ais-Remote-Ais-Url": url("a cluster")}
    assert root("PUT", "/v1/cluster/attach?what=remote", None, attach).status >= 400
    for key_map in (url("a key map", "/map"), url("a key map of ours", "/v1/objects/b/map")):
        spec = {
            "input_bck": {"name": "b", "provider": "ais"}, "input_format": {"template": "s-{0..1}"}, "input_extension": ".tar",
            "output_format": "t-{0..1}", "output_shard_size": "1MB", "ekm_file": key_map, "ekm_file_sep": "\t",
        }  # fmt: skip
        assert root("POST", "/v1/sort", json.dumps(spec).encode()).status >= 400
    extra = {"extra": {"aws": {"cloud_region": "r", "endpoint": url("an endpoint"), "profile": "none"}}}
    root.action("PATCH", "/v1/buckets/b", "set-bprops", extra)
    with pytest.raises(ValueError) as refused:
        Client(url("an endpoint of a client"))
    secrets.look("ValueError", f"{refused.value!r}")


def _remote(root: Watched, secrets: Secrets) -> None:
    """Backends that refuse, or are not there."""
    assert root("GET", "/v1/objects/far/o?provider=aws").status >= 400
    assert root("PUT", "/v1/objects/far/o?provider=aws", b"content").status >= 400
    root.action("GET", "/v1/buckets?provider=aws", "list")
    root("GET", "/v1/buckets/x?provider=ais&namespace=%40far%23", json.dumps({"action": "list"}).encode())


def _documents(root: Watched, secrets: Secrets) -> None:
    """What tells of the server itself, to an administrator."""
    for path in (
        "/metrics", "/v1/daemon?what=config", "/v1/cluster?what=cluster_config", "/v1/cluster?what=backends", "/v1/cluster?what=remote",
        "/v1/daemon?what=node_status", "/v1/daemon?what=smap", "/v1/daemon?what=sysinfo", "/v1/daemon?what=log", "/v1/daemon?what=log&severity=e",
    ):  # fmt: skip
        got = root("GET", path)
        assert got.status in (200, 400), path
        secrets.look(path, got.body.decode("utf-8", "replace"))
    given = {"auth": {"secret": secrets.new("secret in a configuration")}}
    root.action("PUT", "/v1/cluster", "set-config", given)
    secrets.look("configuration", root("GET", "/v1/daemon?what=config").body.decode())


def _transformer(server: Server, root: Watched, etl: Etl, secrets: Secrets) -> None:
    etl.started(
        acting("HTTPMultiThreadedServer"),
        env={"OF_ITS_OWN": secrets.new("variable of a transformer"), "PACKAGES": "msgspec"},
    )
    environment = json.loads(etl.get("b", "o", "env").body)
    own = environment["AIS_TARGET_URL"]
    secrets.add("secret of a transformer", own.rpartition("/")[2])
    for args in (f"raise asked {own}/ais/@%23/b/o in vain", "missing"):
        assert etl.get("b", "o", args).status >= 400
    secrets.look("log of a transformer", etl.log)
    with Watched(f"http://{urlsplit(own).netloc}", secrets) as call:  # as it asks for objects
        assert call("GET", f"{urlsplit(own).path}/ais/@%23/b/missing").status == 404
        assert call("GET", f"{urlsplit(own).path}x/ais/@%23/b/o").status == 400
    assert etl.init_class("no payload", env={"OF_ITS_OWN": secrets.new("variable of another")}).status >= 400


def _processes(server: Server, secrets: Secrets) -> None:
    family = server.family()
    assert len(family) >= 3  # with its targets
    assert _addresses(family) <= {"0100007F"}, "something listens beyond loopback"
    assert _for_others(server.folder) == set()
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 ", limits), limits
    for pid, line in family.items():
        secrets.look(f"command line of {line}", line)
        with contextlib.suppress(OSError):  # it has ended meanwhile
            _environment(pid, line, secrets)


def _environment(pid: int, line: str, secrets: Secrets) -> None:
    environment = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    # A transformer has its own secrets, and no others; what is for pip alone is in the environment of the server, where the operator put it.
    own = ("AIS_TARGET_URL=", "OF_ITS_OWN=") if "AIS_TARGET_URL=" in environment else ("PIP_INDEX_URL=",)
    for word in environment.split("\0"):
        if not word.startswith(own):
            secrets.look(f"environment of {line}", word)


def _for_others(folder: Path) -> set[str]:
    """What others than its owner may do something with."""
    found = set()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # taken away meanwhile
                status = Path(parent, name).lstat()
                if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o077:
                    found.add(f"{parent}/{name}")
    return found


def _addresses(pids: Iterable[int]) -> set[str]:
    """Addresses on which processes listen, as /proc writes them."""
    sockets = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile
                    sockets.add(str(entry.readlink()))
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                listening.add(fields[1].partition(":")[0])
    assert listening
    return listening


def _objects_of_clients(server: Server, secrets: Secrets, token: str) -> None:
    file = server.folder.parent / "token"
    file.write_text(json.dumps({"token": token}))
    client = Client(server.url, token=token)
    told = [
        client,
        AsyncClient(server.url, token=token),
        client.bucket("b"),
        client.bucket("b").object("o"),
        TokenFile(str(file)),
    ]
    secret = secrets.new("secret in settings")
    told += [
        ServerSettings(Path("/x"), backends={"aws": {"key": secret}}, authn_secret=secret, authn_first=("a", secret), redirect_key=secret),
        AuthnSettings(Path("/x"), secret=secret, first=FirstAdministrator("a", secret)),
    ]  # fmt: skip
    for one in told:
        secrets.look(f"repr of {type(one).__name__}", f"{one!r} {one}")
    secrets.look("repr of the transport", repr(client) + repr(getattr(client, "transport", "")))
    client.close()


def _new_secret(server: Server, secrets: Secrets, token: str) -> None:
    """Changed while the server runs: told by the audit log, and not what it is."""
    with Watched(server.authn, secrets, token) as authn:
        secrets.look("AuthN's configuration", authn("GET", "/v1/daemon").body.decode())
        body = json.dumps({"auth": {"secret": secrets.new("new secret that tokens are signed with")}}).encode()
        assert authn("PUT", "/v1/daemon", body).status == 200
        assert authn("GET", "/v1/daemon").status == 401  # as it was signed before


def _error(secrets: Secrets, error: APIRequestError) -> None:
    secrets.look("error", f"{error!r} {error} {error.__cause__!r} {error.req_url}")
    secrets.look("pickled error", pickle.dumps(error).decode("latin-1"))


def _files(server: Server, secrets: Secrets) -> None:
    logs = [path for path in server.folder.rglob("*") if ".log" in path.name or path.name == "log"]
    assert {"server.log", "server.errors.log", "server.access.log", "audit.log"} <= {path.name for path in logs}
    for path in (*logs, server.output):
        secrets.look(path.name, path.read_text(errors="replace"))
