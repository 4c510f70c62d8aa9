"""What the server and a transformer say to each other (protocol/50 14: 64-71)."""

from __future__ import annotations

import base64
import json
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from etl_rest import Etl, acting, framework, payload_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore import LocalCluster
    from calling import Caller, Got

HTTP, FAST = "HTTPMultiThreadedServer", "FastAPIServer"

# Answers with what it was asked, and as the first line of an object's content says: `503 2` is that answer twice, then a good one.
SHOWING = """
import collections, http.server, json
seen = collections.Counter()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(200, b"Running")
    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen[self.path] += 1
        word, _, rest = body.decode("latin-1").partition(" ")
        said = json.dumps([self.path, dict(self.headers), body.decode("latin-1"), seen[self.path]]).encode()
        if word == "transient" and seen[self.path] <= int(rest):
            self.answer(503, b"later", [("Ais-Etl-Retry-Reason", "direct-put-transient")])
        elif word in ("400", "404", "418", "500", "503"):
            self.answer(int(word), b"no: " + rest.encode())
        elif word in ("200", "202", "204", "206"):
            self.answer(int(word), b"" if word == "204" else said)
        else:
            self.answer(200, said)
    def answer(self, status, body, headers=()):
        self.send_response(status)
        for field in (*headers, ("Content-Type", "text/x-mine"), *([("Content-Length", str(len(body)))] if status != 204 else [])):
            self.send_header(*field)
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


@pytest.fixture
def showing(etl: Etl) -> Etl:
    """A transformer that shows the request."""
    assert etl.runs([sys.executable, "-c", SHOWING], obj_timeout="20s").status == 200
    return etl


def hook(etl: Etl, bucket: str) -> str:
    """Where a transformer reads and writes objects."""
    found: str = json.loads(etl.get(bucket, "a.txt", "env").body)["AIS_TARGET_URL"]
    assert found.endswith("/" + found.rpartition("/")[2])
    return urlsplit(found).path


def test_reading_and_writing_for_transformers(etl: Etl, src: str) -> None:
    etl.started(acting(HTTP))
    path = hook(etl, src)
    etl.call.put(src, "dir/ü b#", b"abc" * 10_000)
    name = f"ais/@#/{src}/dir/ü b#"
    for shown in (quote(name, safe=""), quote(name, safe="@"), quote(name)):
        got = etl.call("GET", f"{path}/{shown}")
        assert (got.status, got.body) == (200, b"abc" * 10_000)
    assert etl.call("GET", f"{path}/{quote(name)}?latest-ver=true").status == 200
    head = etl.call("HEAD", f"{path}/{quote(name, safe='')}")
    assert (head.status, head.headers["Content-Length"]) == (200, "30000")
    for size in (0, 10, 100_000):
        put = etl.call("PUT", f"{path}/{quote(name, safe='')}?uuid=x&owt=3", b"z" * size)
        assert (put.status, put.body) == (200, b"")
        assert etl.call.get(src, "dir/ü b#").body == b"z" * size


def test_what_transformers_may_not(etl: Etl, src: str) -> None:
    etl.started(acting(HTTP))
    path = hook(etl, src)
    uname = quote(f"ais/@#/{src}/a.txt", safe="")

    def message(got: Got, status: int) -> str:
        assert got.status == status
        return str(got.error["message"])

    wrong = path[:-1] + ("a" if path[-1] != "a" else "b")
    assert message(etl.call("GET", f"{wrong}/{uname}"), 400) == "unrecognized request source"
    assert message(etl.call("GET", f"/v1/etl/_object/no-such-etl/x/{uname}"), 404).startswith("etl not found")
    assert "does not exist" in message(etl.call("GET", f"{path}/{uname}x"), 404)
    assert path.rpartition("/")[2] not in str(etl.call("GET", f"{path}/{uname}x").error)
    assert etl.call("DELETE", f"{path}/{uname}").status == 405
    assert etl.call("PUT", f"{path}/ais%2F@%23%2Fno-such-bucket%2Fx", b"x").status == 404
    assert etl.call("GET", f"{path}/nonsense").status == 400
    etl.ask("POST", "/stop")
    assert message(etl.call("GET", f"{path}/{uname}"), 404).startswith("etl not found")


def test_the_request_of_hpush(showing: Etl, src: str) -> None:
    showing.call.put(src, "dir/a b#?%ü", b"content")
    path, headers, body, _ = json.loads(showing.get(src, "dir/a b#?%ü", 'x y&{"ü":1}').body)
    assert path == f"/{src}/dir/a%20b%23%3F%25%C3%BC?etl_args=x%20y%26%7B%22%C3%BC%22%3A1%7D"
    assert (headers["Content-Length"], body) == ("7", "content")
    assert "Ais-Node-Url" not in headers
    showing.call.put(src, "large", b"x" * 3_000_000)
    path, headers, body, _ = json.loads(showing.get(src, "large").body)
    assert (path, headers["Content-Length"], len(body)) == (f"/{src}/large", "3000000", 3_000_000)


def test_the_stages_are_told(showing: Etl, src: str, call: Caller) -> None:
    with Etl(call) as other, Etl(call) as third:
        for one in (other, third):
            assert one.init({"runtime": {"image": "aistorage/transformer_echo"}}).status == 200
        _, headers, _, _ = json.loads(showing.get(src, "a.txt", "", f"&etl_pipeline={other.name},{third.name}").body)
        hops = headers["Ais-Node-Url"].split(",")
        assert len(set(hops)) == 2
        assert all(urlsplit(hop).path == "" and urlsplit(hop).hostname == "127.0.0.1" for hop in hops)


def test_a_path_goes_escaped_twice(call: Caller, etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    command = [sys.executable, "-c", SHOWING]
    env = [{"name": "ETL_DIRECT_FQN", "value": "true"}]
    assert etl.init({"runtime": {"image": "x", "command": command, "env": env}}).status == 200
    path, headers, body, _ = json.loads(etl.get(src, "dir/c.txt").body)
    path, _, query = path.partition("?")
    assert (path, headers["Content-Length"], body) == (f"/{src}/dir/c.txt", "0", "")
    assert query.startswith(f"etl_fqn={quote(quote(str(etl_cluster.path / 'etl'), safe=''))}%252F{etl.name}")
    assert query.endswith("%252Fc.txt")


@pytest.mark.parametrize(("word", "status"), [("200", 200), ("202", 200), ("204", 200), ("206", 206)])
def test_statuses_of_results(showing: Etl, src: str, word: str, status: int) -> None:
    showing.call.put(src, "x", f"{word} x".encode())
    got = showing.get(src, "x")
    assert (got.status, got.body == b"") == (status, word == "204")
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert showing.copy(f"{src}/x", f"{src}/y").status == 200
    assert (showing.call.get(src, "y").body == b"") is (word == "204")


@pytest.mark.parametrize("status", [400, 404, 418, 500, 503])
def test_statuses_of_refusals(showing: Etl, src: str, status: int) -> None:
    showing.call.put(src, "x", f"{status} reasons\nof mine".encode())
    for got in (showing.get(src, "x"), showing.copy(f"{src}/x", f"{src}/y")):
        assert (got.status, got.error["message"]) == (status, "ETL error: no: reasons\nof mine")
    assert showing.call.get(src, "y").status == 404


def test_a_transient_failure_of_direct_put_is_repeated(showing: Etl, src: str) -> None:
    """With the body, as often as the limit of the object allows; a plain 503 is not."""
    showing.call.put(src, "x", b"transient 2")
    _, headers, body, count = json.loads(showing.get(src, "x").body)
    assert (headers["Content-Length"], body, count) == ("11", "transient 2", 3)
    showing.call.put(src, "y", b"503 2")
    assert showing.get(src, "y").status == 503
    showing.call.put(src, "y", b"200 counted")
    assert json.loads(showing.get(src, "y").body)[3] == 2


SOCKETS = """
import json
from http import HTTPStatus
from websockets.sync.server import serve
def handle(connection):
    while True:
        said = connection.recv()
        control = json.loads(said)
        content = None if "fqn" in control else connection.recv()
        if content == b"text":
            connection.send("Transform error: nothing to see")
        elif content in (b"", b"zero"):
            connection.send("0")
        elif content == b"done":
            connection.send("4")
        elif content == b"closed":
            connection.close()
            return
        else:
            connection.send(json.dumps([type(said).__name__, control, None if content is None else len(content)]).encode())
def health(connection, request):
    if request.path != "/ws":
        return connection.respond(HTTPStatus.OK, "Running")
with serve(handle, "", 8000, process_request=health, max_size=None) as server:
    server.serve_forever()
"""


def test_messages_over_websocket(etl: Etl, src: str) -> None:
    command = [sys.executable, "-c", SOCKETS]
    got = etl.runs(command, communication="ws://", support_direct_put=True, obj_timeout="5s")
    assert got.status == 200, got.body
    etl.call.put(src, "dir/ü", b"12345")
    assert json.loads(etl.get(src, "dir/ü").body) == ["bytes", {"path": "dir/ü"}, 5]
    assert json.loads(etl.get(src, "dir/ü", "args").body) == ["bytes", {"etl_args": "args", "path": "dir/ü"}, 5]
    etl.call.put(src, "large", b"x" * 2_000_000)
    assert json.loads(etl.get(src, "large").body)[2] == 2_000_000
    for content, status, text in (
        (b"text", 500, "ETL error: Transform error: nothing to see"),
        (b"zero", 500, "ETL error: 0"),
        (b"", 200, ""),
        (b"done", 200, ""),
        (b"closed", 400, "received 1000"),
    ):
        etl.call.put(src, "x", content)
        got = etl.get(src, "x")
        assert got.status == status
        assert got.body == b"" if status == 200 else text in str(got.error["message"])
    assert etl.get(src, "dir/ü").status == 200


def test_websocket_needs_a_transformer_that_speaks_it(etl: Etl, etl_cluster: LocalCluster) -> None:
    got = etl.init_class(acting(HTTP), "ws")
    assert got.status == 400
    assert "/ws: server rejected WebSocket connection" in str(got.error["message"])
    assert etl.stage == "Aborted"


# -- packages ------------------------------------------------------------------------------------------------------


def wheel(folder: Path) -> Path:
    """A package of one module, `paint_colours`, whose `mix` gives 42."""
    path = folder / "paint_colours-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: paint-colours\nVersion: 1.0\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("paint_colours.py", "def mix():\n    return 42\n")
        file.writestr("paint_colours-1.0.dist-info/METADATA", about)
        file.writestr(
            "paint_colours-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("paint_colours-1.0.dist-info/RECORD", "")
    return path


def test_dependencies_are_installed_apart(call: Caller, src: str, tmp_path: Path, etl_cluster: LocalCluster) -> None:
    class Painting(framework(HTTP)):  # type: ignore[misc]  # the framework is found at run time
        def transform(self, data: bytes, path: str, etl_args: str) -> bytes:
            import sys

            import paint_colours  # type: ignore[import-not-found]  # there only

            return f"{paint_colours.mix()} {sys.prefix}".encode()

    packages = {"PACKAGES": str(wheel(tmp_path))}
    prefixes = set()
    for _ in range(2):
        with Etl(call) as etl:
            etl.started(payload_of(Painting), env=packages)
            number, _, prefix = etl.get(src, "a.txt").body.decode().partition(" ")
            assert number == "42"
            prefixes.add(Path(prefix))
    (used,) = prefixes
    assert used.is_relative_to(etl_cluster.path / "etl" / ".environments")


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"PACKAGES": "/no/such/package.whl"}, "Failed to install package '/no/such/package.whl'"),
        ({"OS_PACKAGES": "no-such-os-package"}, "no-such-os-package"),
    ],
)
def test_packages_that_cannot_be_had(etl: Etl, env: dict[str, str], text: str) -> None:
    got = etl.init_class(acting(HTTP), env=env)
    assert got.status == 400
    assert text in str(got.error["message"])


@pytest.mark.parametrize("name", ["echo", "hello_world", "md5", "hash_with_args", "compress"])
@pytest.mark.parametrize("comm", ["hpush", "hpull", "ws"])
def test_the_public_transformers(etl: Etl, src: str, name: str, comm: str) -> None:
    import bz2
    import gzip
    import hashlib

    import xxhash

    runtime = {
        "image": f"registry.example/aistorage/transformer_{name}:latest",
        "command": ["uvicorn", "fastapi_server:fastapi_app", "--host", "0.0.0.0", "--port", "8000"],
        "env": [
            {"name": "SEED_DEFAULT", "value": "5"},
            {"name": "COMPRESS_OPTIONS", "value": '{"compression": "bz2"}'},
        ],
    }
    got = etl.init({"communication": f"{comm}://", "support_direct_put": True, "runtime": runtime})
    assert got.status == 200, got.body
    data = b"content of a.txt"
    made = etl.get(src, "a.txt").body
    expected: dict[str, Callable[[], bool]] = {
        "echo": lambda: made == data,
        "hello_world": lambda: made == b"Hello World!",
        "md5": lambda: made == hashlib.md5(data).hexdigest().encode(),
        "hash_with_args": lambda: (
            (made, etl.get(src, "a.txt", "7").body, etl.get(src, "a.txt", "?").body)
            == tuple(xxhash.xxh64(data, seed=seed).hexdigest().encode() for seed in (5, 7, 5))
        ),
        "compress": lambda: (
            bz2.decompress(made) == data
            and gzip.decompress(etl.get(src, "a.txt", '{"compression":"gzip"}').body) == data
            and etl.get(src, "a.txt", '{"mode":"decompress"}').status == 500
        ),
    }
    assert expected[name]()
    assert base64.b64decode(json.loads(etl.ask("GET", "/logs").body)[0]["logs"])
