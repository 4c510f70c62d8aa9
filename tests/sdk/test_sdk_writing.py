"""Writing objects: what can be stored, that it is stored whole, and that what fails stores nothing."""

from __future__ import annotations

import array
import gc
import io
import mmap
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import requests

from aistore.sdk.errors import AISError, ErrBadChecksum, ErrBckNotFound, ErrObjNotFound
from answering import answering, checksum, client_of, refusal
from peer import Peer, PeerConnection, Received, always

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aistore.sdk import Bucket, Client

CONTENT = bytes(range(256)) * 10_000


def pieces() -> Iterator[bytes]:
    for start in range(0, len(CONTENT), 99_999):
        yield CONTENT[start : start + 99_999]


def _mapped() -> mmap.mmap:
    area = mmap.mmap(-1, len(CONTENT))
    area[:] = CONTENT
    return area


CONTENTS: dict[str, Callable[[], object]] = {
    "bytes": lambda: CONTENT,
    "bytearray": lambda: bytearray(CONTENT),
    "memoryview": lambda: memoryview(CONTENT),
    "strided memoryview": lambda: memoryview(bytes(b for pair in zip(CONTENT, CONTENT, strict=True) for b in pair))[
        ::2
    ],
    "array of numbers": lambda: array.array("I", CONTENT),
    "mmap": _mapped,
    "file in memory": lambda: io.BytesIO(CONTENT),
    "generator": pieces,
    "list of pieces": lambda: list(pieces()),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_can_be_stored(bucket: Bucket, content: Callable[[], object]) -> None:
    response = bucket.object("o").get_writer().put_content(content())  # type: ignore[arg-type]  # each of them
    assert response.status_code == 200
    assert bucket.object("o").get_reader().read_all() == CONTENT


def test_text_is_stored_as_utf8(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content("日本")
    assert bucket.object("o").get_reader().read_all().decode() == "日本"


@pytest.mark.parametrize("content", [None, 3, object()])
def test_what_cannot_be_stored(content: object) -> None:
    with Peer(always()) as peer:
        with pytest.raises(TypeError, match="content must be bytes-like"):
            client_of(peer).bucket("b").object("o").get_writer().put_content(content)  # type: ignore[arg-type]  # that is the point
        assert peer.requests == []


@pytest.mark.parametrize("content", [io.StringIO("text"), ["text"]])
def test_text_in_pieces_is_refused(bucket: Bucket, content: object) -> None:
    with pytest.raises(TypeError, match="bytes"):
        bucket.object("o").get_writer().put_content(content)  # type: ignore[arg-type]  # that is the point
    assert bucket.list_all_objects() == []


def test_a_file_is_stored_from_its_position(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"head" + CONTENT)
    with path.open("rb") as file:
        file.seek(4)
        bucket.object("o").get_writer().put_content(file)
    assert bucket.object("o").get_reader().read_all() == CONTENT
    bucket.object("whole").get_writer().put_file(path)
    assert bucket.object("whole").props.size == len(CONTENT) + 4


def test_the_answer_looks_like_one_of_requests(bucket: Bucket) -> None:
    response = bucket.object("o").get_writer().put_content(b"content")
    assert isinstance(response, requests.Response)
    assert (response.ok, response.text, response.content) == (True, "", b"")
    assert response.headers["AIS-VERSION"] == "1"
    assert response.url.endswith("/o?provider=ais")
    assert (response.request.method, response.request.body) == ("PUT", b"content")
    assert (response.history, response.encoding, response.is_redirect) == ([], None, False)
    response.raise_for_status()
    with pytest.raises(AttributeError, match="no_such"):
        _ = response.no_such  # type: ignore[attr-defined]  # that is the point


def test_json_of_an_answer(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content(b"content")
    response = bucket.make_request("GET", "list", value={})
    assert [entry["name"] for entry in response.json()["entries"]] == ["o"]


# -- what the cluster stored is what was sent --


@pytest.mark.parametrize(
    "content", [lambda: b"sent", lambda: io.BytesIO(b"sent"), lambda: iter([b"se", b"nt"]), lambda: [b"sent"]]
)
def test_content_that_was_stored_differently_is_an_error(content: Callable[[], object]) -> None:
    with Peer(always(200, b"", *checksum(b"sent"))) as good, Peer(always(200, b"", *checksum(b"else"))) as bad:
        client_of(good).bucket("b").object("o").get_writer().put_content(content())  # type: ignore[arg-type]  # each of them
        with pytest.raises(ErrBadChecksum, match="what was sent"):
            client_of(bad).bucket("b").object("o").get_writer().put_content(content())  # type: ignore[arg-type]  # as above


def test_content_that_is_sent_again_is_hashed_again() -> None:
    def lose(connection: PeerConnection) -> None:
        connection.request()
        connection.reset()

    for content in (b"sent", io.BytesIO(b"sent"), [b"se", b"nt"]):
        with Peer(lose, always(200, b"", *checksum(b"sent"))) as peer:
            client_of(peer, attempts=2).bucket("b").object("o").get_writer().put_content(content)
            assert [one.body for one in peer.requests] == [b"sent", b"sent"]


def test_content_that_passes_by_once_is_not_sent_again() -> None:
    def lose(connection: PeerConnection) -> None:
        connection.request()
        connection.reset()

    with Peer(lose, always()) as peer:
        with pytest.raises(requests.RequestException):
            client_of(peer, attempts=2).bucket("b").object("o").get_writer().put_content(iter([b"sent"]))
        assert len(peer.requests) == 1


# -- custom metadata --


def test_custom_metadata_goes_with_the_content(bucket: Bucket) -> None:
    pairs = {"label": "cat", "path": "a,b=c", "name": "日本"}
    bucket.object("o").get_writer().put_content(b"x", custom_metadata=pairs)
    assert bucket.object("o").props.custom_metadata == pairs


def test_custom_metadata_goes_with_a_file(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    bucket.object("o").get_writer().put_file(tmp_path / "f", custom_metadata={"a": "b"})
    assert bucket.object("o").props.custom_metadata == {"a": "b"}


@pytest.mark.parametrize("pair", [{"": "v"}, {"a=b": "v"}, {"a": "x\r\nAis-Version: 9"}, {"a\n": "x"}, {"a": "\x00"}])
def test_custom_metadata_that_is_no_header_is_refused(pair: dict[str, str]) -> None:
    with Peer(always()) as peer:
        with pytest.raises(ValueError, match="cannot be sent with the content"):
            client_of(peer).bucket("b").object("o").get_writer().put_content(b"x", custom_metadata=pair)
        assert peer.requests == []


# -- files --


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("mode", ["w", "a"])
@pytest.mark.parametrize("count", [1, 5_000_000])
def test_a_block_that_raises_stores_nothing(bucket: Bucket, mode: str, existing: bool, count: int) -> None:
    if existing:
        bucket.object("o").get_writer().put_content(b"old")
    with pytest.raises(ZeroDivisionError), bucket.object("o").get_writer().as_file(mode) as file:
        file.write(b"x" * count)
        raise ZeroDivisionError
    assert file.closed
    if existing:
        assert bucket.object("o").get_reader().read_all() == b"old"
    else:
        with pytest.raises(ErrObjNotFound):
            bucket.object("o").head()


@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_file_is_stored_when_it_is_closed(bucket: Bucket, mode: str) -> None:
    bucket.object("o").get_writer().put_content(b"old")
    with bucket.object("o").get_writer().as_file(mode) as file:
        for piece in pieces():
            assert file.write(piece) == len(piece)
        assert bucket.object("o").get_reader().read_all() == b"old"
    assert bucket.object("o").get_reader().read_all() == (b"" if mode == "w" else b"old") + CONTENT


def test_large_replacements_do_not_stay_in_memory(bucket: Bucket) -> None:
    piece = CONTENT[: 1 << 20]
    with bucket.object("o").get_writer().as_file("w") as file:
        for _ in range(20):
            file.write(piece)
    assert bucket.object("o").props.size == 20 * len(piece)


@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_flush_makes_visible_what_was_written(bucket: Bucket, mode: str) -> None:
    with bucket.object("o").get_writer().as_file(mode) as file:
        seen = []
        for word in (b"one ", b"two ", b"three"):
            file.write(word)
            file.flush()
            seen.append(bucket.object("o").get_reader().read_all())
    assert seen == [b"one ", b"one two ", b"one two three"]
    assert bucket.object("o").get_reader().read_all() == b"one two three"


def test_what_was_flushed_stays_when_the_block_raises(bucket: Bucket) -> None:
    with pytest.raises(ZeroDivisionError), bucket.object("o").get_writer().as_file("w") as file:
        file.write(b"kept")
        file.flush()
        file.write(b"lost")
        raise ZeroDivisionError
    assert bucket.object("o").get_reader().read_all() == b"kept"


def test_a_writer_that_is_dropped_stores_nothing(bucket: Bucket) -> None:
    file = bucket.object("o").get_writer().as_file("a")
    file.write(b"x")
    with pytest.warns(ResourceWarning, match="is not stored"):
        del file
        gc.collect()
    with pytest.raises(ErrObjNotFound):
        bucket.object("o").head()


def test_a_failure_to_store_is_raised_by_close(client: Client) -> None:
    bucket = client.bucket("writing-and-losing").create()
    file = bucket.object("o").get_writer().as_file("a")
    file.write(b"x")
    bucket.delete()
    with pytest.raises(ErrBckNotFound):
        file.close()
    assert file.closed
    file.close()


def dropping(answer: Callable[[Received], tuple[object, ...] | None]) -> Callable[[PeerConnection], None]:
    """A script that answers as `answer` says, and closes the connection instead where that is None."""

    def script(connection: PeerConnection) -> None:
        while (said := answer(connection.request())) is not None:
            status, body, *headers = said
            connection.answer(status, body, *headers)  # type: ignore[arg-type]  # what the test returned

    return script


@pytest.mark.parametrize("lost", ["append", "flush"])
def test_an_append_that_was_lost_is_neither_sent_again_nor_left_out(lost: str) -> None:
    def answer(received: Received) -> tuple[object, ...] | None:
        operation = "flush" if "append_type=flush" in received.target else "append"
        return None if operation == lost and len(peer.requests) > 1 else (200, b"", "Ais-Append-Handle: h")

    with Peer(dropping(answer)) as peer:
        file = client_of(peer, 3).bucket("b").object("o").get_writer().as_file("a")
        file.write(b"1" * (2 << 20))
        with pytest.raises(requests.ConnectionError):
            file.write(b"2" * (2 << 20))
            file.flush()
        for _ in range(2):
            with pytest.raises((requests.ConnectionError, ValueError)):  # the asyncio face has closed the file
                file.write(b"3" * (2 << 20))
                file.flush()
        with suppress(requests.ConnectionError):
            file.close()
        assert file.closed
        sent = [(received.body[:1], "flush" in received.target) for received in peer.requests]
        assert sent == [(b"1", False), (b"2", False), (b"", True)][: 2 if lost == "append" else 3]


def test_a_replacement_that_failed_can_be_stored_again() -> None:
    refusals = [507]

    def answer(received: Received) -> tuple[object, ...] | None:
        if received.method == "PUT" and refusals:
            return refusals.pop(), b""
        return 200, b"", *checksum(received.body)

    with Peer(dropping(answer)) as peer:
        with client_of(peer).bucket("b").object("o").get_writer().as_file("w") as file:
            file.write(b"all of it")
            with pytest.raises(AISError):
                file.flush()
        assert [received.body for received in peer.requests if received.method == "PUT"] == [b"all of it"] * 2


def test_a_failure_to_clean_up_does_not_hide_why(caplog: pytest.LogCaptureFixture) -> None:
    def answer(received: Received) -> tuple[object, ...] | None:
        if len(peer.requests) == 1:
            return 404, b"", "Hdr-Error: " + refusal("t[x]: ais://b/o does not exist", 404).decode().strip()
        return (200, b"", *checksum(b"")) if received.method == "PUT" and not received.body else None

    with Peer(dropping(answer)) as peer:
        file = client_of(peer).bucket("b").object("o").get_writer().as_file("w")
        file.write(b"content")
        with pytest.raises(requests.ConnectionError, match=r"\[PUT ") as info:
            file.close()
        assert file.closed
        assert info.value.__class__.__name__ == "ConnectionLost"
        assert "could not be removed again" in caplog.text


def test_a_file_in_a_missing_bucket_cannot_be_opened(client: Client) -> None:
    with pytest.raises(ErrBckNotFound):
        client.bucket("no-such-bucket").object("o").get_writer().as_file("w")


def test_a_closed_file_takes_nothing(bucket: Bucket) -> None:
    file = bucket.object("o").get_writer().as_file("w")
    file.close()
    for call in (lambda: file.write(b"x"), file.flush, file.__enter__):
        with pytest.raises(ValueError, match="closed file"):
            call()


def test_another_mode_is_refused() -> None:
    with Peer(answering(lambda _: (200, b""))) as peer, pytest.raises(ValueError, match="Invalid mode: rb"):
        client_of(peer).bucket("b").object("o").get_writer().as_file("rb")


# -- folders --


def test_files_of_a_folder(bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "b.log", "sub/c.txt"):
        (tmp_path / name).write_bytes(name.encode())
    with caplog.at_level("INFO", "aistore.sdk.bucket.put_files"):
        assert sorted(bucket.put_files(tmp_path, pattern="*.txt", recursive=True, prepend="p-")) == [
            "p-a.txt",
            "p-sub/c.txt",
        ]
        assert len(caplog.records) == 3
        assert bucket.put_files(tmp_path, prefix_filter="b", dry_run=True, verbose=False) == ["b.log"]
        assert len(caplog.records) == 3
    assert [entry.name for entry in bucket.list_all_objects()] == ["p-a.txt", "p-sub/c.txt"]
    assert bucket.object("p-sub/c.txt").get_reader().read_all() == b"sub/c.txt"
