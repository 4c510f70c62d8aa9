"""Remote buckets: a cold read against obstore reading the same object directly, and a cached one against one of the cluster's own."""

from __future__ import annotations

import http.client
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from urllib.request import urlopen

from aistore import LocalCluster
from bench.peers import S3, why_missing
from bench.report import Row

_GIB = 1 << 30
_SHARED = 64 << 20
_READERS = 64
_ROUNDS = 3
_BUCKET = "bench"


def rows(quick: bool) -> list[Row]:
    """The rows of the report; one that says why where there is no S3 server."""
    if reason := why_missing("s3"):
        return [Row("cold GET from a local S3 server", "", "", 0, "at least 0.5 of obstore", False, reason)]
    import obstore
    from obstore.store import S3Store

    size = _GIB >> 4 if quick else _GIB
    piece = os.urandom(1 << 20)
    with S3() as peer, LocalCluster(backends={"aws": peer.options}) as cluster, cluster.client() as client:
        peer.make_bucket(_BUCKET)
        store = S3Store(_BUCKET, config=peer.options, client_options={"allow_http": True, "timeout": "1d"})  # type: ignore[arg-type]  # its names of options are checked by obstore
        for name, length in (("big", size), ("shared", _SHARED)):
            obstore.put(store, name, (piece for _ in range(length >> 20)))
        own = client.bucket(_BUCKET).create().object("big")
        own.get_writer().put_content(piece for _ in range(size >> 20))
        remote = client.bucket(_BUCKET, "aws")
        direct, cold, cached, local = [], [], [], []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            if sum(len(part) for part in obstore.get(store, "big").stream()) != size:
                raise RuntimeError("obstore read another number of bytes")
            direct.append(time.perf_counter() - began)
            cold.append(_drain(remote.object("big").get_url(), size))
            os.sync()  # else the first read afterwards shares the machine with the system that writes what was fetched
            for _ in range(_ROUNDS):
                cached.append(_drain(remote.object("big").get_url(), size))
                local.append(_drain(own.get_url(), size))
            remote.evict(keep_md=True)
        downloads = _downloads(cluster)
        with LocalCluster(targets=3, backends={"aws": peer.options}) as three:
            downloads_of_three = _downloads(three)
    a, b, c, d = (size / min(times) / 1e9 for times in (cold, direct, cached, local))
    return [
        Row(f"cold GET of {size >> 20} MiB from a local S3 server", f"{a:.2f} GB/s", "", 0, "at least 0.5 of obstore", a >= 0.5 * b,
            f"obstore directly {b:.2f} GB/s: {a / b:.2f} of it"),
        Row("GET of the cached object", f"{c:.2f} GB/s", "", 0, "as a local one", c >= 0.8 * d, f"local {d:.2f} GB/s: {c / d:.2f} of it"),
        Row(f"downloads for {_READERS} readers of one cold object", str(downloads), "", 0, "one", downloads == 1),
        Row("the same, through three targets in turn", str(downloads_of_three), "", 0, "one", downloads_of_three == 1),
    ]  # fmt: skip


def _drain(url: str, size: int) -> float:
    """Seconds to read an object to its end into one buffer."""
    parts = urlsplit(url)
    buffer = memoryview(bytearray(1 << 20))
    began = time.perf_counter()
    connection = http.client.HTTPConnection(parts.netloc, timeout=600)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        got = 0
        while count := answer.readinto(buffer):
            got += count
    finally:
        connection.close()
    if answer.status != 200 or got != size:
        raise RuntimeError(f"{url}: {answer.status}, {got} of {size} bytes")
    return time.perf_counter() - began


def _downloads(cluster: LocalCluster) -> int:
    """How often an object is fetched that many ask for at the same time, each target in turn."""
    with cluster.client() as client:
        client.bucket(_BUCKET, "aws").head()
        path = client.bucket(_BUCKET, "aws").object("shared").get_url().removeprefix(cluster.url)
    urls = _targets(cluster.url)
    before = sum(map(_fetched, urls))
    with ThreadPoolExecutor(_READERS) as readers:
        list(readers.map(lambda i: _drain(urls[i % len(urls)] + path, _SHARED), range(_READERS)))
    return sum(map(_fetched, urls)) - before


def _targets(url: str) -> list[str]:
    """Where the targets of a cluster answer."""
    with urlopen(f"{url}/v1/daemon?what=smap", timeout=60) as answer:
        return [node["public_net"]["direct_url"] for node in json.load(answer)["tmap"].values()]


def _fetched(url: str) -> int:
    """Objects that a target has fetched from backends."""
    with urlopen(f"{url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith("ais_target_get_cold_count{"))
