"""Flipped bits on the disk of a running server: never a good answer, found by whoever reads, shown by a scrub, ended by an overwrite."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from aistore.sdk.errors import AISError, ErrBadChecksum
from aistore.wire.checksum import digest
from calling import Caller, Got, where
from serving import Raw, request
from store_truth import is_settled, problems
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEDIUM = bytes(range(256)) * 160
LARGE = bytes(range(256)) * 12_000
SIZES = {"medium": MEDIUM, "large": LARGE}


@pytest.fixture(scope="module", params=[1, 3])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(targets=request.param) as started:
        yield started


@pytest.fixture
def call(cluster: LocalCluster) -> Iterator[Caller]:
    """Calls on a cluster with a bucket `b` of undamaged objects."""
    with Caller(cluster.url) as caller:
        caller.make_bucket("b")
        for name, content in SIZES.items():
            assert caller.put("b", name, content).status == 200
        yield caller
    with Caller(cluster.url) as caller:
        assert caller.action("DELETE", "/v1/buckets/b", "destroy-bck").status == 200
    until(lambda: is_settled(cluster.path) and problems(cluster.path, recovered=False) == [])


def content_of(root: Path, name: str) -> Path:
    with closing(sqlite3.connect(root / "catalog.db")) as db:
        sql = "SELECT content FROM object o JOIN bucket b ON b.id = o.bucket WHERE b.name = 'b' AND o.name = ?"
        (content,) = db.execute(sql, (name,)).fetchone()
    (path,) = (root / "content").glob(f"*/{content:016x}")
    return path


def flip(root: Path, name: str, at: float = 0.5, bit: int = 3) -> None:
    """Change one bit of an object's content."""
    path = content_of(root, name)
    before = path.stat()
    with path.open("r+b") as file:
        offset = int(at * before.st_size)
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))
    # Where the clock for this goes by 10 ms, it would be as old as it was.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


def is_refused(got: Got, status: int = 410) -> None:
    assert (got.status, got.error["tcode"]) == (status, "ErrBadCksum"), got.body
    assert "BAD DATA CHECKSUM" in str(got.error["message"])


def read_damaged(call: Caller, name: str, headers: dict[str, str] | None = None) -> None:
    """A first read: an answer that is cut, or a refusal, and a refusal ever after."""
    try:
        got = call.get("b", name, headers)
    except (http.client.IncompleteRead, ConnectionError):
        pass
    else:
        is_refused(got)
    until(lambda: call.get("b", name, {"Range": "bytes=0-9"}).status == 410)
    is_refused(call.get("b", name))


@pytest.mark.parametrize("at", [0.0, 0.5, 0.9999999])
@pytest.mark.parametrize("name", SIZES)
def test_damaged_content_is_never_a_complete_answer(cluster: LocalCluster, call: Caller, name: str, at: float) -> None:
    flip(cluster.path, name, at)
    read_damaged(call, name)
    assert call("HEAD", where("b", name)).status == 200
    # Storing what was there mends it, also with the checksum that would make that superfluous.
    summed = {"Ais-Checksum-Type": "xxhash2", "Ais-Checksum-Value": digest("xxhash2", SIZES[name])}
    assert call.put("b", name, SIZES[name], summed).status == 200
    assert call.get("b", name).body == SIZES[name]


def test_all_of_it_as_a_range_is_the_same(cluster: LocalCluster, call: Caller) -> None:
    flip(cluster.path, "large")
    read_damaged(call, "large", {"Range": "bytes=0-"})


def test_content_that_is_gone_or_shorter_is_refused(cluster: LocalCluster, call: Caller) -> None:
    content_of(cluster.path, "medium").unlink()
    got = call.get("b", "medium")
    assert (got.status, got.error["tcode"]) == (410, "ErrBadCksum")
    with content_of(cluster.path, "large").open("r+b") as file:
        file.truncate(len(LARGE) - 1)
    read_damaged(call, "large")
    for name in SIZES:
        assert call.put("b", name, SIZES[name]).status == 200


def test_what_is_damaged_is_told_in_lines_of_the_log(cluster: LocalCluster, call: Caller) -> None:
    assert call.put("b", "told", LARGE).status == 200
    flip(cluster.path, "told")
    read_damaged(call, "told")
    logs = "".join(path.read_text() for path in cluster.path.rglob("*.log") if "errors" not in path.name)
    found, cut = (line for line in logs.splitlines() if "told" in line)
    assert "content of 'told' (bucket number " in found
    assert "GET /v1/objects/b/told broke off: " in cut
    assert "xxhash2(" in found
    assert "xxhash2(" in cut
    assert "Traceback" not in logs


@pytest.mark.parametrize("name", SIZES)
def test_who_asks_for_validation_gets_the_references_error(cluster: LocalCluster, call: Caller, name: str) -> None:
    props = {"checksum": {"validate_warm_get": True}}
    assert call.action("PATCH", "/v1/buckets/b", "set-bprops", props).status == 200
    assert call.get("b", name).body == SIZES[name]
    flip(cluster.path, name)
    is_refused(call.get("b", name), 500)
    is_refused(call.get("b", name))


@pytest.mark.parametrize("name", SIZES)
def test_nothing_is_made_of_damaged_content(cluster: LocalCluster, call: Caller, name: str) -> None:
    call.make_bucket("other")
    props = {"checksum": {"type": "md5"}}
    assert call.action("PATCH", "/v1/buckets/other", "set-bprops", props).status == 200
    flip(cluster.path, name)
    client = cluster.client()
    with pytest.raises(AISError, match="xxhash2"):
        client.bucket("b").object(name).copy(client.bucket("other").object("copy"))
    appended = call("PUT", f"{where('b', name)}?append_type=append&append_handle=", b"more")
    assert "BAD DATA" in str(appended.error["message"]), appended.body
    job = client.bucket("b").copy(to_bck=client.bucket("other"))
    result = client.job(job).wait(timeout=60)
    archived = client.bucket("b").objects(obj_names=list(SIZES)).archive("all.tar")[0]
    told = client.job(archived).wait(timeout=60).error or ""
    assert f"ais://b/{name} is damaged: xxhash2(" in told, told
    assert client.bucket("b").list_all_objects(prefix="all") == []
    assert (result.success, "xxhash2" in (result.error or "")) == (False, True)
    assert set(call.names("other")) == set(SIZES) - {name}
    assert call.action("DELETE", "/v1/buckets/other", "destroy-bck").status == 200


@pytest.mark.parametrize("name", SIZES)
def test_a_batch_says_what_is_damaged(cluster: LocalCluster, call: Caller, name: str) -> None:
    flip(cluster.path, name)
    client = cluster.client()
    for _ in range(2):  # first found, then known
        with pytest.raises(Exception, match=r"BAD DATA|xxhash2|broke|cut|early|incomplete"):
            list(client.batch([client.bucket("b").object(one) for one in SIZES]).get())
    assert call.get("b", name).status == 410


def test_the_sdk_names_the_object(cluster: LocalCluster, call: Caller) -> None:
    bucket = cluster.client().bucket("b")
    for name in SIZES:
        flip(cluster.path, name)
        with pytest.raises(ErrBadChecksum, match=f"ais://b/{name}"):
            bucket.object(name).get_reader().read_all()
        with pytest.raises(ErrBadChecksum):
            bucket.object(name).get_reader(byte_range="bytes=1-2").read_all()


def details(call: Caller, job_id: str) -> dict[str, Any]:
    got = call("GET", "/v1/cluster?what=qryxstats", json.dumps({"ID": job_id}).encode())
    told = [one["ext"] for snapshots in json.loads(got.body).values() for one in snapshots if one["ext"]]
    assert len(told) == 1
    document: dict[str, Any] = told[0]
    return document


def test_a_scrub_of_a_served_folder(cluster: LocalCluster, call: Caller) -> None:
    client = cluster.client()
    scrub = client.job(job_kind="scrub")
    clean = client.job(scrub.start())
    result = clean.wait(timeout=60)
    assert (result.success, result.error) == (True, "")
    found = clean.findings()
    assert found is not None
    assert (found["finished"], found["problems"]) == (True, [])
    assert found["bytes"] == sum(map(len, SIZES.values()))

    flip(cluster.path, "large")
    stray = content_of(cluster.path, "medium").parents[1] / f"{9:08x}" / f"{9 * 4096:016x}"
    stray.parent.mkdir(mode=0o700)
    stray.write_bytes(b"in a block that was never noted")
    stray.chmod(0o600)
    dry = client.job(scrub.start())
    result = dry.wait(timeout=60)
    assert (result.success, "ais://b/large: xxhash2(" in (result.error or "")) == (False, True)
    assert details(call, dry.job_id)["found"] == {"content-damaged": 1}  # nobody knows whether a block is in use
    with pytest.raises(AISError):  # and this finds it once more
        client.bucket("b").object("large").get_reader().read_all()

    repaired = client.job(scrub.start(force=True))
    assert not repaired.wait(timeout=60).success  # what is lost stays lost
    assert [(one["where"], one["state"]) for one in details(call, repaired.job_id)["problems"]] == [
        ("ais://b/large", "contained")
    ]
    stray.unlink()
    assert call.put("b", "large", LARGE).status == 200
    again = client.job(scrub.start())
    assert again.wait(timeout=60).success
    assert again.findings()


def test_a_scrub_mends_counts_while_others_write(cluster: LocalCluster, call: Caller) -> None:
    with closing(sqlite3.connect(cluster.path / "catalog.db", timeout=30)) as db:
        db.execute("UPDATE usage SET objects = objects + 5, bytes = bytes - 3 WHERE bucket != 0 AND objects > 0")
        db.execute("UPDATE file SET refs = refs + 1 WHERE id = (SELECT max(id) FROM file)")
        db.commit()
    client = cluster.client()
    job = client.job(client.job(job_kind="scrub").start(force=True))
    for number in range(40):
        assert call.put("b", f"meanwhile-{number}", MEDIUM if number % 2 else b"small").status == 200
    result = job.wait(timeout=60)
    assert (result.success, result.error) == (True, "")
    until(lambda: problems(cluster.path, recovered=False) == [])


def test_one_scrub_at_a_time_and_it_can_be_aborted(cluster: LocalCluster, call: Caller) -> None:
    for number in range(20):
        assert call.put("b", f"more-{number}", LARGE).status == 200  # 300 ms at the rate that a scrub keeps to
    asked = [json.dumps({"action": what, "value": {"Kind": "scrub"}}).encode() for what in ("start", "start", "stop")]
    with Raw(urlsplit(cluster.url).port or 0) as raw:
        raw.send(b"".join(request("PUT", "/v1/cluster", body) for body in asked))  # so that nothing comes between them
        started, refused, stopped = (raw.answer() for _ in asked)
    assert (started.status, refused.status, stopped.status) == (200, 409, 200)
    assert b"already running" in refused.body
    client = cluster.client()
    scrub = client.job(job_kind="scrub")
    job = client.job(started.body.decode())
    until(lambda: bool(job.status().end_time))
    assert job.status().aborted
    told = job.findings()
    assert told is not None and not told["finished"]
    assert client.job(scrub.start()).wait(timeout=60).success


def test_a_flipped_bit_in_the_catalog_is_found_when_the_object_is_read(tmp_path: Path) -> None:
    small = b"content of a small object " * 30
    with LocalCluster(tmp_path / "d", durability="relaxed") as cluster, Caller(cluster.url) as call:
        call.make_bucket("b")
        call.put("b", "small", small)
    data = (tmp_path / "d" / "catalog.db").read_bytes()
    place = data.index(small) + 77
    (tmp_path / "d" / "catalog.db").write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
    with LocalCluster(tmp_path / "d", durability="relaxed") as cluster, Caller(cluster.url) as call:
        is_refused(call.get("b", "small", {"Range": "bytes=0-3"}))
        is_refused(call.get("b", "small"))
        assert call.put("b", "small", small).status == 200
        assert call.get("b", "small").body == small
