"""Objects through an ETL, one at a time (protocol/50 14: 31-47, 61, 62)."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from calling import Caller
from etl_rest import Etl, acting, framework, payload_of
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore import LocalCluster

HTTP, FAST = "HTTPMultiThreadedServer", "FastAPIServer"
FORMS = [(HTTP, "hpush"), (HTTP, "hpull"), (FAST, "hpush"), (FAST, "hpull"), (FAST, "ws")]
NAMES = ["plain", "with space", "a#b", "what?", "100%", "a%20b", "dir/sub dir/ü.txt", "x&y=z+1"]


@pytest.mark.parametrize(("kind", "comm"), FORMS)
def test_every_form_of_communication(shared: Callable[..., Etl], src: str, kind: str, comm: str) -> None:
    got = shared(kind, comm).get(src, "a.txt")
    assert (got.status, got.body) == (200, b"CONTENT OF A.TXT")
    assert not [name for name in got.headers if name.lower().startswith("ais-")]


@pytest.mark.parametrize(("kind", "comm"), FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_names_of_objects(shared: Callable[..., Etl], src: str, kind: str, comm: str, name: str) -> None:
    etl = shared(kind, comm)
    assert etl.call.put(src, name, b"abc").status == 200
    assert etl.get(src, name).body == b"ABC"
    if kind == FAST:
        path = {"hpush": f"{src}/{name}", "hpull": f"ais/@#/{src}/{name}", "ws": name}[comm]
        assert etl.describe(src, name)[:2] == ["bytes", path]


@pytest.mark.parametrize(("kind", "comm"), FORMS)
@pytest.mark.parametrize(
    "args", ['describe {"a":[1,2],"b":"x+y & 100%"}', "describe ä€𝄞", "describe a=b&c", "describe #?/"]
)
def test_arguments_arrive_as_they_are(shared: Callable[..., Etl], src: str, kind: str, comm: str, args: str) -> None:
    assert json.loads(shared(kind, comm).get(src, "a.txt", args).body)[2] == args


@pytest.mark.parametrize(("kind", "comm"), FORMS)
def test_large_and_empty_objects(shared: Callable[..., Etl], src: str, kind: str, comm: str) -> None:
    etl = shared(kind, comm)
    for size in (0, 1, 9000, 100_000, 3 << 20):
        data = bytes(range(97, 123)) * (size // 26) + b"z" * (size % 26)
        assert etl.call.put(src, "sized", data).status == 200
        got = etl.get(src, "sized")
        assert (got.status, got.body == data.upper()) == (200, True)


@pytest.mark.parametrize(("kind", "comm"), FORMS)
def test_nothing_as_result(shared: Callable[..., Etl], src: str, kind: str, comm: str) -> None:
    got = shared(kind, comm).get(src, "a.txt", "empty")
    assert (got.status, got.body) == (200, b"")


def test_a_range_is_not_looked_at(shared: Callable[..., Etl], src: str) -> None:
    got = shared().get(src, "a.txt", headers={"Range": "bytes=0-3"})
    assert (got.status, got.body) == (200, b"CONTENT OF A.TXT")


def test_by_value_and_by_name(shared: Callable[..., Etl], src: str) -> None:
    for more in ("&latest-ver=true", "&synchronize=true", "&latest-ver=false", "&etl_pipeline="):
        assert shared().get(src, "a.txt", more=more).body == b"CONTENT OF A.TXT"


@pytest.mark.parametrize("comm", ["hpush", "hpull", "ws"])
def test_direct_file_access(etl: Etl, src: str, etl_cluster: LocalCluster, comm: str) -> None:
    etl.started(acting(FAST), comm, env={"ETL_DIRECT_FQN": "true", "NUM_WORKERS": "1"})
    for name, size in (("small", 10), ("dir/sub dir/100%.bin", 100_000)):
        data = b"x" * size
        etl.call.put(src, name, data)
        assert etl.get(src, name).body == b"X" * size
        kind, _, _, path, _ = etl.describe(src, name)
        assert kind == "str"
        assert Path(path).name == name.rpartition("/")[2]
        until(lambda path=path: not Path(path).exists())  # type: ignore[misc]  # mypy cannot tell what a default makes of a lambda
        assert json.loads(etl.get(src, name, "describe", "&latest-ver=true").body)[0] == "bytes"
    assert etl.call.get(src, "small").body == b"x" * 10
    (objects,) = (etl_cluster.path / "etl").glob(f"{etl.name}-*/objects")
    until(lambda: list(objects.iterdir()) == [])


def test_etls_that_do_not_run(etl: Etl, src: str) -> None:
    got = etl.get(src, "a.txt")
    assert got.status == 404
    assert f"{etl.name} does not exist - try starting new ETL with " in str(got.error["message"])
    assert "etl job" not in str(got.error["message"])


def test_objects_that_do_not_exist(etl: Etl, src: str) -> None:
    etl.started(acting(HTTP))
    got = etl.get(src, "nothing")
    assert got.status == 404
    assert f"ais://{src}/nothing does not exist" in str(got.error["message"])
    assert etl.errors() == [{"obj_name": f"ais://{src}/nothing", "msg": "object not found", "ecode": 404}]
    assert etl.get("no-such-bucket", "x").status == 404


@pytest.mark.parametrize("kind", [HTTP, FAST, "FlaskServer"])
def test_transformers_that_raise(etl: Etl, src: str, kind: str) -> None:
    etl.started(acting(kind), env={"NUM_WORKERS": "1"})
    for _ in range(2):
        got = etl.get(src, "a.txt", "raise no such colour")
        assert got.status == 500
        assert str(got.error["message"]).startswith("ETL error: ")
        assert "no such colour" in str(got.error["message"])
    missing = etl.get(src, "b.txt", "missing")
    assert missing.status == 404
    assert str(missing.error["message"]).startswith("ETL error: ")
    errors = etl.errors()
    assert [(one["obj_name"], one["ecode"]) for one in errors] == [
        (f"ais://{src}/a.txt", 500),
        (f"ais://{src}/b.txt", 404),
    ]
    assert errors[0]["msg"] == got.error["message"]
    assert etl.listed["obj_count"] == 0
    assert etl.get(src, "a.txt").status == 200
    assert etl.listed["obj_count"] == 1


def test_errors_of_hpull_are_the_transformers_own(etl: Etl, src: str) -> None:
    etl.started(acting(FAST), "hpull", env={"NUM_WORKERS": "1"})
    got = etl.get(src, "a.txt", "raise x")
    assert (got.status, got.body, got.headers["Content-Type"]) == (
        500,
        b'{"detail":"Processing error: x"}',
        "application/json",
    )
    assert etl.get(src, "a.txt").headers["Content-Type"] == "application/octet-stream"
    assert etl.get(src, "a.txt", more="&etl_pipeline=" + etl.name).status == 400
    assert etl.errors() == []
    assert etl.listed["obj_count"] == 0


@pytest.mark.parametrize("comm", ["hpush", "hpull", "ws"])
def test_transformers_that_take_too_long(etl: Etl, src: str, comm: str) -> None:
    etl.started(acting(FAST), comm, obj_timeout="500ms", env={"NUM_WORKERS": "1"})
    got = etl.get(src, "a.txt", "sleep 1")
    assert got.status == 400
    assert "context deadline exceeded (Client.Timeout exceeded" in str(got.error["message"])
    until(lambda: "slept" in etl.log)
    assert etl.log.count("slept") == 1
    assert etl.stage == "Running"


def test_pipelines(shared: Callable[..., Etl], call: Caller, src: str) -> None:
    """Three stages of every kind, and arguments for each of them."""

    class Adding(framework(FAST)):  # type: ignore[misc]  # the framework is found at run time
        def transform(self, data: bytes, path: str, etl_args: str) -> bytes:
            import os

            return data + f"|{os.environ['LETTER']}{etl_args}".encode()

    with Etl(call) as a, Etl(call) as b, Etl(call) as c:
        for etl, comm, letter in ((a, "hpush", "a"), (b, "hpull", "b"), (c, "ws", "c")):
            etl.started(payload_of(Adding), comm, env={"LETTER": letter, "NUM_WORKERS": "1"})
        assert a.get(src, "a.txt", "!", f"&etl_pipeline={b.name},{c.name}").body == b"content of a.txt|a!|b!|c!"
        assert c.get(src, "a.txt", "", f"&etl_pipeline={a.name}").body == b"content of a.txt|c|a"
        for more in (f"{b.name},no-such-etl", f"{shared().name}x"):
            got = a.get(src, "a.txt", "", f"&etl_pipeline={more}")
            assert got.status == 400
            assert "entry not found in the target" in str(got.error["message"])
        assert b.ask("POST", "/stop").status == 200
        assert a.get(src, "a.txt", "", f"&etl_pipeline={b.name}").status == 400
    stages = shared(FAST, "hpush")
    got = stages.get(src, "a.txt", "raise late", f"&etl_pipeline={shared(HTTP, 'hpush').name}")
    assert (got.status, "late" in str(got.error["message"])) == (500, True)


@pytest.mark.parametrize(("kind", "comm"), FORMS)
def test_many_at_once(shared: Callable[..., Etl], etl_cluster: LocalCluster, src: str, kind: str, comm: str) -> None:
    name = shared(kind, comm).name

    def one(_: int) -> bytes:
        with Caller(etl_cluster.url) as call:
            return Etl(call, name).get(src, "dir/c.txt").body

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(one, range(40))) == {b"CONTENT OF DIR/C.TXT"}


def test_head_describes_the_object_itself(shared: Callable[..., Etl], src: str) -> None:
    got = shared().call("HEAD", f"/v1/objects/{src}/a.txt?etl_name={shared().name}")
    assert (got.status, got.headers["Content-Length"]) == (200, str(len(b"content of a.txt")))


def test_targets_send_clients_to_whoever_runs_the_etls(shared: Callable[..., Etl], call: Caller, src: str) -> None:
    name = shared().name
    for node in json.loads(call("GET", "/v1/daemon?what=smap").body)["tmap"].values():
        with Caller(node["public_net"]["direct_url"]) as target:
            assert Etl(target, name).get(src, "dir/c.txt", "x y+&").body == b"CONTENT OF DIR/C.TXT"


STREAM = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        self.send_response(200); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
        while left:
            data = self.rfile.read(min(left, 1 << 20))
            left -= len(data)
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))
        self.wfile.write(b"0\\r\\n\\r\\n")
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def test_streams_both_ways_in_bounded_memory(etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    size = 192 << 20
    piece = bytes(range(256)) * 4096
    where = etl.call.redirected("PUT", f"/v1/objects/{src}/big")
    with Caller(where) as call:
        put = call(
            "PUT",
            "/v1/" + where.partition("/v1/")[2],
            (piece for _ in range(size >> 20)),
            {"Content-Length": str(size)},
        )
        assert put.status == 200
    assert etl.runs([sys.executable, "-c", STREAM], obj_timeout="120s").status == 200

    def peak() -> int:
        status = Path(f"/proc/{etl_cluster.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10

    Path(f"/proc/{etl_cluster.pid}/clear_refs").write_text("5")
    before = peak()
    assert len(etl.get(src, "big").body) == size
    assert etl.copy(f"{src}/big", f"{src}/copy").status == 200
    assert etl.call("HEAD", f"/v1/objects/{src}/copy").headers["Content-Length"] == str(size)
    assert peak() - before < 64


# -- copies --------------------------------------------------------------------------------------------------------


def test_a_copy_is_a_new_object(shared: Callable[..., Etl], src: str) -> None:
    etl = shared()
    etl.call("PUT", f"/v1/objects/{src}/custom", b"x" * 20_000, {"Ais-Custom-Md": "k=v"})
    etl.call.make_bucket(f"{src}-dst")
    assert etl.copy(f"{src}/custom", f"{src}-dst/copy").status == 200
    got = etl.call.get(f"{src}-dst", "copy")
    assert got.body == b"X" * 20_000
    assert got.headers["Ais-Custom-Md"] is None
    assert got.headers["Ais-Checksum-Value"] != etl.call.get(src, "custom").headers["Ais-Checksum-Value"]
    assert etl.call.get(src, "custom").body == b"x" * 20_000
    # Onto itself, and with an empty result.
    assert etl.copy(f"{src}/a.txt", f"{src}/a.txt").status == 200
    assert etl.call.get(src, "a.txt").body == b"CONTENT OF A.TXT"
    assert etl.copy(f"{src}/a.txt", f"{src}/a.txt", "&etl_args=empty").status == 200
    assert etl.call.get(src, "a.txt").body == b""


def test_copies_that_are_refused(etl: Etl, shared: Callable[..., Etl], src: str) -> None:
    missing = etl.copy(f"{src}/a.txt", f"{src}/x")
    assert (missing.status, missing.error["message"]) == (400, f"ETL {etl.name} doesn't exist")
    running = shared()
    assert running.copy(f"{src}/nothing", f"{src}/x").status == 404
    assert running.copy(f"{src}/a.txt", "no-such-bucket/x").status == 404
    assert running.copy(f"{src}/a.txt", f"{src}/x", "&etl_pipeline=no-such-etl").status == 400
    failed = running.copy(f"{src}/a.txt", f"{src}/x", "&etl_args=raise%20x")
    assert (failed.status, str(failed.error["message"])[:11]) == (500, "ETL error: ")
    assert {"obj_name": f"ais://{src}/a.txt", "msg": failed.error["message"], "ecode": 500} in running.errors()
    sockets = shared(FAST, "ws").copy(f"{src}/a.txt", f"{src}/x")
    assert (sockets.status, "invalid xact parameter does not exist" in str(sockets.error["message"])) == (404, True)
    assert running.call.get(src, "x").status == 404
