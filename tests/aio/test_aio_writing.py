"""What writing does its own way in the asyncio face: asynchronous content, cancellation, files that are opened by their first call."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, TypeVar

import pytest
import requests

from aistore import AsyncClient
from aistore.aio.threads import in_thread
from aistore.sdk.errors import ErrBadChecksum, ErrBckNotFound, ErrObjNotFound
from answering import attempts_of, checksum
from peer import Peer, PeerConnection, always
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.aio import AsyncBucket

T = TypeVar("T")

CONTENT = bytes(range(256)) * 10_000


def with_bucket(cluster: LocalCluster, work: Callable[[AsyncBucket], Awaitable[T]]) -> T:
    """Do something with an empty bucket, in debug mode, where asyncio reports what was forgotten."""

    async def all_of_it() -> T:
        async with AsyncClient(cluster.url) as client:
            bucket = await client.bucket("aio-writing").create()
            try:
                return await work(bucket)
            finally:
                await bucket.delete()

    return asyncio.run(all_of_it(), debug=True)


def with_peer(peer: Peer, work: Callable[[AsyncBucket], Awaitable[T]], attempts: int = 1) -> T:
    """Do something with a bucket of a peer."""

    async def all_of_it() -> T:
        async with AsyncClient(peer.url, retry_config=attempts_of(attempts), timeout=5) as client:
            return await work(client.bucket("b"))

    return asyncio.run(all_of_it(), debug=True)


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        await asyncio.sleep(0)
        yield piece


class Pieces:
    """Asynchronous, from the start as often as wanted."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return pieces(b"se", b"", b"nt")


def lose(connection: PeerConnection) -> None:
    connection.request()
    connection.reset()


async def cancelled(work: Coroutine[object, object, object], begun: Awaitable[object]) -> None:
    """Start `work`, cancel it once it has begun, and wait for its end."""
    task = asyncio.create_task(work)
    await begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- all at once --


def test_asynchronous_content(cluster: LocalCluster) -> None:
    async def work(bucket: AsyncBucket) -> None:
        stored = bucket.object("o")
        await stored.get_writer().put_content(pieces(CONTENT, b"x", CONTENT), custom_metadata={"a": "b"})
        assert await stored.get_reader().read_all() == CONTENT + b"x" + CONTENT
        assert (await stored.head()).custom_metadata == {"a": "b"}
        response = await stored.get_writer().put_content(Pieces())
        assert isinstance(response, requests.Response)
        assert (response.status_code, response.content, response.raw.read()) == (200, b"", b"")
        assert await stored.get_reader().read_all() == b"sent"

    with_bucket(cluster, work)


def test_a_file_that_is_read_by_a_coroutine(cluster: LocalCluster) -> None:
    async def work(bucket: AsyncBucket) -> None:
        stream = asyncio.StreamReader()
        stream.feed_data(CONTENT)
        stream.feed_eof()
        await bucket.object("o").get_writer().put_content(stream)
        assert await bucket.object("o").get_reader().read_all() == CONTENT

    with_bucket(cluster, work)


def test_content_goes_from_object_to_object(cluster: LocalCluster) -> None:
    async def work(bucket: AsyncBucket) -> None:
        await bucket.object("a").get_writer().put_content(CONTENT)
        await bucket.object("b").get_writer().put_content(bucket.object("a").get_reader())
        async with bucket.object("a").get_reader().as_file() as source:
            await bucket.object("c").get_writer().put_content(source)
        async with bucket.object("d").get_writer().as_file() as sink:
            assert await bucket.object("a").get_reader(num_workers=2, chunk_size=100_000).copy_to(sink) == len(CONTENT)
        for name in "bcd":
            assert await bucket.object(name).get_reader().read_all() == CONTENT

    with_bucket(cluster, work)


def test_hundreds_of_copies_at_once_do_not_wait_for_each_other(cluster: LocalCluster) -> None:
    async def work(bucket: AsyncBucket) -> None:
        async def copy(number: int) -> None:
            source = bucket.object(f"{number}")
            await source.get_writer().put_content(b"%d" % number)
            await bucket.object(f"copy-{number}").get_writer().put_content(source.get_reader())

        await asyncio.wait_for(asyncio.gather(*(copy(number) for number in range(300))), 6 * DEADLINE)
        assert len(await bucket.list_all_objects("copy-")) == 300

    with_bucket(cluster, work)


def test_asynchronous_text_is_refused(cluster: LocalCluster) -> None:
    async def text() -> AsyncIterator[str]:
        yield "text"

    async def work(bucket: AsyncBucket) -> None:
        with pytest.raises(TypeError, match="bytes"):
            await bucket.object("o").get_writer().put_content(text())  # type: ignore[arg-type]  # that is the point
        assert await bucket.list_all_objects() == []

    with_bucket(cluster, work)


def test_asynchronous_content_that_was_stored_differently_is_an_error() -> None:
    with Peer(always(200, b"", *checksum(b"sent"))) as good, Peer(always(200, b"", *checksum(b"else"))) as bad:
        with_peer(good, lambda bucket: bucket.object("o").get_writer().put_content(pieces(b"se", b"nt")))
        with pytest.raises(ErrBadChecksum, match="what was sent"):
            with_peer(bad, lambda bucket: bucket.object("o").get_writer().put_content(pieces(b"se", b"nt")))


def test_asynchronous_content_is_sent_again_if_it_can_be() -> None:
    with Peer(lose, always(200, b"", *checksum(b"sent"))) as peer:
        with_peer(peer, lambda bucket: bucket.object("o").get_writer().put_content(Pieces()), attempts=2)
        assert [one.body for one in peer.requests] == [b"sent", b"sent"]
    with Peer(lose, always()) as peer:
        with pytest.raises(requests.RequestException):
            with_peer(peer, lambda bucket: bucket.object("o").get_writer().put_content(pieces(b"sent")), attempts=2)
        assert len(peer.requests) == 1


def test_content_that_raises_stores_nothing(cluster: LocalCluster) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ZeroDivisionError

    async def work(bucket: AsyncBucket) -> None:
        with pytest.raises(ZeroDivisionError):
            await bucket.object("o").get_writer().put_content(broken())
        assert await bucket.list_all_objects() == []

    with_bucket(cluster, work)


def test_a_cancelled_put_stores_nothing(cluster: LocalCluster) -> None:
    async def work(bucket: AsyncBucket) -> None:
        begun = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield CONTENT
                begun.set()

        await cancelled(bucket.object("o").get_writer().put_content(endless()), begun.wait())
        assert await bucket.list_all_objects() == []
        await bucket.object("o").get_writer().put_content(b"usable")

    with_bucket(cluster, work)


def test_a_cancelled_put_of_a_file_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(CONTENT)

    def stall(connection: PeerConnection) -> None:
        connection.head()
        connection.wait_for_end()

    async def work(bucket: AsyncBucket) -> None:
        begun = asyncio.to_thread(peer.seen, 1)
        await cancelled(bucket.object("o").get_writer().put_file(path), begun)
        gc.collect()  # an open file would be reported

    with Peer(stall) as peer:
        with_peer(peer, work)


@pytest.mark.parametrize("path", ["none", "."])
def test_what_is_no_file_is_not_stored(tmp_path: Path, path: str) -> None:
    async def work(bucket: AsyncBucket) -> None:
        with pytest.raises(ValueError, match="Path"):
            await bucket.object("o").get_writer().put_file(tmp_path / path)

    with Peer(always()) as peer:
        with_peer(peer, work)
        assert peer.requests == []


# -- files --


def test_a_file_is_opened_by_its_first_call(cluster: LocalCluster) -> None:
    async def work(bucket: AsyncBucket) -> None:
        missing = AsyncClient(cluster.url).bucket("no-such-bucket").object("o")
        assert repr(missing.get_writer().as_file("w")) == "<AsyncObjectFileWriter objects/no-such-bucket/o>"
        unopened = bucket.object("never").get_writer().as_file("w")
        del unopened
        with pytest.raises(ErrObjNotFound):
            await bucket.object("never").head()

        file = bucket.object("o").get_writer().as_file("w")
        await file.write(b"x")
        assert (await bucket.object("o").head()).size == 0
        await file.close()
        assert (await bucket.object("o").head()).size == 1

    with_bucket(cluster, work)


@pytest.mark.parametrize("mode", ["a", "w"])
def test_a_file_in_a_missing_bucket_cannot_be_opened(cluster: LocalCluster, mode: str) -> None:
    async def work(_: AsyncBucket) -> None:
        async with AsyncClient(cluster.url) as client:
            file = client.bucket("no-such-bucket").object("o").get_writer().as_file(mode)
            with pytest.raises(ErrBckNotFound):
                await file.write(b"x" * 2_000_000)
            assert file.closed
            with pytest.raises(ValueError, match="closed file"):
                await file.write(b"x")

    with_bucket(cluster, work)


@pytest.mark.parametrize("mode", ["a", "w"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_cancelled_block_stores_nothing(cluster: LocalCluster, mode: str, existing: bool) -> None:
    async def work(bucket: AsyncBucket) -> None:
        if existing:
            await bucket.object("o").get_writer().put_content(b"old")
        written = asyncio.Event()

        async def write() -> None:
            async with bucket.object("o").get_writer().as_file(mode) as file:
                await file.write(CONTENT)
                await file.write(b"x")
                written.set()
                await asyncio.sleep(3600)

        await cancelled(write(), written.wait())
        if existing:
            assert await bucket.object("o").get_reader().read_all() == b"old"
        else:
            with pytest.raises(ErrObjNotFound):
                await bucket.object("o").head()

    with_bucket(cluster, work)


def test_a_cancelled_write_closes_the_file() -> None:
    def stall(connection: PeerConnection) -> None:
        connection.request(agree=False)
        connection.wait_for_end()

    async def work(bucket: AsyncBucket) -> None:
        file = bucket.object("o").get_writer().as_file("a")
        await cancelled(file.write(CONTENT[: 1 << 20]), asyncio.to_thread(peer.seen, 1))
        assert file.closed
        await file.close()
        assert len(peer.requests) == 1

    with Peer(stall) as peer:
        with_peer(peer, work)


def test_one_task_at_a_time_writes_a_file() -> None:
    async def work(bucket: AsyncBucket) -> None:
        file = bucket.object("o").get_writer().as_file("a")
        writing = asyncio.create_task(file.write(bytes(1 << 20)))
        await asyncio.to_thread(peer.seen, 1)
        for call in (lambda: file.write(b"x"), file.flush, file.close):
            with pytest.raises(RuntimeError, match="another task is writing"):
                await call()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    def stall(connection: PeerConnection) -> None:
        connection.head()
        connection.wait_for_end()

    with Peer(stall) as peer:
        with_peer(peer, work)


# -- folders --


def test_files_of_a_folder(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "b.log", "sub/c.txt"):
        (tmp_path / name).write_bytes(name.encode())

    async def work(bucket: AsyncBucket) -> None:
        stored = await bucket.put_files(tmp_path, pattern="*.txt", recursive=True, prepend="p-", verbose=False)
        assert sorted(stored) == ["p-a.txt", "p-sub/c.txt"]
        assert await bucket.object("p-sub/c.txt").get_reader().read_all() == b"sub/c.txt"
        with pytest.raises(ValueError, match="directory"):
            await bucket.put_files(tmp_path / "a.txt")

    with_bucket(cluster, work)


# -- threads --


def test_a_cancelled_thread_has_ended_when_that_is_told() -> None:
    async def work() -> None:
        begun, leave = asyncio.Event(), threading.Event()
        ended = []
        loop = asyncio.get_running_loop()

        def slow() -> None:
            loop.call_soon_threadsafe(begun.set)
            leave.wait()
            ended.append(True)

        task = asyncio.create_task(in_thread(slow))
        await begun.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    asyncio.run(work(), debug=True)


def test_what_a_thread_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(lambda: 1 // 0))
