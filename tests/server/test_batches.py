"""Requests for batches that are refused, as raw HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import pytest

from aistore.server.api import batch_reading
from aistore.server.jobs.registry import JobRegistry
from aistore.server.node import Node
from aistore.server.settings import ServerSettings
from aistore.wire.errors import ApiError
from aistore.wire.names import parse_bucket

if TYPE_CHECKING:
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.sdk import Bucket
    from aistore.server.store.rows import ObjectRow


def ask(url: str, path: str, message: object, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        connection.request(method, path, body=json.dumps(message))
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def test_a_batch_has_a_limit(cluster: LocalCluster, bucket: Bucket) -> None:
    path = f"/v1/ml/moss/{bucket.name}"
    status, text = ask(cluster.url, path, {"in": [{"objname": "x"}] * 100_001})
    assert (status, "at most 100000" in text) == (400, True)
    assert ask(cluster.url, path, {"in": [{"objname": "x" * 1000}], "more": "x" * (33 << 20)})[0] == 413
    named = [{"objname": "x", "bucket": bucket.name}, *({"objname": "x", "bucket": f"b{i}"} for i in range(1000))]
    assert "of more than 1000 buckets" in ask(cluster.url, path, {"in": named})[1]
    assert ask(cluster.url, path, {"in": named[:1000]})[0] == 404


@pytest.mark.parametrize(
    ("path", "entry", "says"),
    [
        ("{}/job/work/1/2", {"objname": "x"}, "invalid path"),
        ("{}?coloc=3", {"objname": "x"}, "coloc"),
        ("{}", {"objname": "x", "uname": "ais/@#/{}/x"}, "uname"),
        ("{}", {"objname": "x", "opaque": "?"}, "base64"),
        ("{}", {"objname": 1}, "moss"),
    ],
)
def test_bad_requests(cluster: LocalCluster, bucket: Bucket, path: str, entry: dict[str, object], says: str) -> None:
    entry = {key: value.format(bucket.name) if isinstance(value, str) else value for key, value in entry.items()}
    status, text = ask(cluster.url, f"/v1/ml/moss/{path.format(bucket.name)}", {"in": [entry]})
    assert (status, says in text) == (400, True), text


def test_buckets_by_their_unique_names(cluster: LocalCluster, bucket: Bucket) -> None:
    bucket.object("x").get_writer().put_content(b"content")
    entry = {"objname": "x", "uname": f"ais/@#/{bucket.name}/"}
    status, text = ask(cluster.url, "/v1/ml/moss", {"in": [entry], "strm": True})
    assert (status, f"{bucket.name}/x" in text, "content" in text) == (200, True, True)


def test_only_gets(cluster: LocalCluster, bucket: Bucket) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert ask(cluster.url, f"/v1/ml/moss/{bucket.name}", {"in": [{"objname": "x"}]}, method)[0] == 405
    assert ask(cluster.url, "/v1/ml/other", {})[0] == 501


def test_buckets_that_may_not_be_read(cluster: LocalCluster, bucket: Bucket) -> None:
    bucket.object("x").get_writer().put_content(b"content")
    message = {"action": "set-bprops", "value": {"access": "0"}}
    status, text = ask(cluster.url, f"/v1/buckets/{bucket.name}?provider=ais", message, "PATCH")
    assert status == 200, text
    status, text = ask(cluster.url, f"/v1/ml/moss/{bucket.name}", {"in": [{"objname": "x"}]})
    assert (status, "access denied" in text) == (403, True)
    restored = {"action": "set-bprops", "value": {"access": str((1 << 64) - 1)}}
    assert ask(cluster.url, f"/v1/buckets/{bucket.name}?provider=ais", restored, "PATCH")[0] == 200


def test_a_batch_that_its_job_does_not_take_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise ApiError(429, "too many")

    async def main() -> None:
        node = Node(ServerSettings(tmp_path))
        await node.start()
        try:
            message = {"action": "create-bck"}
            assert (await asyncio.to_thread(ask, node.url, "/v1/buckets/b", message, "POST"))[0] == 200
            monkeypatch.setattr(JobRegistry, "join", refuse)
            for _ in range(3):
                assert (await asyncio.to_thread(ask, node.url, "/v1/ml/moss/b", {"in": [{"objname": "x"}]}))[0] == 429
            assert node.batches == 0
        finally:
            await node.stop()

    asyncio.run(main())


def test_content_is_compared_with_its_own_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may come between looking an object up and opening it."""

    async def main() -> None:
        node = Node(ServerSettings(tmp_path))
        await node.start()
        try:
            validated = {"action": "create-bck", "value": {"checksum": {"validate_warm_get": True}}}
            assert (await asyncio.to_thread(ask, node.url, "/v1/buckets/b", validated, "POST"))[0] == 200
            for version in "ab":
                assert (await asyncio.to_thread(ask, node.url, "/v1/objects/b/x", version * 20_000, "PUT"))[0] == 200
                bucket = node.store.bucket(parse_bucket("b", "ais"))
                assert bucket is not None
                row = node.store.lookup(bucket, "x")
                assert row is not None
                if version == "a":
                    before = row
            await asyncio.to_thread(node.store.content.path(before.content).unlink, missing_ok=True)

            async def cached(*_: object, **__: object) -> ObjectRow:
                return before

            monkeypatch.setattr(batch_reading, "cached", cached)
            status, text = await asyncio.to_thread(ask, node.url, "/v1/ml/moss/b", {"in": [{"objname": "x"}]})
            assert (status, "b" * 20_000 in text) == (200, True)
        finally:
            await node.stop()

    asyncio.run(main())
