"""Archives through the server: listing, reading, appending and the job, on one node and on three targets."""

from __future__ import annotations

import asyncio
import io
import json
import random
import sqlite3
import tarfile
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from aistore import LocalCluster
from aistore.server.archive.archives import Archives, Content
from aistore.server.archive.formats import Format
from aistore.server.jobs import archive as archive_job
from aistore.server.jobs.archive import ArchiveOrder
from aistore.server.store.scan import Scanner
from archives import EXTENSIONS, MEMBERS, packed, tar, unpacked, zipped
from calling import Caller, Got, where
from store_truth import is_settled, make_bucket, opened, problems
from store_truth import put as put_in_store
from waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

BUCKET = {"name": "b", "provider": "ais", "namespace": {"uuid": "", "name": ""}}


@pytest.fixture(scope="module", params=[1, 3])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(targets=request.param) as started:
        yield started


@pytest.fixture
def call(cluster: LocalCluster) -> Iterator[Caller]:
    """Calls on a cluster with an empty bucket `b`."""
    with Caller(cluster.url) as caller:
        caller.make_bucket("b")
        yield caller
        assert caller.action("DELETE", "/v1/buckets/b", "destroy-bck").status == 200
    until(lambda: is_settled(cluster.path) and sound(cluster, recovered=False))


def sound(cluster: LocalCluster, *, recovered: bool = True) -> bool:
    """Whether all in the data folder agrees; the server may be at it while this looks."""
    try:
        return problems(cluster.path, recovered=recovered) == []
    except FileNotFoundError:
        return False


def put(call: Caller, name: str, content: bytes) -> None:
    assert call.put("b", name, content).status == 200


def member(call: Caller, name: str, path: str, **more: str) -> Got:
    query = "&".join(f"{key}={quote(value)}" for key, value in {"archpath": path, **more}.items())
    return call("GET", f"{where('b', name)}?{query}")


def selection(call: Caller, name: str, mode: str, expression: str) -> Got:
    return call("GET", f"{where('b', name)}?archmode={mode}&archregx={quote(expression, safe='')}")


def listed(call: Caller, size: int = 0, flags: int = 8, prefix: str = "") -> list[tuple[str, int]]:
    """Names and flags of all entries, page by page."""
    found: list[tuple[str, int]] = []
    token = ""
    while True:
        value = {"flags": str(flags), "pagesize": size, "continuation_token": token, "prefix": prefix}
        got = call.action("GET", "/v1/buckets/b", "list", value)
        assert got.status == 200, got.body
        page = json.loads(got.body)
        found += [(entry["name"], entry["flags"]) for entry in page["entries"] or []]
        token = page["continuation_token"]
        if not token:
            return found


def archive(call: Caller, name: str, **value: Any) -> str:
    """Start the job; its id."""
    got = call.action("PUT", "/v1/buckets/b", "archive", {"tobck": BUCKET, "archname": name, **value})
    assert got.status == 200, got.body
    return got.body.decode()


def snapshots(call: Caller, job: str) -> list[dict[str, Any]]:
    got = call("GET", "/v1/cluster?what=qryxstats", json.dumps({"ID": job}).encode())
    assert got.status == 200, got.body
    return [snap for per in json.loads(got.body).values() for snap in per]


def errors(call: Caller, job: str) -> str:
    return " ".join(f"{snap['err']}{snap['abort-err']}" for snap in snapshots(call, job)).strip()


def objects(call: Caller, job: str) -> int:
    return sum(int(snap["stats"]["loc-objs"]) for snap in snapshots(call, job))


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_format_is_read_by_name_and_by_pattern(call: Caller, extension: str) -> None:
    put(call, f"s{extension}", packed(extension))
    for _ in range(2):
        for name, content in MEMBERS:
            got = member(call, f"s{extension}", name)
            assert (got.status, got.body) == (200, content)
            assert got.headers["Content-Length"] == str(len(content))
        assert member(call, f"s{extension}", "none").status == 404
    for mode, expression, wanted in (
        ("suffix", ".jpg", ["dir/b.jpg", "dir/c.jpg"]),
        ("regexp", "^dir/.*[.]cls$", ["dir/b.cls"]),
        ("wdskey", "dir/b", ["dir/b.jpg", "dir/b.cls"]),
        ("prefix", "*", [name for name, _ in MEMBERS]),
    ):
        got = selection(call, f"s{extension}", mode, expression)
        assert got.status == 200
        assert got.headers["Content-Type"] == "application/x-tar"
        assert [name for name, _ in unpacked(".tar", got.body)] == wanted
    assert selection(call, f"s{extension}", "suffix", ".none").status == 404


def test_index_of_an_archive_uploaded_in_parts_is_kept(call: Caller, cluster: LocalCluster) -> None:
    members = [(f"{n:04}", bytes(100)) for n in range(200)]
    content = tar(members)
    with cluster.client() as client:
        upload = client.bucket("b").object("s.tar").multipart_upload().create()
        for number, start in enumerate(range(0, len(content), 100_000), 1):
            upload.add_part(number).put_content(content[start : start + 100_000])
        upload.complete()
    assert member(call, "s.tar", "0199").body == bytes(100)

    def kept() -> bool:
        with closing(sqlite3.connect(f"file:{cluster.path}/catalog.db?mode=ro", uri=True)) as db:
            return db.execute("SELECT damage FROM archive WHERE layout = 2").fetchall() == [("",)]

    until(kept)
    assert member(call, "s.tar", "0100").body == bytes(100)


def test_indexes_are_made_ahead_by_a_job(call: Caller, cluster: LocalCluster) -> None:
    members = [(f"m/{number:03}", random.Random(number).randbytes(1000)) for number in range(50)]
    for name in ("shards/a.tar", "shards/b.tgz", "other/c.tar"):
        put(call, name, packed(name[name.index(".") :], members))
    put(call, "shards/cut.tar", tar(members)[:20_000])
    put(call, "shards/no-archive", bytes(20_000))
    got = call.action("POST", "/v1/buckets/b", "index-shard", {"prefix": "shards/", "num-workers": 2})
    assert got.status == 200, got.body
    job = got.body.decode()
    until(lambda: all(snap["end-time"][:4] != "0001" for snap in snapshots(call, job)))
    assert objects(call, job) == 2
    assert "b/shards/cut.tar: " in errors(call, job)
    with closing(sqlite3.connect(f"file:{cluster.path}/catalog.db?mode=ro", uri=True)) as db:
        kept = """SELECT o.name, damage <> '' FROM bucket b JOIN object o ON o.bucket = b.id JOIN archive USING (layout, content)
            WHERE b.name = 'b' ORDER BY o.name"""
        assert db.execute(kept).fetchall() == [("shards/a.tar", 0), ("shards/b.tgz", 0), ("shards/cut.tar", 1)]
    assert call.action("POST", "/v1/buckets/b", "index-shard", {"prefix": "../"}).status == 400
    assert call.action("POST", "/v1/buckets/b", "index-shard", {"what": 1}).status == 400
    assert member(call, "shards/a.tar", "m/007").body == members[7][1]


def test_large_members_stream(call: Caller) -> None:
    large = bytes(range(256)) * 20_000
    for extension in EXTENSIONS:
        put(call, f"s{extension}", packed(extension, [("first", large[:1000]), ("large", large), ("last", b"end")]))
        got = member(call, f"s{extension}", "large")
        assert (got.status, got.headers["Content-Length"], got.body == large) == (200, str(len(large)), True)
        assert unpacked(".tar", selection(call, f"s{extension}", "prefix", "la").body) == [
            ("large", large),
            ("last", b"end"),
        ]


def test_an_overwritten_archive_is_read_anew(call: Caller) -> None:
    for i in range(3):
        put(call, "s.tar", tar([("x", bytes([i]) * 20_000), (f"only{i}", b"")]))
        assert member(call, "s.tar", "x").body == bytes([i]) * 20_000
        assert member(call, "s.tar", f"only{i}").status == 200
        assert member(call, "s.tar", f"only{i - 1}").status == 404


def test_damaged_archives_are_refused_and_listed_as_objects(call: Caller) -> None:
    good = tar()
    put(call, "a.tar", good[:100_000])
    put(call, "b.tgz", b"no gzip" * 2000)
    put(call, "c.zip", zipped()[:-100])
    put(call, "d.tar", good)
    # What comes before the damage can be read.
    assert member(call, "a.tar", "a.txt").body == b"alpha"
    for name in ("a.tar", "b.tgz", "c.zip"):
        got = member(call, name, "empty")
        assert got.status == 400
        assert f"failed to open ais://b/{name}" in str(got.error["message"])
        assert selection(call, name, "regexp", "emp").status == 400 or name == "a.tar"
    entries = listed(call)
    assert entries[:4] == [("a.tar", 64), ("b.tgz", 64), ("c.zip", 64), ("d.tar", 576)]
    assert sorted(name for name, flags in entries if flags == 192) == sorted(f"d.tar/{name}" for name, _ in MEMBERS)


@pytest.mark.parametrize("flags", [8, 8 | 2048, 8 | 16])
def test_members_come_in_their_place_whatever_the_page_size(call: Caller, flags: int) -> None:
    put(call, "s.tar", tar([(f"m{i}", b"x") for i in range(5)] + [("taken", b"member")]))
    put(call, "s.tar.tar", tar([("inner", b"")]))
    put(call, "s.tar-1", b"between the archive and its members")
    put(call, "s.tar/taken", b"an object where a member would be")
    put(call, "s.tar/z.zip", zipped([("deep", b"")]))
    put(call, "s.tar0", b"behind them")
    put(call, "empty.tar", tar([]))
    put(call, "text.tar", b"none")
    whole = listed(call, 0, flags)
    names = [name for name, _ in whole]
    assert names == sorted(set(names))
    assert ("s.tar/m0", 192) in whole
    assert ("s.tar", 576) in whole
    assert ("text.tar", 64) in whole
    assert ("empty.tar", 576) in whole
    assert names.index("s.tar-1") == names.index("s.tar") + 1
    if flags == 8:
        assert ("s.tar/taken", 64) in whole
        assert ("s.tar/z.zip/deep", 192) in whole
    for size in (1, 2, 3, 5, 100):
        assert listed(call, size, flags) == whole
    assert [name for name, _ in listed(call, 2, flags, "s.tar.")] == ["s.tar.tar", "s.tar.tar/inner"]


def test_many_members_in_pages(call: Caller) -> None:
    names = [f"{i:05}" for i in range(3000)]
    put(call, "s.tgz", packed(".tgz", [(name, b"") for name in reversed(names)]))
    for size in (0, 777):
        assert [name for name, _ in listed(call, size)] == ["s.tgz", *(f"s.tgz/{name}" for name in names)]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_appends_at_once_lose_nothing(call: Caller, cluster: LocalCluster, extension: str) -> None:
    name = f"s{extension}"
    contents = {f"m{i}": bytes([i]) * (10 + 30_000 * (i % 3)) for i in range(12)}
    failed: list[bytes] = []

    def append(names: list[str]) -> None:
        with Caller(cluster.url) as own:
            for one in names:
                got = own("PUT", f"{where('b', name)}?archpath={one}", contents[one], {"Ais-Pine": "2"})
                if got.status != 200:
                    failed.append(got.body)

    threads = [threading.Thread(target=append, args=(list(contents)[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(unpacked(extension, call.get("b", name).body)) == sorted(contents.items())


def test_a_large_member_is_put_into_an_archive(call: Caller) -> None:
    large = bytes(range(256)) * 10_000
    put(call, "s.tgz", packed(".tgz"))
    assert call("PUT", f"{where('b', 's.tgz')}?archpath=big", large, {"Ais-Pine": "1"}).status == 200
    assert member(call, "s.tgz", "big").body == large
    assert member(call, "s.tgz", "a.txt").body == b"alpha"


def test_what_cannot_be_appended_to_stays_as_it_is(call: Caller) -> None:
    damaged = packed(".tgz")[:300]
    put(call, "s.tgz", damaged)
    got = call("PUT", f"{where('b', 's.tgz')}?archpath=x", b"x", {"Ais-Pine": "1"})
    assert got.status == 400
    job = archive(call, "s.tgz", objnames=["s.tgz"], aate=True)
    until(lambda: errors(call, job) != "")
    assert "failed to append to ais://b/s.tgz" in errors(call, job)
    assert call.get("b", "s.tgz").body == damaged


def test_objects_by_list_range_and_prefix_become_archives(call: Caller) -> None:
    contents = {f"o/{i:03}": bytes([i]) * (i * 300) for i in range(60)}
    for name, content in contents.items():
        put(call, name, content)
    put(call, "o/deep/1", b"deeper")
    before: str | None = None
    for n, extension in enumerate(EXTENSIONS):
        choices: list[tuple[dict[str, object], list[str]]] = [
            ({"objnames": ["o/050", "o/001"]}, ["o/050", "o/001"]),
            ({"template": "o/{000..059..10}"}, [f"o/{i:03}" for i in range(0, 60, 10)]),
            ({"template": "o/{050..070}"}, [f"o/{i:03}" for i in range(50, 60)]),
            ({"template": "o/", "non-recurs": True}, list(contents)),
        ]
        for m, (chosen, wanted) in enumerate(choices):
            name = f"made{n}-{m}{extension}"
            job = archive(call, name, **chosen)
            before = before if before is not None else errors(call, job)  # of tests before this one
            until(lambda: call("HEAD", where("b", name)).status == 200)  # noqa: B023 (waited for within the loop)
            assert unpacked(extension, call.get("b", name).body) == [(one, contents[one]) for one in wanted]
            assert errors(call, job) == before


def test_requests_join_one_job_and_are_worked_off_in_order(call: Caller) -> None:
    put(call, "a", b"alpha" * 5000)
    jobs = {archive(call, "x.tar", objnames=["a"], aate=True) for _ in range(5)}
    assert len(jobs) == 1
    job = jobs.pop()
    until(lambda: call("HEAD", where("b", "x.tar")).headers["Ais-Version"] == "5")
    assert [name for name, _ in unpacked(".tar", call.get("b", "x.tar").body)] == ["a"] * 5
    until(lambda: objects(call, job) >= 5)  # others may see the last one before the job has heard of its commit


def test_nothing_to_archive_leaves_the_archive_as_it_was(call: Caller) -> None:
    before = tar()
    put(call, "x.tar", before)
    choices: list[dict[str, object]] = [
        {"objnames": ["gone"]},
        {"template": "nothing/"},
        {"template": "n-{1..3}", "aate": True},
    ]
    for value in choices:
        job = archive(call, "x.tar", **value)
    put(call, "a", b"alpha")
    archive(call, "last.tar", objnames=["a"])
    until(lambda: call("HEAD", where("b", "last.tar")).status == 200)  # those before it are done
    until(lambda: errors(call, job) != "")  # it has ended: where it made the last one, too, that is seen before
    assert call.get("b", "x.tar").body == before


def test_an_aborted_job_leaves_nothing(call: Caller, cluster: LocalCluster) -> None:
    content = random.Random(1).randbytes(2_000_000)
    for i in range(40):
        put(call, f"o/{i}", content)
    job = archive(call, "x.tgz", template="o/")
    assert call.action("PUT", "/v1/cluster", "stop", {"ID": job}).status == 200
    until(lambda: all(snap["aborted"] for snap in snapshots(call, job)))
    assert call("HEAD", where("b", "x.tgz")).status == 404
    until(lambda: sound(cluster))  # no file is left over


def test_a_template_that_is_none_is_refused(call: Caller) -> None:
    got = call.action("PUT", "/v1/buckets/b", "archive", {"tobck": BUCKET, "archname": "x.tar", "template": "a-{3..1}"})
    assert got.status == 400


def test_reading_a_member_while_the_archive_is_overwritten(call: Caller, cluster: LocalCluster) -> None:
    versions = [packed(".tgz", [("pad", bytes([i]) * 300_000), ("x", bytes([i]) * 2_000_000)]) for i in range(2)]
    put(call, "s.tgz", versions[0])
    stop = threading.Event()

    def overwrite() -> None:
        with Caller(cluster.url) as own:
            i = 0
            while not stop.is_set():
                i += 1
                assert own.put("b", "s.tgz", versions[i % 2]).status == 200

    thread = threading.Thread(target=overwrite)
    thread.start()
    try:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            got = member(call, "s.tgz", "x")
            assert got.status == 200
            assert got.body in (bytes(2_000_000), b"\1" * 2_000_000)
    finally:
        stop.set()
        thread.join()


def test_the_archive_is_a_valid_object_for_everybody(call: Caller) -> None:
    put(call, "a", b"alpha" * 5000)
    archive(call, "x.tar", objnames=["a"])
    until(lambda: call("HEAD", where("b", "x.tar")).status == 200)
    got = call.get("b", "x.tar")
    with tarfile.open(fileobj=io.BytesIO(got.body)) as opened:
        info = opened.getmember("a")
        assert (info.mode, info.uid, info.gid, info.isreg()) == (0o644, 0, 0, True)
        assert abs(info.mtime - time.time()) < 3600
    assert got.headers["Ais-Checksum-Type"] == "xxhash2"


@pytest.mark.parametrize("read", [0, 1, 2])
def test_an_archive_is_closed_wherever_its_stream_is_given_up(tmp_path: Path, read: int) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            await put_in_store(store, bucket, "o", bytes(100_000), in_file=True)
            archives = Archives(store)
            content = Content.open(store, bucket, "o")
            assert content is not None
            stream = archives.stream(iter([b"second", b""]), content, b"first")
            taken = [await stream.__anext__() for _ in range(read)]
            assert taken == [b"first", b"second"][:read]
            await stream.aclose()  # as the connection does when the client is gone
            assert content.fd == -1
            await archives.close()

    asyncio.run(main())


def test_missing_names_of_a_range_are_not_held(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            await put_in_store(store, bucket, "x-5", b"content", in_file=False)
            scanner = Scanner(store.catalog)

            async def names() -> AsyncIterator[str]:
                for number in range(1000):
                    yield f"x-{number}"

            order = ArchiveOrder(
                bucket, names, listed=False, prefix="", recursive=True, target=bucket, archive="a.tar", form=Format.TAR,
                checksum_type="none", versioned=False, with_bucket=False, base_name=False, append=False, write=None,
            )  # fmt: skip
            _, missing = await archive_job._make(store, scanner, order, None)
            assert missing == []
            _, missing = await archive_job._make(store, scanner, order._replace(listed=True), None)
            assert len(missing) == 999
            scanner.close()

    asyncio.run(main())
