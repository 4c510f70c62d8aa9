"""Transformers as processes: how they start, end, fail and bear what clients do to them; with `bootstrap`, as a cluster runs them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import cloudpickle  # type: ignore[import-untyped]  # it has no types
import pytest

from aistore.sdk.etl import serialize_class, webserver
from aistore.sdk.etl.webserver import bootstrap
from bench import environments
from waiting import DEADLINE, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS = ("FastAPIServer", "FlaskServer", "HTTPMultiThreadedServer")


def transformer(kind: str) -> Any:
    """A class that travels by value."""

    class Tried(getattr(webserver, kind)):  # type: ignore[misc]  # the framework is chosen at run time
        def __init__(self) -> None:
            super().__init__()
            self.logger.info("made in process %d", os.getpid())

        def transform(self, data: Any, path: str, etl_args: str) -> bytes:
            if etl_args == "pid":
                return str(os.getpid()).encode()
            if etl_args == "environment":
                return json.dumps(dict(os.environ)).encode()
            if etl_args == "import":
                import tiny_package  # type: ignore[import-not-found]  # a dependency of this transformer

                return str(tiny_package.answer()).encode()
            if etl_args == "die":
                os._exit(9)
            return bytes(data)

    return Tried


def streaming(kind: str) -> Any:
    class Streamed(getattr(webserver, kind)):  # type: ignore[misc]  # the framework is chosen at run time
        def transform_stream(self, reader: Any, path: str, etl_args: str) -> Iterator[bytes]:
            if etl_args == "endless":
                marker = Path(os.environ["MARKER"])
                marker.write_text("running")
                try:
                    while True:
                        yield bytes(65536)
                finally:
                    marker.write_text("ended")
            if etl_args == "first":
                yield reader.read(10)
                return
            if etl_args == "peak":
                while reader.read(262144):
                    pass
                # Not ru_maxrss, which begins with what the tests' process had when it forked.
                status = Path("/proc/self/status").read_text()
                yield status.partition("VmHWM:")[2].split()[0].encode()
                return
            while piece := reader.read(262144):
                yield piece

    return Streamed


class Running:
    """A transformer that was started as a cluster does it: on an inherited socket, in a process group of its own."""

    def __init__(self, payload: str, folder: Path, **environment: str) -> None:
        self.log = folder / "log"
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AIS_TARGET_URL": "http://127.0.0.1:9/v1/etl/_object/name/secret",
            "AIS_ETL_FD": str(self._socket.fileno()),
            "AIS_ETL_ENVS": str(folder / "envs"),
            "ETL_CLASS_PAYLOAD": payload,
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aistore.sdk.etl.webserver.bootstrap"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                pass_fds=[self._socket.fileno()],
                start_new_session=True,
            )
        self._socket.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            assert self.process.wait(DEADLINE) is not None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        until(lambda: group_members(self.process.pid) == [])

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def ready(self) -> Running:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.text
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.ask("GET", "/health") == (200, b"Running")
            return False

        until(is_ready)
        return self

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ends(self) -> int:
        return self.process.wait(DEADLINE)


def group_members(group: int) -> list[int]:
    """Processes of a group that are more than zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.parent.name))
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_is_served_on_the_inherited_socket(kind: str, tmp_path: Path) -> None:
    with Running(serialize_class(transformer(kind)), tmp_path, NUM_WORKERS="2", SEED="7") as running:
        running.ready()
        assert running.ask("PUT", "/b/o", b"abc") == (200, b"abc")
        status, body = running.ask("PUT", "/b/o?etl_args=environment", b"")
        assert (status, json.loads(body)["SEED"]) == (200, "7")
        assert "made in process" in running.text
        running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 0


PAGES = (
    {"Host": "evil.example:80"},
    {"Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Host": "127.0.0.1.evil.example"},
)


@pytest.mark.parametrize("kind", KINDS)
def test_web_pages_are_kept_out(kind: str, tmp_path: Path) -> None:
    """A page that a browser on this machine shows must not read files and objects by way of a transformer."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = f"/b/o?etl_fqn={quote(quote(str(secret), safe=''), safe='')}"
    with Running(serialize_class(transformer(kind)), tmp_path, NUM_WORKERS="1") as running:
        running.ready()
        assert running.ask("PUT", path, b"") == (200, b"secret")
        for headers in PAGES:
            for method in ("GET", "PUT"):
                assert running.ask(method, path, b"", headers)[0] == 403
        for host in ("localhost", "localhost:80", "[::1]:80"):
            assert running.ask("PUT", path, b"", {"Host": host}) == (200, b"secret")


def test_web_pages_open_no_websocket(tmp_path: Path) -> None:
    """Pages of any origin may open one, and read what comes."""
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect
    from websockets.typing import Origin

    with Running(serialize_class(transformer("FastAPIServer")), tmp_path, NUM_WORKERS="1") as running:
        running.ready()
        where = f"ws://127.0.0.1:{running.port}/ws"
        with connect(where, proxy=None) as ours:
            ours.send(json.dumps({"path": "o"}).encode())
            ours.send(b"abc")
            assert ours.recv() == b"abc"
        with pytest.raises(InvalidStatus), connect(where, proxy=None, origin=Origin("https://evil.example")):
            pass


@needs_proc
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_survives_the_main_process(kind: str, tmp_path: Path) -> None:
    with Running(serialize_class(transformer(kind)), tmp_path, NUM_WORKERS="3") as running:
        running.ready()
        until(lambda: len(group_members(running.process.pid)) == (1 if kind.startswith("HTTP") else 4))
        running.process.kill()
        running.ends()
        until(lambda: group_members(running.process.pid) == [])


def test_a_worker_that_dies_is_replaced_and_a_series_ends_the_transformer(tmp_path: Path) -> None:
    with Running(serialize_class(transformer("FastAPIServer")), tmp_path, NUM_WORKERS="1") as running:
        running.ready()
        pids = set()
        for _ in range(5):
            pids.add(running.ask("PUT", "/b/o?etl_args=pid", b"")[1])
            with pytest.raises((OSError, http.client.HTTPException)):
                running.ask("PUT", "/b/o?etl_args=die", b"")
            running.ready()
        assert len(pids) == 5
        with pytest.raises((OSError, http.client.HTTPException)):
            running.ask("PUT", "/b/o?etl_args=die", b"")
        assert running.ends() == 1


def unsupported() -> type:
    class Base(webserver.ETLServer):
        def start(self) -> None:
            """Never called."""

        def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
            return b""

    return Base


def broken(kind: str) -> Any:
    class Broken(getattr(webserver, kind)):  # type: ignore[misc]  # the framework is chosen at run time
        def __init__(self) -> None:
            super().__init__()
            raise RuntimeError("no model here")

        def transform(self, data: Any, path: str, etl_args: str) -> bytes:
            return b""

    return Broken


@pytest.mark.parametrize(
    ("payload", "environment", "said"),
    [
        ("", {}, "ETL_CLASS_PAYLOAD is not set"),
        ("bm9uc2Vuc2U=", {}, "Failed to deserialize ETL class"),
        ("!", {}, "Failed to deserialize ETL class"),
        ("of int", {}, "<class 'int'> is not a subclass of ETLServer"),
        ("of base", {}, "Unsupported server type: Base"),
        ("of HTTPMultiThreadedServer", {}, "Failed to instantiate ETLServer: no model here"),
        ("of FastAPIServer", {}, "Failed to instantiate ETLServer: no model here"),
        ("of FlaskServer", {}, "Failed to instantiate ETLServer: no model here"),
        ("x", {"PACKAGES": "xxhash, no-such-package-is-here==1.2.3"}, "Failed to install package 'no-such-package-is-here==1.2.3'"),
        ("x", {"OS_PACKAGES": "no-such-os-package"}, "Failed to install package 'no-such-os-package'"),
    ],
)  # fmt: skip
def test_what_cannot_start_says_why_and_ends_with_1(
    payload: str, environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    if payload.startswith("of "):
        what = {"int": int, "base": unsupported()}.get(payload[3:]) or broken(payload[3:])
        payload = base64.b64encode(cloudpickle.dumps(what)).decode()
    with Running(payload, tmp_path, PIP_NO_INDEX="1", NUM_WORKERS="2", **environment) as running:
        assert running.ends() == 1
        assert said in running.text


def test_packages_are_installed_once_and_apart(tmp_path: Path) -> None:
    pytest.importorskip("pip")
    package = tmp_path / "tiny"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "tiny-package"\nversion = "1"\n[tool.hatch.build.targets.wheel]\nonly-include = ["tiny_package.py"]\n'
    )
    (package / "tiny_package.py").write_text("def answer():\n    return 42\n")
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(wheels), str(package)],
        check=True, capture_output=True,
    )  # fmt: skip
    payload = serialize_class(transformer("HTTPMultiThreadedServer"))
    env = {"PACKAGES": "xxhash,tiny-package", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    for _ in range(2):
        with Running(payload, tmp_path, **env) as running:
            assert running.ready().ask("PUT", "/b/o?etl_args=import", b"") == (200, b"42")
    (made,) = (tmp_path / "envs").iterdir()  # by the second time it was there, and nothing else is left
    assert list(made.rglob("tiny_package.py"))
    assert not list(made.rglob("xxhash/__init__.py")), "what this interpreter has is not installed again"
    with pytest.raises(ImportError):
        __import__("tiny_package")


@pytest.mark.parametrize(
    ("packages", "wanted"),
    [
        ("xxhash>=1,<99, !=5", ["xxhash>=1,<99,!=5"]),
        ("one[a,b]>=2,two ,three==1", ["one[a,b]>=2", "two", "three==1"]),
        (" ,", []),
    ],
)
def test_requirements_have_commas_of_their_own(
    packages: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACKAGES", packages)
    assert bootstrap._requirements() == wanted


def test_a_requirement_with_two_bounds(tmp_path: Path) -> None:
    payload = serialize_class(transformer("HTTPMultiThreadedServer"))
    with Running(payload, tmp_path, PACKAGES="xxhash>=1,<99", PIP_NO_INDEX="1") as running:
        assert running.ready().ask("PUT", "/b/o", b"abc") == (200, b"abc")


def test_an_environment_that_is_given_up_half_way_leaves_nothing(tmp_path: Path) -> None:
    """Whoever stops a transformer removes its folder, but not the environments, which others use."""
    pytest.importorskip("pip")
    payload = serialize_class(transformer("HTTPMultiThreadedServer"))
    with socket.create_server(("127.0.0.1", 0)) as index:  # which never answers
        env = {"PIP_INDEX_URL": f"http://127.0.0.1:{index.getsockname()[1]}/simple", "PIP_CONFIG_FILE": os.devnull}
        for_pip = {"AIS_ETL_FOR_PIP": json.dumps(env)}
        with Running(payload, tmp_path, PACKAGES="no-such-package-is-here", **for_pip):
            index.settimeout(DEADLINE)
            index.accept()[0].close()
            assert list(tmp_path.glob(".making-*/bin/python"))
    assert list((tmp_path / "envs").iterdir()) == []


@needs_proc
@pytest.mark.parametrize("kind", KINDS)
def test_streams_end_with_the_client_that_leaves(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with Running(serialize_class(streaming(kind)), tmp_path, NUM_WORKERS="1", MARKER=str(marker)) as running:
        running.ready()
        with socket.create_connection(("127.0.0.1", running.port), DEADLINE) as client:
            client.sendall(b"PUT /b/o?etl_args=endless HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\nabc")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
            until(lambda: marker.exists() and marker.read_text() == "running")
        until(lambda: marker.read_text() == "ended")
        assert running.ask("PUT", "/b/o", b"again") == (200, b"again")


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_breaks_off_is_no_object(kind: str, tmp_path: Path) -> None:
    for cls in (transformer(kind), streaming(kind)):
        with Running(serialize_class(cls), tmp_path, NUM_WORKERS="1") as running:
            running.ready()
            with socket.create_connection(("127.0.0.1", running.port), DEADLINE) as client:
                client.sendall(b"PUT /b/o HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc")
                client.shutdown(socket.SHUT_WR)
                answer = b""
                with contextlib.suppress(ConnectionResetError):
                    while data := client.recv(65536):
                        answer += data
            # None at all, an error, or one that is visibly cut.
            assert not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"0\r\n\r\n")
            assert running.ask("PUT", "/b/o", b"again") == (200, b"again")
            assert "Traceback" not in running.text, "those who leave are no news"


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_stream_leaves_of_a_body_does_not_harm_the_next_request(kind: str, tmp_path: Path) -> None:
    with Running(serialize_class(streaming(kind)), tmp_path, NUM_WORKERS="1") as running:
        running.ready()
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            for _ in range(3):
                connection.request("PUT", "/b/o?etl_args=first", bytes(100_000))
                assert connection.getresponse().read() == bytes(10)


@needs_proc
@pytest.mark.parametrize("kind", KINDS)
def test_streams_need_no_memory(kind: str, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(300 << 20)
    name = quote(quote(str(big), safe=""), safe="")
    with Running(serialize_class(streaming(kind)), tmp_path, NUM_WORKERS="1") as running:
        running.ready()
        for path in (f"/b/o?etl_fqn={name}", "/b/o"):
            with socket.create_connection(("127.0.0.1", running.port), DEADLINE) as client:
                length = 0 if "fqn" in path else big.stat().st_size
                client.sendall(
                    f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode()
                )
                sending = threading.Thread(target=send_zeros, args=(client, length))
                sending.start()
                assert drain(client) > big.stat().st_size
                sending.join()
        peak = int(running.ask("PUT", f"/b/o?etl_args=peak&etl_fqn={name}", b"")[1])
    assert peak * 1024 < 120 << 20


def send_zeros(client: socket.socket, length: int) -> None:
    piece = bytes(1 << 20)
    while length:
        client.sendall(piece[: min(length, len(piece))])
        length -= min(length, len(piece))


def drain(client: socket.socket) -> int:
    buffer, total = bytearray(1 << 20), 0
    while count := client.recv_into(buffer):
        total += count
    return total


def test_websocket_is_refused_for_streams(tmp_path: Path) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with Running(serialize_class(streaming("FastAPIServer")), tmp_path, NUM_WORKERS="1") as running:
        running.ready()
        with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{running.port}/ws", proxy=None):
            pass
        until(lambda: "transform_stream() cannot serve WebSocket" in running.text)


def test_classes_that_do_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(webserver.HTTPMultiThreadedServer):
        pass

    monkeypatch.delenv("AIS_TARGET_URL", raising=False)
    with pytest.raises(OSError, match="AIS_TARGET_URL"):
        Nothing()
    monkeypatch.setenv("AIS_TARGET_URL", "http://127.0.0.1:9/v1/etl/_object/name/secret")
    with pytest.raises(TypeError, match="must override transform"):
        Nothing()


def test_only_the_fastapi_server_imports_fastapi() -> None:
    code = (
        "import sys; from aistore.sdk.etl.webserver import HTTPMultiThreadedServer, ETLServer, serialize_class; "
        "assert not {'fastapi', 'flask', 'uvicorn', 'requests', 'pydantic', 'asyncio'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_of_the_official_sdk_runs_here(kind: str, tmp_path: Path) -> None:
    """Pickled by the official package, unpickled by this one; same version of Python."""
    python = environments.official_python(environments.FRAMEWORK)
    if (why := environments.why_missing(environments.FRAMEWORK)) is not None:
        pytest.skip(why)
    if version_of(python) != version_of(Path(sys.executable)):
        pytest.skip("classes travel by value only between equal versions of Python")
    payload = subprocess.run([python, "-c", official_class(kind)], check=True, capture_output=True, text=True).stdout
    with Running(payload.strip(), tmp_path, NUM_WORKERS="1") as running:
        assert running.ready().ask("PUT", "/b/o?etl_args=x", b"abc") == (200, b"x:CBA")


def version_of(python: Path) -> str:
    code = "import sys; print(sys.version_info[:2])"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout


def official_class(kind: str) -> str:
    module = {"FastAPIServer": "fastapi_server", "FlaskServer": "flask_server"}.get(kind, "http_multi_threaded_server")
    return f"""
from aistore.sdk.etl import serialize_class
from aistore.sdk.etl.webserver.{module} import {kind}

class Reverse({kind}):
    def __init__(self):
        super().__init__()
        self.separator = b":"

    def transform(self, data, path, etl_args):
        self.logger.info("transforming %s", path)
        return etl_args.encode() + self.separator + data[::-1].upper()

print(serialize_class(Reverse))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_of_this_sdk_runs_under_the_official_one(kind: str) -> None:
    """Pickled here, unpickled and asked there."""
    python = environments.official_python(environments.FRAMEWORK)
    if (why := environments.why_missing(environments.FRAMEWORK)) is not None:
        pytest.skip(why)
    if version_of(python) != version_of(Path(sys.executable)):
        pytest.skip("classes travel by value only between equal versions of Python")
    payload = subprocess.run([sys.executable, "-c", official_class(kind)], check=True, capture_output=True, text=True)
    code = (
        "import base64, pickle, sys\n"
        "made = pickle.loads(base64.b64decode(sys.stdin.read()))()\n"
        "print(made.transform(b'abc', 'b/o', 'x').decode())"
    )
    env = {"PATH": os.environ["PATH"], "AIS_TARGET_URL": "http://127.0.0.1:9/v1/etl/_object/name/secret"}
    ran = subprocess.run(
        [python, "-c", code], input=payload.stdout, env=env, check=True, capture_output=True, text=True
    )
    assert ran.stdout.endswith("x:CBA\n")
