"""ETL: how fast a transformer starts, what passes through it inline, and a bucket's transformation against the same work done by a client."""

# ruff: noqa: ARG002 (transformers have the signature of their framework)

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from aistore import LocalCluster
from bench import server
from bench.environments import official_python
from bench.report import FORM, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket, Client

OBJECT_BYTES = 10 * 1024
NAMES = 1_000
GIB = 1 << 30
HTTP, FAST, FLASK = "HTTPMultiThreadedServer", "FastAPIServer", "FlaskServer"
FORMS = [
    (HTTP, "hpush"),
    (HTTP, "hpull"),
    (FAST, "hpush"),
    (FAST, "hpull"),
    (FAST, "ws"),
    (FLASK, "hpush"),
    (FLASK, "hpull"),
]

_SCRIPT = """
local names, seen = {names}, 0
local mine = 0
function setup(thread) thread:set("id", mine); mine = mine + 1 end
function request()
  seen = seen + 1
  local name = string.format("o%05d", seen % names)
  return wrk.format("{method}", "/v1/objects/bench/" .. name .. "?provider=ais&etl_name={etl}{more}")
end
"""


def etl(quick: bool) -> list[Row]:
    """All rows; `quick` takes less of everything."""
    with tempfile.TemporaryDirectory() as folder, LocalCluster(Path(folder) / "data", durability="relaxed") as cluster:
        client = cluster.client()
        bucket = client.bucket("bench").create()
        count = 2_000 if quick else 10_000
        _fill(bucket, count)
        rows = [_start(client, HTTP, 1.0), _start(client, FAST, 3.0), _start(client, FLASK, 3.0)]
        rows += _forms(cluster, client, min(count, NAMES), 1 if quick else 3)
        rows += _stream(cluster, client, bucket, GIB >> 3 if quick else GIB)
        bucket.object("copy").delete()
        rows.append(_offline(cluster, client, bucket, count))
    return rows


def identity(kind: str, *, stream: bool = False) -> type:
    """A transformer that changes nothing."""
    from aistore.sdk.etl import webserver

    base: Any = getattr(webserver, kind)
    if stream:

        class Streaming(base):  # type: ignore[misc]  # the framework is chosen at run time
            def transform_stream(self, reader: Any, path: str, etl_args: str) -> Iterator[bytes]:
                while piece := reader.read(1 << 20):
                    yield piece

        return Streaming

    class Identity(base):  # type: ignore[misc]  # as above
        def transform(self, data: bytes, path: str, etl_args: str) -> bytes:
            return data

    return Identity


def _fill(bucket: Bucket, count: int) -> None:
    content = bytes(range(256)) * (OBJECT_BYTES // 256)
    for i in range(count):
        bucket.object(f"o{i:05}").get_writer().put_content(content)


def _start(client: Client, kind: str, limit: float) -> Row:
    took = []
    for i in range(3):
        with client.etl(f"start-{i}") as one:
            began = time.perf_counter()
            one.init_class()(identity(kind))
            took.append(time.perf_counter() - began)
    best = min(took)
    return Row(f"`init_class` to ready, {kind}", f"{best:.2f} s", "", 0, f"under {limit:g} s", best < limit)


def _forms(cluster: LocalCluster, client: Client, names: int, rounds: int) -> list[Row]:
    """Objects per second through each form; the gate is for the best."""
    rates: dict[str, float] = {}
    for kind, comm in FORMS:
        with client.etl(f"form-{kind[:4].lower()}-{comm}") as one:
            one.init_class(comm_type=comm)(identity(kind))
            rates[f"{kind}, {comm}"] = _rate(cluster, one.name, names, "GET", "", rounds)
            if (kind, comm) == (HTTP, "hpush"):
                more = "&object_to=ais%2F%40%23%2Fbench%2Fcopy"
                rates[f"{kind}, direct put (an object copied through it)"] = _rate(
                    cluster, one.name, names, "PUT", more, rounds
                )
                with client.etl("form-second") as second:
                    second.init_class()(identity(kind))
                    rates[f"{kind} twice, a pipeline"] = _rate(
                        cluster, one.name, names, "GET", f"&etl_pipeline={second.name}", rounds
                    )
    best = max(rates, key=lambda form: rates[form])
    return [
        Row(f"{FORM}{form}", f"{rate:,.0f}/s", "", 0, *(("at least 1,000/s", rate >= 1000) if form == best else ("", True)))
        for form, rate in rates.items()
    ]  # fmt: skip


def _rate(cluster: LocalCluster, name: str, names: int, method: str, more: str, rounds: int) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.format(names=names, method=method, etl=name, more=more))
        script.flush()
        options = ("-c8", "-s", script.name, cluster.url)
        return max(server.wrk(cluster.pid or 0, *options, seconds=3)["per_s"] for _ in range(rounds))


def _stream(cluster: LocalCluster, client: Client, bucket: Bucket, size: int) -> list[Row]:
    piece = bytes(range(256)) * 4096
    bucket.object("big").get_writer().put_content(piece for _ in range(size >> 20))
    rows = []
    for kind in (HTTP, FAST):
        with client.etl(f"stream-{kind[:4].lower()}") as one:
            one.init_class(NUM_WORKERS=1)(identity(kind, stream=True))
            rows += [_streamed(cluster, one.name, kind, size, by_name=by_name) for by_name in (True, False)]
    bucket.object("big").delete()
    return rows


def _streamed(cluster: LocalCluster, name: str, kind: str, size: int, *, by_name: bool) -> Row:
    pids = [cluster.pid or 0, *_children(cluster.pid or 0)]
    url = f"{cluster.url}/v1/objects/bench/big?etl_name={name}" + ("" if by_name else "&latest-ver=true")
    took = []
    for pid in pids:
        _forget_peak(pid)
    before = {pid: server.resident_mib(pid) for pid in pids}
    for _ in range(3):
        began, seen = time.perf_counter(), 0
        with urlopen(url) as answer:
            while part := answer.read(1 << 20):
                seen += len(part)
        took.append(time.perf_counter() - began)
        if seen != size:
            raise RuntimeError(f"{seen} bytes came of {size}")
    more = max(server.peak_mib(pid) - before[pid] for pid in pids)
    speed = size / min(took) / 1e6
    how = "by file name" if by_name else "by value"
    return Row(
        f"`transform_stream` of {size >> 20} MiB, {kind}, {how}",
        f"{speed:,.0f} MB/s",
        "",
        0,
        "at least 150 MB/s, memory flat",
        speed >= 150 and more < 64,
        f"no process took more than {more:.0f} MiB",
    )


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_children(child)]
    return found


def _offline(cluster: LocalCluster, client: Client, bucket: Bucket, count: int) -> Row:
    """A job against the official client, which reads, changes and writes each object, in as many threads as are best for it."""
    ours = []
    with client.etl("upper-case") as one:
        one.init_class()(_upper())
        for i in range(3):
            to = client.bucket(f"made-{i}").create()
            began = time.perf_counter()
            job = bucket.transform(etl_name=one.name, to_bck=to)
            client.job(job).wait(verbose=False)
            ours.append(time.perf_counter() - began)
            if (made := sum(1 for _ in to.list_objects_iter())) != count:
                raise RuntimeError(f"{made} objects were made of {count}")
            to.delete()
    theirs = {threads: _client_loop(cluster.url, count, threads) for threads in (1, 4, 8)}
    best = min(theirs, key=lambda threads: theirs[threads])
    a, b = count / min(ours), count / theirs[best]
    return Row(
        f"copy and transform of {count:,} objects", f"{a:,.0f}/s", f"{b:,.0f}/s", a / b, "at least 3x more", a >= 3 * b,
        f"official: GET, transform, PUT in {best} threads",
    )  # fmt: skip


def _upper() -> type:
    from aistore.sdk.etl.webserver import HTTPMultiThreadedServer

    base: Any = HTTPMultiThreadedServer

    class Upper(base):  # type: ignore[misc]  # as in `identity`
        def transform(self, data: bytes, path: str, etl_args: str) -> bytes:
            return bytes(data.upper())

    return Upper


_LOOP = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from aistore.sdk import Client
endpoint, count, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = Client(endpoint)
source, target = client.bucket("bench"), client.bucket("official").create()
def one(i):
    name = f"o{i:05}"
    target.object(name).get_writer().put_content(source.object(name).get_reader().read_all().upper())
began = time.perf_counter()
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(one, range(count)))
print(json.dumps(time.perf_counter() - began))
target.delete()
"""


def _client_loop(endpoint: str, count: int, threads: int) -> float:
    command = [str(official_python("2.0.0")), "-c", _LOOP, endpoint, str(count), str(threads)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds: float = json.loads(out.splitlines()[-1])
    return seconds


if __name__ == "__main__":
    for row in etl("--quick" in sys.argv):
        print(
            f"{row.what:60} {row.ours:>12} {row.official:>10} {row.ratio:5.1f} {row.gate:32} {'yes' if row.passed else 'NO'}  {row.note}"
        )
