"""What reading does its own way in the asyncio face: one task a file, cancellation, asynchronous writers, parts asked for when read."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import requests

from aistore import AsyncClient
from aistore.sdk.errors import ErrBadChecksum, ErrObjNotFound
from aistore.sdk.obj.obj_file.errors import ObjectFileReaderMaxResumeError
from answering import answering, attempts_of, checksum
from peer import Peer, PeerConnection, always
from sdk.test_sdk_reading import CONTENT, ranged
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.aio import AsyncBucket, AsyncObjectReader

T = TypeVar("T")


def run(work: Coroutine[object, object, T]) -> T:
    """Run `work` in debug mode, where asyncio reports what was forgotten."""
    return asyncio.run(work, debug=True)


def client_of(peer: Peer) -> AsyncClient:
    return AsyncClient(peer.url, retry_config=attempts_of(1), timeout=5)


def half_then_whole(connection: PeerConnection) -> None:
    """Begin an answer, and leave it unfinished until the client goes away; the next one is whole."""
    connection.request()
    head = f"HTTP/1.1 200 OK\r\nAis-Version: 1\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
    connection.send(head.encode() + CONTENT[: len(CONTENT) // 2])
    connection.wait_for_end()


def whole(connection: PeerConnection) -> None:
    ranged()(connection)


async def cancel_when(condition: Awaitable[object], work: Coroutine[object, object, object]) -> None:
    """Start `work`, cancel it once the condition holds, and wait for its end."""
    task = asyncio.create_task(work)
    await condition
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def alone() -> None:
    """Wait until no other task is left."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, pending = await asyncio.wait(others, timeout=DEADLINE)
        assert not pending


async def iterate(reader: AsyncIterable[bytes]) -> bytes:
    return b"".join([chunk async for chunk in reader])


async def read_into(reader: AsyncObjectReader) -> bytes:
    buffer = bytearray(len(CONTENT) + 1)
    return bytes(buffer[: await reader.read_into(buffer)])


async def as_file(reader: AsyncObjectReader) -> bytes:
    async with reader.as_file() as file:
        return await file.read()


async def raw(reader: AsyncObjectReader) -> bytes:
    async with await reader.raw() as answer:
        assert answer.headers["Ais-Version"] == "1"
        return b"".join([chunk async for chunk in answer.chunks(100_000)])


async def copied(reader: AsyncObjectReader) -> bytes:
    sink = io.BytesIO()
    assert await reader.copy_to(sink) == len(CONTENT)
    return sink.getvalue()


READS: dict[str, Callable[[AsyncObjectReader], Coroutine[object, object, bytes]]] = {
    "read_all": lambda reader: reader.read_all(),
    "iterate": iterate,
    "read_into": read_into,
    "as_file": as_file,
    "raw": raw,
    "copy_to": copied,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_cancelled_read_costs_its_connection_and_nothing_else(read: Callable[[AsyncObjectReader], Any]) -> None:
    async def work(peer: Peer) -> None:
        async with client_of(peer) as client:
            reader = client.bucket("b").object("o").get_reader()
            await cancel_when(asyncio.to_thread(peer.seen, 1), read(reader))
            assert await read(reader) == CONTENT
            assert await read(reader) == CONTENT

    with Peer(half_then_whole, whole) as peer:
        run(work(peer))
        # What was cancelled is not used again; what was read to its end is.
        assert peer.connections == 2


def test_a_cancelled_read_of_a_file_leaves_its_position() -> None:
    async def work(peer: Peer) -> None:
        async with client_of(peer) as client, client.bucket("b").object("o").get_reader().as_file() as file:
            first = await file.read(100_000)
            await cancel_when(asyncio.sleep(0), file.read())
            assert (file.tell(), file.closed) == (100_000, False)
            assert first + await file.read() == CONTENT

    with Peer(half_then_whole, whole) as peer:
        run(work(peer))


def test_a_cancelled_download_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "o"
    path.write_bytes(b"old")

    async def work(peer: Peer) -> None:
        async with client_of(peer) as client:
            reader = client.bucket("b").object("o").get_reader()
            await cancel_when(asyncio.to_thread(peer.seen, 1), reader.download(path))
            assert await asyncio.to_thread(files_of, tmp_path) == {"o": b"old"}
            assert await reader.download(path) == len(CONTENT)

    with Peer(half_then_whole, whole) as peer:
        run(work(peer))
    assert files_of(tmp_path) == {"o": CONTENT}


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_cancelled_parallel_reads_leave_no_tasks_behind() -> None:
    def script(connection: PeerConnection) -> None:
        """Serve the head, and of every range the first byte."""
        while True:
            received = connection.request()
            head = f"HTTP/1.1 %s OK\r\nContent-Length: %d\r\nContent-Range: bytes x/{len(CONTENT)}\r\n\r\n"
            if "props" in received.target:
                connection.send((head % (200, len(CONTENT))).encode())
            else:
                connection.send((head % (206, 100_000)).encode() + b"x")

    async def work(peer: Peer) -> None:
        async with client_of(peer) as client:
            reader = client.bucket("b").object("o").get_reader(num_workers=3, chunk_size=100_000)
            reads: list[Callable[[], Coroutine[object, object, object]]] = [
                reader.read_all,
                lambda: iterate(reader),
                lambda: reader.as_file().read(),
            ]
            for read in reads:
                await cancel_when(asyncio.to_thread(peer.seen, len(peer.requests) + 4), read())
                await alone()

    with Peer(script) as peer:
        run(work(peer))


def test_a_failed_part_ends_the_others() -> None:
    async def work(peer: Peer) -> None:
        async with client_of(peer) as client:
            reader = client.bucket("b").object("o").get_reader(num_workers=3, chunk_size=100_000)
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                await reader.read_all()
            with pytest.raises(ObjectFileReaderMaxResumeError):
                await reader.as_file(max_resume=0).read()
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                async for _ in reader:
                    pass
            await alone()

    def script(connection: PeerConnection) -> None:
        while True:
            if "props" in connection.request().target:
                connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode())
            else:
                connection.send(b"HTTP/1.1 206 OK\r\nContent-Length: 100000\r\n\r\nx")
                connection.close()
                return

    with Peer(script) as peer:
        run(work(peer))


def test_leaving_a_loop_early_ends_what_is_on_its_way() -> None:
    async def work(peer: Peer) -> None:
        async with client_of(peer) as client:
            for options in ({}, {"num_workers": 3, "chunk_size": 100_000}):
                chunks = client.bucket("b").object("o").get_reader(**options).__aiter__()  # type: ignore[call-overload]  # of each turn
                assert CONTENT.startswith(await anext(chunks))
                await chunks.aclose()
                await alone()
            assert await client.bucket("b").object("o").get_reader().read_all() == CONTENT

    with Peer(ranged()) as peer:
        run(work(peer))


def test_one_task_at_a_time_reads_a_file() -> None:
    async def work(peer: Peer) -> None:
        async with client_of(peer) as client:
            file = client.bucket("b").object("o").get_reader().as_file()
            reading = asyncio.create_task(file.read())
            await asyncio.to_thread(peer.seen, 1)
            for call in (lambda: file.read(1), lambda: file.seek(0), lambda: file.readinto(bytearray(3))):
                with pytest.raises(RuntimeError, match="another task is reading"):
                    await call()
            await file.close()
            with pytest.raises(ValueError, match="closed file"):
                await reading
            with pytest.raises(ValueError, match="closed file"):
                await file.read()
            assert len(peer.requests) == 1

    with Peer(half_then_whole, whole) as peer:
        run(work(peer))


def test_a_copy_into_an_asynchronous_writer() -> None:
    class Sink:
        got = b""

        async def write(self, data: bytes | memoryview, /) -> int:
            await asyncio.sleep(0)
            self.got += data[:100_000]
            return min(len(data), 100_000)

    async def work(peer: Peer) -> bytes:
        async with client_of(peer) as client:
            sink = Sink()
            assert await client.bucket("b").object("o").get_reader().copy_to(sink) == len(CONTENT)
            return sink.got

    with Peer(ranged()) as peer:
        assert run(work(peer)) == CONTENT


def test_large_damaged_content_is_no_success() -> None:
    content = CONTENT * 4

    async def work(peer: Peer) -> None:
        async with client_of(peer) as client:
            reader = client.bucket("b").object("o").get_reader()
            with pytest.raises(ErrBadChecksum, match="damaged"):
                await reader.read_all()

    with Peer(always(200, content[:-1] + b"?", *checksum(content))) as peer:
        run(work(peer))


def test_ranges_of_two_versions_are_not_mixed() -> None:
    async def work(peer: Peer, read: Callable[[Any], Awaitable[object]]) -> None:
        async with client_of(peer) as client:
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match="overwritten"):
                await read(client.bucket("b").object("o").get_reader(num_workers=2, chunk_size=100_000))

    for read in (lambda reader: reader.read_all(), iterate):
        with Peer(ranged(version=lambda count: "1" if count < 2 else "2")) as peer:
            run(work(peer, read))


def test_a_reader_with_workers_asks_when_it_reads(cluster: LocalCluster) -> None:
    async def work(bucket: AsyncBucket) -> None:
        reader = bucket.object("none").get_reader(num_workers=2)
        for read in (reader.read_all, reader.as_file().read):
            with pytest.raises(ErrObjNotFound):
                await read()
        await bucket.object("none").get_writer().put_content(b"")
        with pytest.raises(ValueError, match="empty object"):
            await reader.read_all()

    with_bucket(cluster, work)


def test_direct_reads_find_the_target_when_they_read(cluster3: LocalCluster) -> None:
    async def work(bucket: AsyncBucket) -> None:
        await asyncio.gather(*(bucket.object(f"{n}").get_writer().put_content(b"%d" % n) for n in range(20)))
        readers = [bucket.object(f"{n}").get_reader(direct=True) for n in range(20)]
        assert await asyncio.gather(*(reader.read_all() for reader in readers)) == [b"%d" % n for n in range(20)]
        assert (await readers[3].head()).size == 1
        await bucket.object("3").delete()
        with pytest.raises(ErrObjNotFound):
            await readers[3].read_all()

    with_bucket(cluster3, work)


def test_thousands_of_reads_at_once_share_a_hundred_connections() -> None:
    async def work(peer: Peer) -> None:
        async with client_of(peer) as client:
            bucket = client.bucket("b")
            contents = await asyncio.gather(*(bucket.object(f"{n}").get_reader().read_all() for n in range(3000)))
            assert contents == [f"/v1/objects/b/{n}?provider=ais".encode() for n in range(3000)]

    with Peer(answering(lambda received: (200, received.target.encode()))) as peer:
        asyncio.run(work(peer))
        assert (
            peer.connections < 150
        )  # a hundred at a time; on a loaded machine one that has been idle for long is replaced


def with_bucket(cluster: LocalCluster, work: Callable[[AsyncBucket], Awaitable[T]]) -> T:
    """Do something with an empty bucket."""

    async def all_of_it() -> T:
        async with AsyncClient(cluster.url) as client:
            bucket = await client.bucket("aio-reading").create()
            try:
                return await work(bucket)
            finally:
                await bucket.delete()

    return run(all_of_it())
