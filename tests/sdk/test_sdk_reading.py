"""Reading objects: never short, never mixed, never damaged, and resumed where the stream broke."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import zipfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import requests

from aistore import LocalCluster
from aistore.sdk.errors import ErrBadChecksum, ErrObjNotFound
from aistore.sdk.obj.obj_file.errors import ObjectFileReaderMaxResumeError, ObjectFileReaderStreamError
from answering import answering, checksum, client_of
from peer import Peer, PeerConnection, Received, always

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aistore.sdk import Bucket
    from aistore.sdk.obj.object_reader import ObjectReader, ParallelObjectReader

CONTENT = bytes(range(256)) * 3000
NOBODY = "http://127.0.0.1:1"


def reader_of(peer: Peer, **options: object) -> ObjectReader:
    return client_of(peer).bucket("b").object("o").get_reader(**options)  # type: ignore[call-overload,no-any-return]  # options of each test


def ranged(
    content: bytes = CONTENT, *, cut: dict[int, int] | None = None, version: Callable[[int], str] = lambda _: "1"
) -> Callable[[PeerConnection], None]:
    """A script that serves ranges of `content`; the n-th answer is cut after `cut[n]` bytes of its body."""
    cuts = cut or {}
    answers = [0]

    def script(connection: PeerConnection) -> None:
        while True:
            received = connection.request()
            count, answers[0] = answers[0], answers[0] + 1
            first, last = span_of(received, len(content))
            body = content[first : last + 1]
            ranged = "range" in received.headers
            lines = [f"Ais-Version: {version(count)}", f"Content-Length: {len(body)}", *checksum(content)]
            if ranged:
                lines.append(f"Content-Range: bytes {first}-{last}/{len(content)}")
            if "props" in received.target:
                lines[1], body = f"Content-Length: {len(content)}", b""
            head = f"HTTP/1.1 {206 if ranged else 200} OK\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
            connection.send(head.encode() + body[: cuts.get(count)])
            if count in cuts:
                connection.close()
                return

    return script


def span_of(received: Received, size: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", received.headers.get("range", "bytes=0-"))
    assert found is not None
    return int(found[1]), min(int(found[2] or size), size - 1)


# -- whole objects --


READS: dict[str, Callable[[ObjectReader], bytes]] = {
    "read_all": lambda reader: reader.read_all(),
    "iterate": lambda reader: b"".join(reader),
    "read_into": lambda reader: _read_into(reader),
    "as_file": lambda reader: reader.as_file(max_resume=0).read(),
    "as_file in pieces": lambda reader: (
        b"".join(iter(lambda: file.read(7777), b"")) if (file := reader.as_file(max_resume=0)) else b""
    ),
    "raw": lambda reader: reader.raw().read(),
}


def _read_into(reader: ObjectReader) -> bytes:
    buffer = bytearray(len(CONTENT) + 10)
    return bytes(buffer[: reader.read_into(buffer)])


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_every_way_reads_the_same(read: Callable[[ObjectReader], bytes]) -> None:
    with Peer(ranged()) as peer:
        assert read(reader_of(peer)) == CONTENT


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_body_that_is_cut_is_no_success(read: Callable[[ObjectReader], bytes]) -> None:
    with (
        Peer(ranged(cut={0: len(CONTENT) // 2})) as peer,
        pytest.raises((requests.exceptions.ChunkedEncodingError, ObjectFileReaderMaxResumeError)),
    ):
        read(reader_of(peer))


@pytest.mark.parametrize(
    "read", [read for name, read in READS.items() if name != "raw"], ids=[n for n in READS if n != "raw"]
)
def test_a_damaged_object_is_no_success(read: Callable[[ObjectReader], bytes]) -> None:
    with (
        Peer(always(200, CONTENT[:-1] + b"?", *checksum(CONTENT))) as peer,
        pytest.raises((ErrBadChecksum, ObjectFileReaderStreamError), match="damaged"),
    ):
        read(reader_of(peer))


def test_other_types_of_checksums_are_verified_too() -> None:
    lines = "Ais-Checksum-Type: md5", "Ais-Checksum-Value: 900150983cd24fb0d6963f7d28e17f72"
    with Peer(always(200, b"abc", *lines)) as good, Peer(always(200, b"abd", *lines)) as bad:
        assert reader_of(good).read_all() == b"abc"
        with pytest.raises(ErrBadChecksum, match="md5"):
            reader_of(bad).read_all()


def test_a_checksum_of_an_unknown_type_says_nothing() -> None:
    with Peer(always(200, b"abc", "Ais-Checksum-Type: new", "Ais-Checksum-Value: 1")) as peer:
        assert reader_of(peer).read_all() == b"abc"


def test_a_part_of_an_object_is_not_compared_with_the_checksum_of_the_whole() -> None:
    with Peer(ranged()) as peer:
        assert reader_of(peer, byte_range="bytes=10-19").read_all() == CONTENT[10:20]


@pytest.mark.parametrize("chunk_size", [1, 1000, len(CONTENT), len(CONTENT) + 1])
def test_chunks_have_the_size_that_was_asked_for(bucket: Bucket, chunk_size: int) -> None:
    content = CONTENT[:5000] if chunk_size == 1 else CONTENT
    bucket.object("o").get_writer().put_content(content)
    sizes = [len(chunk) for chunk in bucket.object("o").get_reader(chunk_size=chunk_size)]
    assert sum(sizes) == len(content)
    assert set(sizes[:-1]) <= {chunk_size}


def test_a_buffer_that_is_too_small_is_refused() -> None:
    with Peer(ranged()) as peer, pytest.raises(ValueError, match="768000 bytes, the buffer only 10"):
        reader_of(peer).read_into(bytearray(10))


def test_a_chunked_body_that_does_not_fit_is_refused() -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")

    with Peer(script) as peer, pytest.raises(ValueError, match="does not fit"):
        reader_of(peer).read_into(bytearray(4))


def test_copying_into_a_writer_that_takes_parts() -> None:
    class Reluctant(io.RawIOBase):
        got = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object, /) -> int:
            assert isinstance(data, bytes)
            self.got += data[:100_000]
            return min(len(data), 100_000)

    sink = Reluctant()
    with Peer(ranged()) as peer:
        reader_of(peer, writer=sink)
    assert sink.got == CONTENT


# -- files --


def test_a_file_resumes_where_its_stream_broke() -> None:
    with Peer(ranged(cut={0: 1000, 1: 70_000, 2: 0})) as peer:
        assert reader_of(peer).as_file().read() == CONTENT
        assert [one.headers.get("range") for one in peer.requests] == [
            None,
            "bytes=1000-",
            "bytes=71000-",
            "bytes=71000-",
        ]


@pytest.mark.parametrize("piece", [10, 4096, 100_000])
def test_a_file_resumes_between_reads(piece: int) -> None:
    with Peer(ranged(cut={0: 1000, 1: 70_000})) as peer:
        file = reader_of(peer).as_file()
        assert b"".join(iter(lambda: file.read(piece), b"")) == CONTENT


def test_a_file_resumes_from_a_server_that_ignores_ranges() -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode()
        connection.send(head + CONTENT[: 300_000 * len(peer.requests)])

    with Peer(script) as peer:
        assert reader_of(peer).as_file().read() == CONTENT


def test_a_file_gives_up_after_so_many_resumes() -> None:
    with Peer(ranged(cut={0: 100, 1: 100, 2: 100})) as peer:
        file = reader_of(peer).as_file(max_resume=2)
        with pytest.raises(ObjectFileReaderMaxResumeError) as caught:
            file.read()
        assert isinstance(caught.value.original_error, requests.exceptions.ChunkedEncodingError)
        assert file.closed


def test_an_object_that_is_overwritten_while_it_is_read_is_not_mixed() -> None:
    with (
        Peer(ranged(cut={0: 1000}, version=lambda count: str(count + 1))) as peer,
        pytest.raises(ObjectFileReaderStreamError, match="overwritten"),
    ):
        reader_of(peer).as_file().read()


@pytest.mark.parametrize("workers", [None, 2])
def test_an_object_that_was_deleted_and_stored_again_is_not_mixed(bucket: Bucket, workers: int | None) -> None:
    size = 1 << 20
    kept = bucket.object("o")
    kept.get_writer().put_content(b"a" * size)
    reader = kept.get_reader() if workers is None else kept.get_reader(num_workers=workers, chunk_size=size // 8)
    with reader.as_file() as file:
        assert file.read(100) == b"a" * 100
        kept.delete()
        kept.get_writer().put_content(b"b" * size)  # the same version and size
        file.seek(size - 100)
        with pytest.raises((ObjectFileReaderStreamError, ObjectFileReaderMaxResumeError), match="overwritten"):
            file.read(100)


def test_checksums_of_ranges_are_no_sign_of_another_object(bucket: Bucket) -> None:
    bucket.make_request("PATCH", "set-bprops", {"checksum": {"enable_read_range": True}})
    bucket.object("o").get_writer().put_content(CONTENT)
    with bucket.object("o").get_reader().as_file() as file:
        for position in (0, 500_000, 10, 700_000):
            file.seek(position)
            assert file.read(1000) == CONTENT[position : position + 1000]


def test_an_overwritten_object_of_the_same_version_is_found_by_its_checksum() -> None:
    other = bytes(reversed(CONTENT))

    def script(connection: PeerConnection) -> None:
        received = connection.request()
        first, _ = span_of(received, len(CONTENT))
        if not first:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n" + "".join(
                f"{line}\r\n" for line in checksum(CONTENT)
            )
            connection.send(head.encode() + b"\r\n" + CONTENT[:1000])
            return
        connection.answer(206, other[first:], f"Content-Range: bytes {first}-{len(other) - 1}/{len(other)}")

    with Peer(script) as peer, pytest.raises(ObjectFileReaderStreamError, match="damaged"):
        reader_of(peer).as_file().read()


def test_a_file_can_be_read_from_anywhere() -> None:
    with Peer(ranged()) as peer:
        file = reader_of(peer).as_file()
        assert file.seekable()
        assert file.seek(-10, io.SEEK_END) == len(CONTENT) - 10
        assert file.read() == CONTENT[-10:]
        assert file.read(1) == b""
        file.seek(5)
        assert file.read(3) == CONTENT[5:8]
        file.seek(2, io.SEEK_CUR)
        assert (file.tell(), file.read(4)) == (10, CONTENT[10:14])
        file.seek(len(CONTENT) + 100)
        assert file.read() == b""
        with pytest.raises(ValueError, match="cannot seek to -1"):
            file.seek(-1)


def test_behind_the_end_there_is_nothing_to_read() -> None:
    """Also where the size of the object is not known yet, and the server refuses the range."""
    with LocalCluster() as cluster:
        target = cluster.client().bucket("b").create().object("o")
        target.get_writer().put_content(CONTENT)
        for position in (len(CONTENT), len(CONTENT) + 100):
            file = target.get_reader().as_file()
            assert file.seek(position) == position
            assert (file.read(3), file.read(), file.tell()) == (b"", b"", position)
            assert (file.seek(-2, io.SEEK_END), file.read()) == (len(CONTENT) - 2, CONTENT[-2:])


def test_seeking_asks_for_nothing() -> None:
    with Peer(ranged()) as peer:
        file = reader_of(peer).as_file()
        for position in (100_000, 5, 600_000, 0):
            file.seek(position)
        assert peer.requests == []
        file.read(10)
        # Small steps back and forth stay in what was received.
        file.seek(3)
        file.read(10)
        file.seek(0)
        file.read(1)
        assert len(peer.requests) == 1


def test_after_a_jump_not_everything_is_asked_for() -> None:
    with Peer(ranged()) as peer:
        file = reader_of(peer).as_file()
        file.seek(1000)
        assert file.read(10) == CONTENT[1000:1010]
        assert peer.requests[-1].headers["range"] == f"bytes=1000-{1000 + 256 * 1024 - 1}"
        assert file.read() == CONTENT[1010:]


def test_a_part_of_an_object_is_a_stream() -> None:
    with Peer(ranged()) as peer:
        file = reader_of(peer, byte_range="bytes=10-19").as_file()
        assert not file.seekable()
        with pytest.raises(io.UnsupportedOperation):
            file.seek(0)
        assert file.read() == CONTENT[10:20]


def test_a_part_of_an_object_resumes_within_its_range() -> None:
    with Peer(ranged(cut={0: 100})) as peer:
        assert reader_of(peer, byte_range="bytes=10-999").as_file().read() == CONTENT[10:1000]
        assert [one.headers["range"] for one in peer.requests] == ["bytes=10-999", "bytes=110-999"]


def test_files_work_with_what_expects_files(bucket: Bucket) -> None:
    packed, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar, zipfile.ZipFile(zipped, "w") as archive:
        for name in ("x", "y"):
            info = tarfile.TarInfo(name)
            info.size = 100_000
            tar.addfile(info, io.BytesIO(name.encode() * 100_000))
            archive.writestr(name, name * 100_000)
    bucket.object("a.tar").get_writer().put_content(packed.getvalue())
    bucket.object("a.zip").get_writer().put_content(zipped.getvalue())
    with bucket.object("a.tar").get_reader().as_file() as file, tarfile.open(fileobj=file) as tar:
        member = tar.extractfile("y")
        assert member is not None
        assert member.read() == b"y" * 100_000
    with bucket.object("a.zip").get_reader().as_file() as file, zipfile.ZipFile(file) as archive:
        assert archive.read("x") == b"x" * 100_000
    into = io.BytesIO()
    shutil.copyfileobj(bucket.object("a.tar").get_reader().as_file(), into)
    assert into.getvalue() == packed.getvalue()


def test_text_is_read_and_written_through_a_wrapper(bucket: Bucket) -> None:
    lines = [f"line {i}: größer als 🙂\n" for i in range(20_000)]
    with io.TextIOWrapper(bucket.object("t").get_writer().as_file(), encoding="utf-8") as file:
        file.writelines(lines)
    assert bucket.object("t").get_reader().read_all().decode() == "".join(lines)
    stored: Any = bucket.object("t").get_reader().as_file()  # in typeshed's eyes no buffer
    with io.TextIOWrapper(stored, encoding="utf-8") as file:
        assert file.readline() == lines[0]
        assert list(file) == lines[1:]


def test_readinto_and_read1(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content(CONTENT)
    file = bucket.object("o").get_reader().as_file()
    small, large = bytearray(10), bytearray(200_000)
    assert (file.readinto(small), bytes(small)) == (10, CONTENT[:10])
    assert (file.readinto(large), bytes(large)) == (200_000, CONTENT[10:200_010])
    assert CONTENT[200_010:].startswith(file.read1(5000))
    assert b"".join([file.read1(), *iter(file.read1, b"")]).endswith(CONTENT[-100:])
    assert file.readinto(small) == 0


def test_a_file_opened_again_starts_again(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content(b"0123456789")
    file = bucket.object("o").get_reader().as_file()
    with file:
        assert file.read(4) == b"0123"
    with pytest.raises(ValueError, match="closed file"):
        file.read()
    with file:
        assert file.read() == b"0123456789"


def test_a_file_of_a_missing_object(bucket: Bucket) -> None:
    file = bucket.object("none").get_reader().as_file()
    with pytest.raises(ErrObjNotFound):
        file.read()
    assert file.closed


# -- raw streams --


def test_raw_is_a_file_with_the_headers_of_the_answer(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content(b"one\ntwo\n")
    reader = bucket.object("o").get_reader()
    with reader.raw() as raw:
        assert (raw.status, raw.headers["ais-version"]) == (200, "1")
        assert list(raw) == [b"one\n", b"two\n"]
    assert reader.attributes.size == 8
    assert list(reader.raw().stream(3)) == [b"one", b"\ntw", b"o\n"]


# -- local files --


def test_a_download_appears_when_it_is_complete(bucket: Bucket, tmp_path: Path) -> None:
    bucket.object("o").get_writer().put_content(CONTENT)
    path = tmp_path / "o"
    path.write_bytes(b"old")
    assert bucket.object("o").get_reader().download(path) == len(CONTENT)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "o"
    path.write_bytes(b"old")
    with (
        Peer(always(200, CONTENT[:-1] + b"?", *checksum(CONTENT))) as peer,
        pytest.raises(ObjectFileReaderStreamError),
    ):
        reader_of(peer).download(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# -- many threads --


@pytest.mark.parametrize("chunk_size", [1000, 100_000, len(CONTENT) + 1])
def test_ranges_in_parallel_make_the_whole(bucket: Bucket, chunk_size: int) -> None:
    content = CONTENT[:50_000] if chunk_size == 1000 else CONTENT
    bucket.object("o").get_writer().put_content(content)
    reader = bucket.object("o").get_reader(num_workers=3, chunk_size=chunk_size)
    with reader.read_all() as buffer:
        assert (len(buffer), buffer.tobytes() == content) == (len(content), True)
        kept = buffer.buf[:10]
    assert bytes(kept) == content[:10]
    with pytest.raises(ValueError, match="closed"):
        _ = buffer.buf
    assert b"".join(reader) == content
    file = reader.as_file()
    file.seek(len(content) // 2)
    assert file.read() == content[len(content) // 2 :]


def test_ranges_of_two_versions_are_not_mixed() -> None:
    with Peer(ranged(version=lambda count: "1" if count < 2 else "2")) as peer:
        reader = client_of(peer).bucket("b").object("o").get_reader(num_workers=2, chunk_size=100_000)
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="overwritten"):
            reader.read_all()
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="overwritten"):
            list(reader)


def test_a_range_that_is_cut_is_no_success() -> None:
    with Peer(ranged(cut={2: 10})) as peer:
        reader = client_of(peer).bucket("b").object("o").get_reader(num_workers=2, chunk_size=100_000)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            reader.read_all()


@pytest.mark.parametrize("read", [lambda reader: reader.read_all(), list, lambda reader: reader.as_file().read()])
def test_damaged_parts_are_no_success(read: Callable[[ParallelObjectReader], object]) -> None:
    damaged = CONTENT[:-1] + b"?"

    def script(connection: PeerConnection) -> None:
        while True:
            received = connection.request()
            first, last = span_of(received, len(CONTENT))
            status, body = (206, damaged[first : last + 1]) if "range" in received.headers else (200, b"")
            lines = [*checksum(CONTENT), f"Content-Range: bytes {first}-{last}/{len(CONTENT)}"]
            lines.append(f"Content-Length: {len(body) or len(CONTENT)}")
            head = f"HTTP/1.1 {status} OK\r\n" + "".join(f"{line}\r\n" for line in lines)
            connection.send(head.encode() + b"\r\n" + body)

    with Peer(script) as peer:
        reader = client_of(peer).bucket("b").object("o").get_reader(num_workers=2, chunk_size=100_000)
        with pytest.raises((ErrBadChecksum, ObjectFileReaderStreamError), match="damaged"):
            read(reader)


def test_a_server_that_ignores_ranges_is_refused_in_parallel() -> None:
    def answer(received: Received) -> tuple[object, ...]:
        return 200, b"" if "props" in received.target else CONTENT, *checksum(CONTENT)

    def script(connection: PeerConnection) -> None:
        while True:
            if "props" in connection.request().target:
                connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode())
            else:
                connection.answer(200, CONTENT)

    with Peer(script) as peer:
        reader = client_of(peer).bucket("b").object("o").get_reader(num_workers=2, chunk_size=100_000)
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="asked for a part"):
            reader.read_all()


def test_an_empty_object_has_no_parts(bucket: Bucket) -> None:
    bucket.object("empty").get_writer().put_content(b"")
    with pytest.raises(ValueError, match="empty object"):
        bucket.object("empty").get_reader(num_workers=2)


# -- straight from the target --


def test_direct_reads_follow_a_new_map(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content(b"content")
    reader = bucket.object("o").get_reader(direct=True)
    assert reader.read_all() == b"content"
    bucket.object("o").delete()
    with pytest.raises(ErrObjNotFound):
        reader.read_all()


def cluster_map(gateway: str, target: str) -> bytes:
    """A map with one target."""

    def node(kind: str, url: str) -> dict[str, object]:
        host, port = url.removeprefix("http://").split(":")
        net = {"node_ip_addr": host, "daemon_port": port, "direct_url": url}
        return {"daemon_id": kind, "daemon_type": kind, "public_net": net}

    proxy = node("proxy", gateway)
    return json.dumps({"tmap": {"t": node("target", target)}, "pmap": {"p": proxy}, "proxy_si": proxy}).encode()


@pytest.mark.parametrize("listens", [False, True])
def test_direct_reads_go_on_through_the_gateway_when_the_target_is_dead(listens: bool) -> None:
    """And ask for the map anew then, until it names one that is there."""

    def gateway(received: Received) -> tuple[object, ...]:
        if "what=smap" in received.target:
            return 200, cluster_map(gate.url, targets.pop(0))
        return 200, CONTENT, *checksum(CONTENT)

    def closing(connection: PeerConnection) -> None:
        connection.request()

    with ExitStack() as stack:
        living, gate = (stack.enter_context(Peer(answering(gateway))) for _ in range(2))
        dead = stack.enter_context(Peer(closing)).url if listens else NOBODY
        targets = [dead, dead, living.url]
        reader = client_of(gate, 3).bucket("b").object("o").get_reader(direct=True)
        for _ in range(3):
            assert reader.read_all() == CONTENT
        read = [one for one in gate.requests if one.target.startswith("/v1/objects/")]
        assert (len(read), len(living.requests), targets) == (2, 1, [])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_workers": 1}, "at least 2"),
        ({"num_workers": 2, "byte_range": "bytes=0-1"}, "byte_range"),
        *(
            ({"byte_range": text}, "write bytes=0-499, bytes=500- or bytes=-500")
            for text in ("bytes=a-b", "bytes=abc", "bytes=", "bytes=-", "0-499", "bytes=0-1,5-6", "bytes=\u0661-")
        ),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, object], complaint: str) -> None:
    with Peer(answering(lambda _: (200, b""))) as peer:
        with pytest.raises(ValueError, match=complaint):
            reader_of(peer, **options)
        assert peer.requests == []
