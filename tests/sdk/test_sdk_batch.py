"""Batches: every entry, in the order in which it was asked for, or an error that names it."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from aistore import AsyncClient
from aistore.sdk.batch.errors import BatchIncomplete, MultipartDecodeError
from aistore.sdk.errors import AISError
from aistore.transport.errors import TransportError
from answering import client_of
from archives import packed, tar
from peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore import LocalCluster
    from aistore.sdk import Bucket, Client
    from peer import PeerConnection

SHARD = [("in/x", b"member x"), ("y", b"y" * 100_000), ("empty", b"")]
OBJECTS = {
    "small": b"alpha",
    "dir/of a file": b"beta" * 5000,
    "large": bytes(range(256)) * 8000,
    "empty": b"",
    "caf\u00e9": b"name",
    "n/" * 60 + "long": b"two headers",
    "s.tar": tar(SHARD),
    "s.tgz": packed(".tgz", SHARD),
    "s.zip": packed(".zip", SHARD),
    "bad.tar": b"no archive" * 100,
}
WANTED: list[tuple[str, dict[str, Any], bytes]] = [
    ("large", {}, OBJECTS["large"]),
    ("small", {}, b"alpha"),
    ("s.tgz", {"archpath": "y"}, b"y" * 100_000),
    ("empty", {}, b""),
    ("s.tar", {"archpath": "in/x"}, b"member x"),
    ("small", {"start": 1, "length": 3}, b"lph"),
    ("s.zip", {"archpath": "y", "start": 99_990, "length": -1}, b"y" * 10),
    ("caf\u00e9", {"opaque": b"\x00\xff mine"}, b"name"),
    ("n/" * 60 + "long", {}, b"two headers"),
    ("s.zip", {"archpath": "empty"}, b""),
    ("dir/of a file", {}, OBJECTS["dir/of a file"]),
    ("small", {}, b"alpha"),
    ("s.tar", {"archpath": "y"}, b"y" * 100_000),
]


def fill(bucket: Bucket) -> Bucket:
    for name, content in OBJECTS.items():
        bucket.object(name).get_writer().put_content(content)
    return bucket


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("form", [".tar", ".tgz", ".tar.gz", ".zip"])
def test_entries_come_in_order(client: Client, bucket: Bucket, form: str, streaming: bool) -> None:
    fill(bucket)
    batch = client.batch(bucket=bucket, output_format=form, streaming_get=streaming)
    for name, more, _ in WANTED:
        batch.add(name, **more)
    got = list(batch.get(clear_batch=False))
    assert [(info.obj_name, info.archpath or "", content) for info, content in got] == [
        (name, more.get("archpath", ""), content) for name, more, content in WANTED
    ]
    assert [info.size for info, _ in got] == [len(content) for _, _, content in WANTED]
    assert not any(info.err_msg for info, _ in got)
    assert [info.opaque for info, _ in got if info.opaque] == [b"\x00\xff mine"]
    assert len(batch.requests_list) == len(WANTED)
    list(batch.get())
    assert batch.requests_list == []


def test_several_targets_answer_as_one(cluster3: LocalCluster) -> None:
    with cluster3.client() as client:
        bucket = fill(client.bucket("batched-by-three").create(exist_ok=True))
        for streaming in (True, False):
            batch = client.batch(bucket=bucket, streaming_get=streaming)
            for name, more, _ in WANTED:
                batch.add(name, **more)
            batch.add("none")
            got = list(batch.get())
            assert [content for _, content in got] == [*(content for _, _, content in WANTED), b""]
            assert got[-1][0].err_msg
            with pytest.raises((BatchIncomplete, AISError), match="none"):
                list(client.batch(["small", "none"], bucket, cont_on_err=False, streaming_get=streaming).get())
            with pytest.raises((BatchIncomplete, AISError), match="satisfiable"):
                list(client.batch(bucket=bucket, streaming_get=streaming).add("small", start=3, length=9).get())


@pytest.mark.parametrize("streaming", [True, False])
def test_missing_entries_say_so(client: Client, bucket: Bucket, streaming: bool) -> None:
    fill(bucket)
    batch = client.batch(["small", "none", "empty"], bucket=bucket, streaming_get=streaming).add("s.tar", archpath="no")
    got = list(batch.get())
    assert [(info.obj_name, bool(info.err_msg), content) for info, content in got] == [
        ("small", False, b"alpha"),
        ("none", True, b""),
        ("empty", False, b""),
        ("s.tar", True, b""),
    ]


def test_a_missing_entry_that_is_an_error_is_named(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    got = []
    with pytest.raises(BatchIncomplete, match="does not exist") as caught:
        for _, content in client.batch(["small", "empty", "none", "large"], bucket=bucket, cont_on_err=False).get():
            got.append(content)
    assert got == [b"alpha", b""]
    assert caught.value.entries == [f"{bucket.name}/none", f"{bucket.name}/large"]
    for streaming in (True, False):
        with pytest.raises(AISError, match="none does not exist"):
            client.batch(["none", "small"], bucket=bucket, cont_on_err=False, streaming_get=streaming).get()


def test_more_missing_entries_than_the_server_allows_in_one_request(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    names = [*(f"none-{i}" for i in range(40)), "small"]
    got = list(client.batch(names, bucket=bucket).get())
    assert [(info.obj_name, bool(info.err_msg)) for info, _ in got] == [(name, name != "small") for name in names]
    with pytest.raises(AISError, match="soft-errors"):
        client.batch(names, bucket=bucket, streaming_get=False).get()


@pytest.mark.parametrize("name", ["bad.tar", "small"])
def test_what_is_no_archive_is_an_error(client: Client, bucket: Bucket, name: str) -> None:
    fill(bucket)
    batch = client.batch(["small"], bucket=bucket).add(name, archpath="in/x").add("empty")
    items = batch.get()
    assert next(items)[1] == b"alpha"
    with pytest.raises(BatchIncomplete) as caught:
        next(items)
    assert caught.value.entries == [f"{bucket.name}/{name}/in/x", f"{bucket.name}/empty"]


def test_a_batch_of_no_bucket_has_objects_of_several(client: Client, bucket: Bucket) -> None:
    other = client.bucket(f"{bucket.name}-other").create()
    try:
        bucket.object("x").get_writer().put_content(b"one")
        other.object("x").get_writer().put_content(b"two")
        batch = client.batch().add(bucket.object("x")).add(other.object("x")).add("x", bck=bucket.name, provider="ais")
        got = list(batch.get())
        assert [(info.bucket, content) for info, content in got] == [
            (bucket.name, b"one"),
            (other.name, b"two"),
            (bucket.name, b"one"),
        ]
    finally:
        other.delete()


def test_what_cannot_be_asked_for(client: Client, bucket: Bucket) -> None:
    batch = client.batch(bucket=bucket)
    for wrong in (
        {"start": -1, "length": 1},
        {"start": 1},
        {"length": -2},
        {"bck": "b"},
        {"provider": "ais"},
    ):
        with pytest.raises(ValueError, match=r"start|together"):
            batch.add("x", **wrong)
    with pytest.raises(ValueError, match="Bucket must be provided"):
        client.batch().add("x")
    makers: tuple[Callable[..., object], ...] = (client.batch, AsyncClient(client._client.endpoint).batch)
    for made in makers:
        with pytest.raises(TypeError, match=r"'b' is no bucket: give client\.bucket\('b'\)"):
            made("x", bucket="b")
    with pytest.raises(ValueError, match="No objects"):
        batch.get()
    batch.add("x")
    sizes: tuple[Any, ...] = (0, -1, True, 1.5)
    for size in sizes:
        with pytest.raises(ValueError, match="tar_buffer_size"):
            batch.get(tar_buffer_size=size)
    with pytest.raises(ValueError, match="tar_buffer_size"):
        batch.get(raw=True, tar_buffer_size=4096)
    with pytest.raises(AISError, match="x does not exist"):
        client.batch("x", bucket=bucket, cont_on_err=False).get(tar_buffer_size=4096)
    assert len(batch.requests_list) == 1


# -- answers that break off --


def archive(contents: list[tuple[str, bytes]]) -> bytes:
    return tar([(f"b/{name}", content) for name, content in contents])


CONTENTS = [(f"o-{i}", bytes([i]) * (i * 700)) for i in range(8)]
NAMES = [name for name, _ in CONTENTS]


def answering_parts(*cuts: int, well_formed: bool) -> tuple[list[list[str]], Callable[[PeerConnection], None]]:
    """A server that breaks its n-th answer off after so many entries (and something of the next), and what it was asked for."""
    asked: list[list[str]] = []

    def script(connection: PeerConnection) -> None:
        while True:
            names = [entry["objname"] for entry in json.loads(connection.request().body)["in"]]
            asked.append(names)
            wanted = [pair for pair in CONTENTS if pair[0] in names]
            cut = cuts[len(asked) - 1] if len(asked) <= len(cuts) else len(wanted)
            if well_formed or cut == len(wanted):
                connection.answer(200, archive(wanted[:cut]))
                continue
            data = archive(wanted)[: len(archive(wanted[:cut]).rstrip(b"\0")) // 512 * 512 + 1024 + 100]
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(data), data))
            connection.close()
            return

    return asked, script


@pytest.mark.parametrize("well_formed", [True, False])
def test_what_a_broken_answer_kept_back_is_asked_for_again(well_formed: bool) -> None:
    asked, script = answering_parts(3, 0, 2, well_formed=well_formed)
    with Peer(script) as peer:
        client = client_of(peer)
        got = list(client.batch(NAMES, bucket=client.bucket("b")).get())
    assert [(info.obj_name, content) for info, content in got] == CONTENTS
    assert all(names == NAMES[-len(names) :] for names in asked)
    assert len(asked) >= 3


def test_a_server_that_brings_nothing_is_given_up() -> None:
    asked, script = answering_parts(2, 0, 0, 0, 0, 0, well_formed=True)
    with Peer(script) as peer:
        client = client_of(peer)
        items = client.batch(NAMES, bucket=client.bucket("b")).get()
        assert [next(items)[0].obj_name for _ in range(2)] == NAMES[:2]
        with pytest.raises(BatchIncomplete) as caught:
            next(items)
    assert caught.value.entries == [f"b/{name}" for name in NAMES[2:]]
    assert caught.value.delivered == 2
    assert len(asked) == 4


def test_samples_are_never_mixed_up() -> None:
    def script(connection: PeerConnection) -> None:
        while True:
            connection.request()
            connection.answer(200, archive([CONTENTS[1], CONTENTS[0]]))

    with Peer(script) as peer:
        client = client_of(peer)
        with pytest.raises(RuntimeError, match="o-1"):
            list(client.batch(NAMES[:2], bucket=client.bucket("b")).get())
        with pytest.raises(RuntimeError, match="has more"):
            list(client.batch(NAMES[1:2], bucket=client.bucket("b")).get())
        with pytest.raises(MultipartDecodeError):
            client.batch(NAMES[:2], bucket=client.bucket("b"), streaming_get=False).get()


def test_answers_that_lose_data_are_refused() -> None:
    answers = [
        tar([("__404__/b/o-2", b"")]),  # another entry is missing
        tar([("b/o-1", b"")]),  # a range that cannot be had
        tar([("__404__/b/o-1", b"1")]),
    ]

    def script(connection: PeerConnection) -> None:
        while True:
            number = json.loads(connection.request().body)["in"][0]["start"]
            connection.answer(200, answers[number])

    with Peer(script) as peer:
        client = client_of(peer)
        for number in range(len(answers)):
            batch = client.batch(bucket=client.bucket("b")).add("o-1", start=number, length=7)
            with pytest.raises(RuntimeError, match="o-1"):
                list(batch.get())


def test_an_empty_object_with_the_name_of_a_missing_one(client: Client, bucket: Bucket) -> None:
    bucket.object("__404__/x").get_writer().put_content(b"")
    for streaming in (True, False):
        names = ["__404__/x", "__404__/y"]
        got = list(client.batch(names, bucket, only_obj_name=True, streaming_get=streaming).get())
        assert [(info.obj_name, bool(info.err_msg)) for info, _ in got] == [(names[0], False), (names[1], True)]


def test_a_damaged_archive_is_an_error() -> None:
    def script(connection: PeerConnection) -> None:
        while True:
            connection.request()
            connection.answer(200, b"x" * 4096)

    with Peer(script) as peer:
        client = client_of(peer)
        for form in (".tar", ".tgz"):
            with pytest.raises(RuntimeError, match="Failed to read tar"):
                list(client.batch(NAMES, bucket=client.bucket("b"), output_format=form).get())
        with pytest.raises(BatchIncomplete, match="zip"):
            list(client.batch(NAMES, bucket=client.bucket("b"), output_format=".zip").get())


def test_raw_answers_are_what_the_server_sent(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    raw = client.batch(["small", "empty"], bucket=bucket, only_obj_name=True).get(raw=True)
    with tarfile.open(fileobj=io.BytesIO(raw.read())) as found:
        assert found.getnames() == ["small", "empty"]
    raw = client.batch(["small"], bucket=bucket, streaming_get=False).get(raw=True)
    assert b'name="metadata"' in raw.read()


@pytest.mark.parametrize("form", ["sized", "chunked"])
@pytest.mark.parametrize("how", ["read", "read1", "readinto", "readline", "peek"])
def test_a_raw_answer_that_breaks_off_gives_all_that_came_and_then_raises(form: str, how: str) -> None:
    sent = bytes(range(97, 123)) * 5000  # more than is buffered, and no multiple of it

    def script(connection: PeerConnection) -> None:
        connection.request()
        if form == "sized":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + sent)
        else:
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % 1_000_000 + sent)
        connection.close()

    def next_of(raw: Any) -> bytes:
        if how == "readinto":
            buffer = bytearray(100_000)
            return bytes(buffer[: raw.readinto(buffer)])
        if how == "peek":
            found = raw.peek()
            assert raw.read(len(found)) == found
            return bytes(found)
        return bytes(getattr(raw, how)(100_000))

    with Peer(script) as peer:
        client = client_of(peer)
        raw = client.batch(["a"], bucket=client.bucket("b")).get(raw=True)
        got = b""
        with pytest.raises(TransportError):
            while piece := next_of(raw):
                got += piece
        assert got == sent
        with pytest.raises(TransportError):
            raw.read(1)
        with pytest.raises(TransportError):
            raw.read()
        assert raw.read(0) == b""
        raw.close()
        raw = client.batch(["a"], bucket=client.bucket("b")).get(raw=True)
        with pytest.raises(TransportError):
            raw.read()
        raw.close()
