"""The asyncio client: loops, processes, `local:`, and the same answers as the blocking one."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import requests

from aistore import AsyncClient
from aistore.aio import AsyncObject
from aistore.sdk import ListObjectFlag, Namespace
from aistore.sdk.enums import LogSeverity, NodeFilter
from aistore.sdk.errors import (
    ErrBckAlreadyExists,
    ErrBckNotFound,
    InvalidBckProvider,
    InvalidURLException,
    JobInfoNotFound,
)
from answering import answering, attempts_of
from peer import Peer, always

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.aio import AsyncBucket

T = TypeVar("T")


def run(work: Coroutine[object, object, T]) -> T:
    """Run `work` in debug mode, where asyncio reports what was forgotten."""
    return asyncio.run(work, debug=True)


def with_bucket(cluster: LocalCluster, work: Callable[[AsyncClient, AsyncBucket], Awaitable[T]]) -> T:
    """Do something with an empty bucket."""

    async def all_of_it() -> T:
        async with AsyncClient(cluster.url) as client:
            bucket = await client.bucket("aio-client").create()
            try:
                return await work(client, bucket)
            finally:
                await bucket.delete(missing_ok=True)

    return run(all_of_it())


# -- loops and processes --


def test_a_client_belongs_to_one_loop() -> None:
    async def use(client: AsyncClient) -> bool:
        return await client.bucket("b").object("o").get_reader().read_all() == b"content"

    async def use_and_close(client: AsyncClient) -> None:
        async with client:
            assert await use(client)

    with Peer(always(200, b"content")) as peer:
        client = AsyncClient(peer.url)
        run(use_and_close(client))
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            run(use(client))
        # What travels is what it was made with.
        run(use_and_close(pickle.loads(pickle.dumps(client))))
        run(use_and_close(copy.deepcopy(client)))


def test_a_client_does_not_survive_a_fork(cluster: LocalCluster) -> None:
    code = """
import asyncio, os, sys
from aistore import AsyncClient

async def use(client):
    async with client:
        return await client.cluster().is_ready() and await client.cluster().get_uuid()

async def main(client):
    assert await use(client)
    child = os.fork()
    if not child:
        for call in (client.bucket("b").head().__await__().__next__, lambda: asyncio.run(use(client))):
            try:
                call()
            except RuntimeError as error:
                print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    assert await use(client)

asyncio.run(main(AsyncClient(sys.argv[1])))
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, cluster.url]  # threads were forked
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("made before a fork") == 2


def test_handles_travel_to_other_loops(cluster: LocalCluster) -> None:
    async def work(client: AsyncClient, bucket: AsyncBucket) -> list[bytes]:
        stored = bucket.object("o")
        await stored.get_writer().put_content(b"content")
        (entry,) = await bucket.list_all_objects()
        handles = (client.cluster(), bucket, stored, stored.get_reader(), bucket.objects(["o"]), entry)
        return [pickle.dumps(one) for one in handles]

    async def again(pickled: list[bytes]) -> None:
        cluster, bucket, stored, reader, group, entry = (pickle.loads(one) for one in pickled)
        assert await cluster.is_ready()
        assert await bucket.object("o").get_reader().read_all() == b"content"
        assert (await stored.head()).size == 7
        assert b"".join([chunk async for chunk in reader]) == b"content"
        assert [one.name async for one in group.list_all_objects_iter()] == ["o"]
        assert await entry.object.get_reader().read_all() == b"content"
        for one in (cluster.client, bucket.client, stored._client, reader._client.client, group.client):
            await one.close()
        await entry.object._client.close()

    async def work_and_again(client: AsyncClient, bucket: AsyncBucket) -> None:
        pickled = await work(client, bucket)
        await asyncio.to_thread(lambda: run(again(pickled)))

    with_bucket(cluster, work_and_again)


def test_a_local_endpoint_is_found_or_started(local_dir: Path) -> None:
    async def work() -> None:
        client = AsyncClient(f"local:{local_dir}")
        with pytest.raises(RuntimeError, match="use `async with`"):
            client.bucket("b").object("o").get_url()
        ready = await asyncio.gather(*(client.cluster().is_ready() for _ in range(5)))
        assert ready == [True] * 5
        assert client.bucket("b").object("o").get_url().startswith("http://127.0.0.1:")
        await client.close()
        async with AsyncClient("local:") as other:
            assert other.bucket("b").object("o").get_url() == client.bucket("b").object("o").get_url()

    run(work())


def test_the_endpoint_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIS_ENDPOINT", raising=False)
    with pytest.raises(ValueError, match="AIS_ENDPOINT"):
        AsyncClient()
    monkeypatch.setenv("AIS_ENDPOINT", "http://127.0.0.1:1")
    assert repr(AsyncClient()) == "<AsyncClient http://127.0.0.1:1>"


def test_settings_reach_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    async def transport(client: AsyncClient) -> Any:
        return await client.cluster().client.transport()

    made = run(transport(AsyncClient("http://127.0.0.1:1", timeout=(0, 2), token="secret", max_pool_size=3)))
    assert (made.timeout, made.token, made.pool_size) == ((None, 2), "secret", 3)
    config = attempts_of(1)
    assert run(transport(AsyncClient("http://127.0.0.1:1", retry_config=config))).retry is config
    with pytest.raises(ValueError, match="negative"):
        AsyncClient("http://127.0.0.1:1", timeout=-1)


def test_a_server_that_is_not_there(cluster: LocalCluster) -> None:
    async def work() -> None:
        async with AsyncClient("http://127.0.0.1:1", retry_config=attempts_of(1)) as client:
            assert not await client.cluster().is_ready()
            with pytest.raises(requests.ConnectionError, match="is the server running"):
                await client.bucket("b").head()

    run(work())


def test_representations() -> None:
    client = AsyncClient("http://127.0.0.1:1")
    bucket = client.bucket("b", "s3", Namespace(uuid="u", name="n"))
    stored = bucket.object("a/b")
    shown = [
        client,
        client.cluster(),
        bucket,
        stored,
        bucket.objects(["x"]),
        client.job("id", "lru"),
        stored.get_writer(),
    ]
    shown += [stored.get_reader(), stored.get_reader().as_file(), client.cluster().client]
    query = "objects/b/a/b?provider=aws&namespace=%40u%23n"
    assert [repr(one) for one in shown] == [
        "<AsyncClient http://127.0.0.1:1>",
        "<AsyncCluster http://127.0.0.1:1>",
        "<AsyncBucket aws://@u#n/b>",
        "<AsyncObject aws://@u#n/b/a/b>",
        "<AsyncObjectGroup ObjectNames(['x']) of <AsyncBucket aws://@u#n/b>>",
        "<AsyncJob id of kind lru>",
        f"<AsyncObjectWriter {query}>",
        f"<AsyncObjectReader {query}>",
        "<AsyncObjectFileReader objects/b/a/b at 0>",
        "<AsyncRequestClient http://127.0.0.1:1/v1>",
    ]


# -- the same answers as in the blocking face --


def test_buckets(cluster: LocalCluster) -> None:
    async def work(client: AsyncClient, bucket: AsyncBucket) -> None:
        blocking = cluster.client()
        assert (await bucket.create(exist_ok=True)) is bucket
        with pytest.raises(ErrBckAlreadyExists):
            await bucket.create()
        assert await bucket.head() == blocking.bucket(bucket.name).head()
        listed = await client.cluster().list_buckets()
        assert bucket.name in [model.name for model in listed]
        assert listed == blocking.cluster().list_buckets()
        with pytest.raises(InvalidBckProvider):
            await client.cluster().list_buckets("none")
        with pytest.raises(InvalidBckProvider):
            await client.bucket("b", "s3").create()
        response = await bucket.make_request("get", "list", value={})
        assert response.json()["entries"] in (None, [])
        await bucket.delete()
        with pytest.raises(ErrBckNotFound):
            await bucket.delete()
        await bucket.delete(missing_ok=True)
        with pytest.raises(ErrBckNotFound, match="does not exist"):
            await bucket.head()

    with_bucket(cluster, work)


def test_objects(cluster: LocalCluster) -> None:
    async def work(client: AsyncClient, bucket: AsyncBucket) -> None:
        stored = client.get_object_from_url(f"ais://{bucket.name}/dir/o")
        blocking = cluster.client().get_object_from_url(f"ais://{bucket.name}/dir/o")
        await stored.get_writer().put_content(b"content", custom_metadata={"a": "b"})
        assert stored.props_cached is None
        assert dict(await stored.head()) == dict(blocking.head())
        assert stored.props_cached is not None
        assert (await stored.get_reader().head()).custom_metadata == {"a": "b"}
        await stored.get_writer().set_custom_props({"c": "d"}, replace_existing=True)
        assert blocking.head().custom_metadata == {"c": "d"}
        handle = await stored.get_writer().append_content(b" and")
        handle = await stored.get_writer().append_content(b" more", handle)
        assert await stored.get_writer().append_content(b"", handle, flush=True) == ""
        assert blocking.get_reader().read_all() == b"content and more"
        assert await stored.get_reader(byte_range="bytes=-4").read_all() == b"more"
        urls = [one.get_url() for one in (stored, blocking)], [one.get_semantic_url() for one in (stored, blocking)]
        assert [len(set(pair)) for pair in urls] == [1, 1]
        assert (await stored.delete()).status_code < 300
        with pytest.raises(FileNotFoundError):
            await stored.head()
        with pytest.raises(InvalidURLException):
            client.get_object_from_url("ais://b")

    with_bucket(cluster, work)


def test_listings(cluster: LocalCluster) -> None:
    async def work(_: AsyncClient, bucket: AsyncBucket) -> None:
        names = [f"{n:03}" for n in range(120)]
        await asyncio.gather(*(bucket.object(name).get_writer().put_content(b"x") for name in names))
        page = await bucket.list_objects(page_size=50)
        rest = await bucket.list_objects(uuid=page.uuid, continuation_token=page.continuation_token)
        assert [entry.name for entry in page.entries + rest.entries] == names
        assert [entry.name async for entry in bucket.list_objects_iter(page_size=7)] == names
        only = [ListObjectFlag.NAME_ONLY]
        assert [entry.size for entry in await bucket.list_all_objects("00", flags=only)] == [0] * 10
        found = [one async for one in bucket.list_all_objects_iter("01", start_after="014")]
        assert [one.name for one in found] == ["015", "016", "017", "018", "019"]
        assert isinstance(found[0], AsyncObject)
        assert found[0].props_cached is not None
        assert found[0].props_cached.size == 1
        (url,) = [url async for url in bucket.list_urls("007")]
        assert url == bucket.object("007").get_url()

    with_bucket(cluster, work)


def test_an_iteration_asks_when_it_has_to() -> None:
    import msgspec

    def page(token: str, name: str) -> bytes:
        return msgspec.msgpack.encode({"UUID": "u", "ContinuationToken": token, "Entries": [{"n": name}], "Flags": 0})

    async def work(url: str) -> None:
        async with AsyncClient(url) as client:
            entries = client.bucket("b").list_objects_iter()
            assert (await anext(entries)).name == "a"
            assert len(peer.requests) == 1
            assert [entry.name async for entry in entries] == ["b"]
            assert len(peer.requests) == 2

    answers = iter([page("a", "a"), page("", "b")])
    with Peer(answering(lambda _: (200, next(answers), "Content-Type: application/msgpack"))) as peer:
        run(work(peer.url))


def test_groups(cluster: LocalCluster) -> None:
    async def work(client: AsyncClient, bucket: AsyncBucket) -> None:
        names = [f"o-{n}" for n in range(4)]
        await asyncio.gather(*(bucket.object(name).get_writer().put_content(b"abc") for name in names))
        group = bucket.objects(obj_template="o-{0..2}")
        assert group.list_names() == names[:3]
        assert [url async for url in group.list_urls()] == [bucket.object(name).get_url() for name in names[:3]]
        props = [one.props_cached async for one in group.list_all_objects_iter("o-1")]
        assert [one.size for one in props if one] == [3]
        assert [one.props_cached async for one in group.list_all_objects_iter(props=None)] == [None] * 3
        result = await client.job(await group.delete()).wait(timeout=30, verbose=False)
        assert result.success
        assert [entry.name for entry in await bucket.list_all_objects()] == ["o-3"]
        with pytest.raises(ValueError, match="must not be empty"):
            bucket.objects(obj_names=[])

    with_bucket(cluster, work)


def test_jobs(cluster: LocalCluster) -> None:
    async def work(client: AsyncClient, bucket: AsyncBucket) -> None:
        began = datetime.now(timezone.utc)
        lru = client.job(job_kind="lru")
        job = client.job(await lru.start(buckets=[bucket]), "lru")
        for wait in (job.wait, job.wait_for_idle, job.wait_single_node):
            assert (await wait(timeout=30)).success
        blocking = cluster.client().job(job.job_id, "lru")
        assert await job.status() == blocking.status()
        assert await job.get_details() == blocking.get_details()
        assert await job.get_total_time() == blocking.get_total_time()
        assert [one.id for one in await job.get_within_timeframe(began)] == [job.job_id]
        with pytest.raises(JobInfoNotFound):
            await job.get_within_timeframe(datetime.now(timezone.utc))
        statuses = await client.cluster().list_jobs_status("lru")
        assert job.job_id in [one.uuid for one in statuses]
        await job.abort()
        with pytest.raises(ValueError, match="without an id"):
            await client.job().abort()
        assert await client.cluster().list_running_jobs("lru") == []

    with_bucket(cluster, work)


def test_the_cluster(cluster3: LocalCluster) -> None:
    async def work(client: AsyncClient, _: AsyncBucket) -> None:
        ours, theirs = client.cluster(), cluster3.client().cluster()
        assert await ours.is_ready()
        assert await ours.get_info() == theirs.get_info()
        assert await ours.get_primary_url() == theirs.get_primary_url() == cluster3.url
        assert await ours.get_uuid() == theirs.get_uuid()
        targets = set((await ours.get_info()).tmap)
        assert len(targets) == 3
        assert set(await ours.get_performance()) == targets
        assert set(await ours.get_cluster_logs(role=NodeFilter.ALL)) > targets
        target = min(targets)
        assert (await ours.get_node_log(target, LogSeverity.INFO)).startswith(theirs.get_node_log(target)[:10])
        assert (await ours.get_node_log_archive(target))[:2] == b"\x1f\x8b"

    with_bucket(cluster3, work)
