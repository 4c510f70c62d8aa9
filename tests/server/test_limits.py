"""Limits that no other test reaches, and the page that tells of all."""

from __future__ import annotations

import ast
import asyncio
import base64
import gc
import json
import re
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import pytest

from aistore.server.api import archive_listing, inventory, listing
from aistore.server.api.batch_answer import _Spool
from aistore.server.archive import index as archive_index
from aistore.server.archive.formats import Format
from aistore.server.archive.index import Stop, build
from aistore.server.archive.regexp import Regexp
from aistore.server.archive.source import BytesSource
from aistore.server.authn.passwords import Passwords
from aistore.server.dsort import shards
from aistore.server.dsort.key_map import MAP_MAX, parse_map
from aistore.server.etl.message import parse_init
from aistore.server.jobs import registry, summary
from aistore.server.limits import RANGES, NodeLimits
from aistore.server.node import Node
from aistore.server.settings import ServerSettings
from aistore.server.store import multipart
from aistore.wire.errors import ApiError
from aistore.wire.listing import ARCH_DIR
from archives import tar
from calling import Caller
from limits_page import PAGE, ROOT, TABLE, is_setting, page
from store_truth import opened
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def with_node(folder: Path, calls: Callable[[Caller, Node], None], limits: NodeLimits | None = None) -> None:
    """Calls on a node in this process, which has bucket `b`."""

    def work(node: Node) -> None:
        with Caller(node.url) as call:
            call.make_bucket("b")
            calls(call, node)

    async def run() -> None:
        node = Node(ServerSettings(folder, durability="relaxed", etl=False, limits=limits or NodeLimits()))
        await node.start()
        try:
            await asyncio.to_thread(work, node)
        finally:
            await node.stop()

    asyncio.run(run())


def names_of(call: Caller, value: dict[str, object]) -> tuple[list[str], str]:
    """Names on a page of bucket `b`, and its token."""
    got = call.action("GET", "/v1/buckets/b", "list", value)
    assert got.status == 200
    document = json.loads(got.body)
    return [entry["name"] for entry in document["entries"]], document["continuation_token"]


def test_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_PAGE_MAX", 3)

    def calls(call: Caller, node: Node) -> None:
        for name in "abcde":
            assert call.put("b", name, b"").status == 200
        assert names_of(call, {"pagesize": 4}) == (["a", "b", "c"], "c")
        assert names_of(call, {"pagesize": 4, "continuation_token": "c"}) == (["d", "e"], "")
        got = call.action("GET", "/v1/buckets/b", "list", {"time_format": "x" * 129, "props": "atime"})
        assert (got.status, "longer than 128" in str(got.error["message"])) == (400, True)

    with_node(tmp_path, calls)


def test_listings_of_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_listing, "_BYTES_MAX", 20)

    def calls(call: Caller, node: Node) -> None:
        assert call.put("b", "a.tar", tar([(f"member-{i}", b"") for i in range(9)])).status == 200
        found: list[str] = []
        token = ""
        while True:
            some, token = names_of(call, {"flags": str(ARCH_DIR), "continuation_token": token})
            assert sum(map(len, some)) < 40
            found += some
            if not token:
                break
        assert found == ["a.tar", *(f"a.tar/member-{i}" for i in range(9))]

    with_node(tmp_path, calls)


def test_summaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They need few rights, and leave places to what needs more."""
    monkeypatch.setattr(summary, "_OF_BUCKET_MAX", 2)
    monkeypatch.setattr(summary, "_KEPT", 2)

    def calls(call: Caller, node: Node) -> None:
        def ask(bucket: str) -> tuple[int, str]:
            got = call.action("GET", f"/v1/buckets/{bucket}", "summary-bck", {"prefix": "o"})
            return got.status, got.body.decode()

        call.make_bucket("c")
        may_end, loops = asyncio.Event(), set()

        async def later(_: object) -> tuple[int, int, int, int]:
            loops.add(asyncio.get_running_loop())
            await may_end.wait()
            return 0, 0, 0, 0

        node.control.scanner.run = later  # type: ignore[method-assign, assignment]  # what stands still
        started = [ask("b"), ask("b")]
        assert {status for status, _ in started} == {202}
        status, text = ask("b")
        assert (status, "2 of the same bucket" in text) == (429, True)
        started.append(ask("c"))
        assert call("HEAD", "/v1/buckets/c?bsumm_remote=true").status == 429
        assert call.action("PUT", "/v1/cluster", "start", {"kind": "cleanup-store"}).status == 200
        loops.pop().call_soon_threadsafe(may_end.set)
        until(lambda: ask("c")[0] == 202)
        until(lambda: not node.control.jobs.select("summary-bck", running=True))
        assert node.control.jobs.find(started[0][1]) is None  # nobody can ask for what it found

    with_node(tmp_path, calls, NodeLimits(jobs=12))


def test_what_is_refused_for_want_of_a_job_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def calls(call: Caller, node: Node) -> None:
        many = {"objnames": ["o"], "tobck": {"name": "new"}}
        to = "/v1/buckets/b?bck_to=ais%2F%40%23%2Fnew%2F"
        for path, action, value in (
            (to, "copy-bck", {}),
            ("/v1/buckets/b", "copy-listrange", many),
            (to, "move-bck", None),
            ("/v1/buckets/b", "make-n-copies", 2),
        ):
            assert call.action("POST", path, action, value).status == 429
        mirrored = {"mirror": {"enabled": True, "copies": 2}}
        assert call.action("PATCH", "/v1/buckets/b", "set-bprops", mirrored).status == 429
        [bucket] = node.store.buckets()
        assert not node.props(bucket).mirror.enabled
        node.control.jobs._at_once = 1
        monkeypatch.setattr(registry, "_NAMES_MAX", 0)
        assert call.action("POST", "/v1/buckets/b", "copy-listrange", many).status == 429
        gc.collect()
        assert [bucket.id.name for bucket in node.store.buckets()] == ["b"]
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    with_node(tmp_path, calls, NodeLimits(jobs=0))


def test_batches(tmp_path: Path) -> None:
    def calls(call: Caller, node: Node) -> None:
        assert call.put("b", "o", b"content").status == 200
        ask = b'{"in": [{"objname": "o"}]}'
        assert call("GET", "/v1/ml/moss/b", ask).status == 200
        until(lambda: node.batches == node.batch_entries == 0)
        node.batches += 1  # as if one were answered
        got = call("GET", "/v1/ml/moss/b", ask)
        node.batches -= 1
        assert (got.status, got.headers["Retry-After"]) == (429, "1")
        node.batch_entries += 500_000
        got = call("GET", "/v1/ml/moss/b", ask)
        node.batch_entries -= 500_000
        assert (got.status, got.headers["Retry-After"]) == (429, "1")
        assert call("GET", "/v1/ml/moss/b", ask).status == 200
        until(lambda: node.batch_entries == 0)

    with_node(tmp_path, calls, NodeLimits(batches=1))


def test_batches_leave_half_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = json.dumps({"in": [{"objname": "o"}] * 9}).encode()

    def calls(call: Caller, node: Node) -> None:
        assert call.put("b", "o", bytes(1 << 20)).status == 200
        assert call("GET", "/v1/ml/moss/b", ask).status == 200
        monkeypatch.setattr(node.store, "disk", lambda: (100 << 20, (8 << 20) - node.spooled))
        got = call("GET", "/v1/ml/moss/b", ask)
        assert (got.status, "strm" in str(got.error["message"])) == (507, True)
        assert call("GET", "/v1/ml/moss/b", ask.replace(b"}]", b'}], "strm": true')).status == 200
        until(lambda: node.spooled == 0)

    with_node(tmp_path, calls)


def test_a_batch_that_nobody_waits_for_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def calls(call: Caller, node: Node) -> None:
        assert call.put("b", "o", bytes(1 << 20)).status == 200
        whole = _Spool.write
        gone = threading.Event()

        async def write(spool: _Spool, parts: list[bytes]) -> None:
            await asyncio.to_thread(gone.wait)
            written.append(len(parts))
            await whole(spool, parts)

        monkeypatch.setattr(_Spool, "write", write)
        body = json.dumps(
            {"in": [{"objname": "o"}] * 50_000}
        ).encode()  # longer than what is received before it is looked at
        with socket.create_connection(("127.0.0.1", urlsplit(node.url).port or 0)) as client:
            client.sendall(
                b"GET /v1/ml/moss/b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            until(lambda: node.batches > 0)
        gone.set()
        until(lambda: node.batches == 0)
        assert node.spooled == 0

    with_node(tmp_path, calls)
    assert len(written) < 100


def test_parts_of_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "_UPLOADS_MAX", 2)

    def calls(call: Caller, node: Node) -> None:
        upload = call("POST", "/v1/objects/b/o", b'{"action": "mpt-upload"}').body.decode()
        call.make_bucket("c")
        for bucket, status in (("b", 200), ("b", 429), ("c", 200)):
            assert call("POST", f"/v1/objects/{bucket}/o", b'{"action": "mpt-upload"}').status == status
        got = call("POST", "/s3/b/o?uploads")
        assert (got.status, b"<Code>SlowDown</Code>" in got.body) == (429, True)
        for number, status in ((9999, 200), (10_000, 400)):
            assert call("PUT", f"/v1/objects/b/o?uploadId={upload}&partNumber={number}", b"x").status == status

    with_node(tmp_path, calls)


@pytest.mark.parametrize(
    ("value", "says"),
    [({"names_per_chunk": 640_001}, "too large (max=640000)"), ({"prefix": "x/" * 513}, "longer than 1024 bytes")],
)
def test_inventories_have_parts_of_some_size(tmp_path: Path, value: dict[str, object], says: str) -> None:
    node = Node(ServerSettings(tmp_path))
    with pytest.raises(ApiError, match=re.escape(says)) as caught:
        inventory._check(node, value, msgspec.convert(value, inventory._Create))
    assert caught.value.status == 400


def test_names_of_members(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tar([("a", b""), ("b" * 5000, b""), ("c" * 4096, b"")])
    found = build(BytesSource(data), Format.TAR, Stop())
    assert [member.name[0] for member in found.after("")] == ["a", "c"]
    monkeypatch.setattr(archive_index, "_NAMES_MAX", 4096)
    assert "too many members" in build(BytesSource(data), Format.TAR, Stop()).damage


def test_repetitions_in_expressions() -> None:
    assert Regexp("a{1000}").search("a" * 1000)
    with pytest.raises(ApiError, match="invalid repeat count"):
        Regexp("a{1001}")


def test_shards_of_a_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SHARDS_MAX", 0)

    async def run() -> None:
        async with opened(tmp_path) as store:
            kept = shards.KeptShards(store)
            with pytest.raises(ApiError, match="more than 0 input shards"):
                await kept.keep("in", None, Format.TAR)  # type: ignore[arg-type]  # it does not come to its content

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\n".join(b"%d\tx-%%d" % i for i in range(1_000_001)), "/map"),
        (b'{"x-%d": ["' + b"a" * 5000 + b'"]}', "/map.json"),
    ],
    ids=["many", "long"],
)
def test_key_maps(content: bytes, name: str) -> None:
    assert len(content) < MAP_MAX
    with pytest.raises(ApiError, match="at most 1000000 keys"):
        parse_map(content, name, "\t", "abort", print)


def test_manifests_of_pods() -> None:
    spec = base64.b64encode(b"#" * (64 << 10)).decode()
    with pytest.raises(ApiError, match="at most 65536"):
        parse_init(b'{"name": "long-one", "communication": "hpush://", "spec": "%s"}' % spec.encode())


def test_logins_at_a_time() -> None:
    async def run() -> None:
        passwords = Passwords()
        enough = asyncio.Event()

        async def login() -> None:
            async with passwords.turn():
                await enough.wait()

        waiting = [asyncio.ensure_future(login()) for _ in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="too many logins") as caught:
            await login()
        with pytest.raises(ApiError, match="new passwords"):
            await passwords.hash("one of a user who changes it all the time")
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "1")
        enough.set()
        await asyncio.gather(*waiting)
        await login()
        passwords.close()

    asyncio.run(run())


# -- the page ------------------------------------------------------------------------------------------------------

# Constants that bound nothing that a client brings: what is remembered to save work, parts that work is done in, what the server itself asks for.
OTHERS = {
    "aistore.http1.answer:MAX_INTERIM": "of answers that a client reads",
    "aistore.http1.head:_SEEN_MAX": "remembered",
    "aistore.http1.message:_PARAMS_MAX": "remembered",
    "aistore.server.dsort.records:_CLAIMED_MAX": "a sum of sizes that no disk holds",
    "aistore.server.dsort.records:_NAME_MAX": "as of members of archives",
    "aistore.server.dsort.sorting:_SEVERAL_MAX": "a part of the work",
    "aistore.server.dsort.sorting:_HELD_MAX": "a part of the work",
    "aistore.server.dsort.progress:_TEXTS_MAX": "warnings that are kept of a job",
    "aistore.server.dsort.spec:_SEED_MAX": "a number of 64 bits",
    "aistore.server.dsort.spec:_WORKERS_MAX": "more are taken for this many",
    "aistore.server.dsort.runs:_RUNS_MAX": "a part of the work",
    "aistore.server.dsort.registry:_KEPT_MAX": "as `_KEPT`, of the last day",
    "aistore.server.dsort.key_map:_EXPRESSIONS_MAX": "as `_TEMPLATES_MAX`",
    "aistore.server.dsort.key_map:_EXPRESSION_MAX": "as of archives",
    "aistore.server.dsort.key_map:_QUOTES_MAX": "as `_KEYS_MAX`, before it is decoded",
    "aistore.server.dsort.shards:_OPEN_MAX": "files that are kept open",
    "aistore.server.dsort.shards:_COPY_MAX": "a part of the work",
    "aistore.server.dsort.keys:KEY_MAX": "as of any text of a record",
    "aistore.server.dsort.keys:_DIGITS_MAX": "more is no number",
    "aistore.server.authn.tokens:_KID_MAX": "a longer one names no key",
    "aistore.server.authn.throttle:_PAUSE_MAX": "the longest pause",
    "aistore.server.authn.throttle:_KNOWN_MAX": "remembered",
    "aistore.server.authn.gate:_MESSAGE_MAX": "as of messages",
    "aistore.server.authn.gate:_SESSIONS_MAX": "remembered",
    "aistore.server.authn.gate:_GRANTED_MAX": "remembered",
    "aistore.server.api.sort:_EXPRESSION_MAX": "as of archives",
    "aistore.server.api.sort:_SHOWN_MAX": "of a text that is shown",
    "aistore.server.api.inventory_listing:_MOST": "inventories of a bucket that are told of",
    "aistore.server.api.inventory_listing:_ENTRIES_MAX": "as of other pages",
    "aistore.server.api.inventory_listing:_BYTES_MAX": "as of other pages",
    "aistore.server.api.remote.selecting:_WORKERS_MAX": "more are taken for this many",
    "aistore.server.api.remote.reading:_BLOB_WORKERS_MAX": "a number in a message",
    "aistore.server.api.bucket_props:_MAX_COPIES": "a number in a message",
    "aistore.server.api.s3.buckets:_CONFIGURATION_MAX": "as of documents",
    "aistore.server.api.multipart:_SPARE_MAX": "buffers that are kept",
    "aistore.server.etl.launching:_PROBE_PAUSE_MAX": "a pause",
    "aistore.server.etl.sockets:_MESSAGE_MAX": "more than memory holds: that decides",
    "aistore.server.etl.source:_NAME_MAX": "of the file system",
    "aistore.server.etl.processes:_FILES_MAX": "descriptors of a transformer",
    "aistore.server.etl.running:_PAUSE_MAX": "a pause",
    "aistore.server.etl.running:_ERROR_MAX": "of a text that is shown",
    "aistore.server.etl.exchange:_IDLE_MAX": "connections that are kept",
    "aistore.server.etl.offline:_WORKERS_MAX": "more are taken for this many",
    "aistore.server.archive.streaming:_NAME_MAX": "of the TAR format",
    "aistore.server.archive.streaming:_SIZE_MAX": "of the TAR format",
    "aistore.server.archive.tar:_SIZE_MAX": "of the TAR format",
    "aistore.server.archive.zip:_COMMENT_MAX": "of the ZIP format",
    "aistore.wire.ids:MAX_ID": "a longer one names nothing",
    "aistore.wire.values:_MAX": "a number of 64 bits",
    "aistore.wire.template:_MAX": "a number of 64 bits",
    "aistore.wire.ranges:_MAX": "a number of 64 bits",
    "aistore.wire.props:_MAX_COPIES": "a number in a message",
    "aistore.wire.props:_MAX_SLICES": "a number in a message",
    "aistore.wire.authn:MAX_NAME": "a longer one names nobody",
}


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "python tests/limits_page.py renews it"


def test_each_limit_has_its_test() -> None:
    for rows in TABLE.values():
        for row in rows:
            path, _, name = row.test.partition("::")
            assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), row


def test_no_limit_is_left_out() -> None:
    told = {row.place for rows in TABLE.values() for row in rows}
    assert {row.place for rows in TABLE.values() for row in rows if is_setting(row)} == set(RANGES)
    found = set()
    # Where what clients bring is read.
    read_by = ("http1", "wire", *(f"server/{name}" for name in ("api", "archive", "authn", "dsort", "etl")))
    for package in read_by:
        for path in (ROOT / "src" / "aistore" / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
            for statement in ast.parse(path.read_text()).body:
                targets = (
                    statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
                )
                found |= {
                    f"{module}:{target.id}"
                    for target in targets
                    if isinstance(target, ast.Name)
                    and re.search(r"(^|_)(MAX|MOST|DEPTH)(_|$)", target.id)
                    and not isinstance(getattr(getattr(statement, "value", None), "value", None), str)
                }
    assert found - told - set(OTHERS) == set(), "which is it: a limit for tests/limits_page.py, or none?"
    assert set(OTHERS) - found == set()
