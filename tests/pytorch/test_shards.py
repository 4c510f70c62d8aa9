"""Shards: their samples, formats and damages."""

from __future__ import annotations

import copy
import gzip
import io
import pickle
import random
import tarfile
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

import lz4.frame
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test-torch installs it, and runs this")

from torch.utils.data import DataLoader, default_collate

from aistore.pytorch import AISMultiShardStream, AISShardReader, SampleNotFound, ShardError, _shards
from aistore.sdk import DataShard
from archives import EXTENSIONS, packed, tar, zipped
from loading import as_list, content_of, fill_shards, flat, until_error

if TYPE_CHECKING:
    from aistore.sdk import Bucket, Client

MEMBERS = [("d/a.jpg", b"1"), ("d/a.cls", b"2"), ("d/b.jpg", b"3" * 100_000), ("d/b.cls", b"")]
WANTED = [("a", {"jpg": b"1", "cls": b"2"}), ("b", {"jpg": b"3" * 100_000, "cls": b""})]


def put(bucket: Bucket, name: str, content: bytes) -> None:
    bucket.object(name).get_writer().put_content(content)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_samples_of_each_format(extension: str, bucket: Bucket) -> None:
    fill_shards(bucket, extension=extension)
    got = [(name, dict(sample.items())) for name, sample in AISShardReader(bucket)]
    assert got == [(f"{n:04}", {"cls": b"%d" % n, "txt": content_of(n)}) for n in range(42)]
    assert len(AISShardReader(bucket)) == 42


def test_members_of_other_samples_are_never_mixed_in(bucket: Bucket) -> None:
    members = [
        ("x/a.jpg", b"1"),
        ("y/a.jpg", b"2"),
        ("b.seg.png", b"3"),
        ("b.png", b"4"),
        ("plain", b"5"),
        (".hid", b"6"),
    ]
    put(bucket, "s.tar", tar(members))
    got = [(name, dict(dict.items(sample))) for name, sample in AISShardReader(bucket)]
    assert got == [
        ("a", {"jpg": b"1"}),
        ("a", {"jpg": b"2"}),
        ("b", {"seg.png": b"3", "png": b"4"}),
        ("plain", {"": b"5"}),
        ("", {"hid": b"6"}),
    ]


def test_missing_members_are_empty_so_that_batches_collate(bucket: Bucket) -> None:
    put(bucket, "s.tar", tar([("a.jpg", b"1"), ("b.cls", b"2"), ("c.jpg", b"3"), ("c.cls", b"4")]))
    ((names, members),) = DataLoader(AISShardReader(bucket), batch_size=3)
    assert names == ("a", "b", "c")
    assert members == {"jpg": [b"1", b"", b"3"], "cls": [b"", b"2", b"4"]}
    reader = AISShardReader(bucket)
    first, *_ = [sample for _, sample in reader]
    assert (first["cls"], first.get("cls"), first.get("none"), first.get("none", b"-"), len(first)) == (
        b"",
        b"",
        None,
        b"-",
        2,
    )
    assert list(first) == list(first.keys()) == ["jpg", "cls"]
    assert (list(first.values()), "cls" in first, "none" in first) == ([b"1", b""], True, False)
    assert first == {"jpg": b"1", "cls": b""} == pickle.loads(pickle.dumps(first)) == copy.copy(first) == dict(first)
    assert first != {"jpg": b"1"}
    assert repr(first) == "{'jpg': b'1', 'cls': b''}"
    with pytest.raises(KeyError):
        first["none"]
    assert default_collate([first, first]) == {"jpg": [b"1", b"1"], "cls": [b"", b""]}


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_shard_cut_anywhere_is_an_error(extension: str, bucket: Bucket) -> None:
    whole = packed(extension, MEMBERS)
    put(bucket, "s", whole)
    assert [(name, dict(sample)) for name, sample in AISShardReader(bucket)] == WANTED
    places = sorted({0, 1, 7, 511, 512, 1024, 2048, len(whole) // 2, len(whole) - 30} & set(range(len(whole))))
    if extension == ".tar":  # what is behind its end is padding
        places = [place for place in places if place <= 104_000]
    for place in places:
        put(bucket, "s", whole[:place])
        got: list[tuple[str, dict[str, bytes]]] = []
        with pytest.raises(ShardError, match="/s: the shard is"):
            got += AISShardReader(bucket)
        assert [(name, dict.copy(sample)) for name, sample in got] == WANTED[: len(got)]


@pytest.mark.parametrize("extension", [".tgz", ".tar.lz4", ".zip"])
def test_damaged_bytes_are_noticed(extension: str, bucket: Bucket) -> None:
    chance = random.Random(7)
    content = chance.randbytes(50_000)
    whole = packed(extension, [("a.bin", content), ("b.bin", content)])
    for _ in range(20):
        damaged = bytearray(whole)
        damaged[chance.randrange(12, len(whole) - 12)] ^= 1 + chance.randrange(255)
        put(bucket, "s", bytes(damaged))
        try:
            got = [dict(sample) for _, sample in AISShardReader(bucket)]
        except ShardError:
            continue
        if extension == ".zip":  # not every byte of a directory matters
            assert got == [{"bin": content}] * 2
        else:  # LZ4 frames have no checksum of their content here
            assert extension == ".tar.lz4"


@pytest.mark.parametrize(
    "whole",
    [packed(extension, MEMBERS[:2]) for extension in EXTENSIONS]
    + [zipped(MEMBERS[:2], method) for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)],
)
def test_whatever_bytes_are_damaged_the_error_is_one(whole: bytes) -> None:
    chance = random.Random(3)
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with suppress(ShardError):
            list(_shards.samples_of(_shards.members_of(io.BytesIO(damaged[: chance.randrange(len(damaged))]))))
            list(_shards.samples_of(_shards.members_of(io.BytesIO(damaged))))


def test_headers_that_are_damaged_are_noticed() -> None:
    whole = tar([("a.jpg", b"1"), ("a.cls", b"2")], tarfile.USTAR_FORMAT)
    for place in (0, 3, 124, 130, 148, 156, 1024, 1030):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        with pytest.raises(ShardError, match="the shard is damaged"):
            list(_shards.members_of(io.BytesIO(damaged)))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_links_are_not_left_out_in_silence(kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = kind, "a.jpg"
        archive.addfile(link)
    with pytest.raises(ShardError, match="a member is a link, or special"):
        list(_shards.members_of(io.BytesIO(out.getvalue())))


def test_what_is_no_shard(bucket: Bucket) -> None:
    put(bucket, "readme.txt", b"hello " * 1000)
    with pytest.raises(tarfile.TarError, match=r"readme.txt: the shard is damaged, or is none: .* prefix_map chooses"):
        list(AISShardReader(bucket))
    assert "readme.txt" in str(until_error(DataLoader(AISShardReader(bucket), num_workers=1), ShardError)[1])


def test_samples_that_are_split_or_doubled_are_refused(bucket: Bucket) -> None:
    put(bucket, "s.tar", tar([("a.jpg", b"1"), ("b.jpg", b"2"), ("a.cls", b"3")]))
    with pytest.raises(ShardError, match="lie apart"):
        list(AISShardReader(bucket))
    put(bucket, "s.tar", tar([("a.jpg", b"1"), ("a.jpg", b"2")]))
    with pytest.raises(ShardError, match="twice"):
        list(AISShardReader(bucket))


def test_bombs_are_refused_within_bounded_memory(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shards, "_SAMPLE_MAX", 4 << 20)
    for members in ([("a.bin", bytes(64 << 20))], [(f"a.{number}", bytes(1 << 20)) for number in range(64)]):
        bomb = tar(members)
        for content in (gzip.compress(bomb), lz4.frame.compress(bomb), packed(".zip", members)):
            put(bucket, "s", content)
            with pytest.raises(ShardError, match="more than 4194304 bytes"):
                list(iter(AISShardReader(bucket)))
    apart = [(f"{number}.bin", bytes(1 << 20)) for number in range(64)]
    for content in (gzip.compress(tar(apart)), packed(".zip", apart)):
        put(bucket, "s", content)
        assert len(list(iter(AISShardReader(bucket)))) == 64


def test_compressed_streams_one_behind_the_other(bucket: Bucket) -> None:
    whole = tar(MEMBERS)
    for pack in (gzip.compress, lz4.frame.compress):
        put(bucket, "s", pack(whole[:700]) + pack(whole[700:]))
        assert [dict(sample) for _, sample in AISShardReader(bucket)] == [sample for _, sample in WANTED]
    put(bucket, "s", gzip.compress(whole) + bytes(512))
    assert len(list(AISShardReader(bucket))) == 2


def test_a_shard_that_is_gone(bucket: Bucket) -> None:
    fill_shards(bucket)
    reader = AISShardReader(bucket)
    bucket.object("03.tar").delete()
    got: list[tuple[str, dict[str, bytes]]] = []
    with pytest.raises(SampleNotFound, match=r"03\.tar"):
        got += reader
    assert [name for name, _ in got] == [f"{n:04}" for n in range(18)]


def streams(client: Client, bucket: Bucket, *prefixes: str) -> AISMultiShardStream:
    return AISMultiShardStream([DataShard(client._client.endpoint, bucket.name, prefix=one) for one in prefixes])


def test_streams_side_by_side(client: Client, bucket: Bucket) -> None:
    put(bucket, "a-0.tar", tar([("1.jpg", b"a1"), ("2.jpg", b"a2")]))
    put(bucket, "a-1.zip", packed(".zip", [("3.jpg", b"a3")]))
    put(bucket, "b.tgz", packed(".tgz", [("1.cls", b"b1"), ("2.cls", b"b2"), ("3.cls", b"b3")]))
    assert list(streams(client, bucket, "a-", "b")) == [(b"a1", b"b1"), (b"a2", b"b2"), (b"a3", b"b3")]
    assert list(streams(client, bucket, "a-1")) == [(b"a3",)]
    assert list(streams(client, bucket, "none")) == list(AISMultiShardStream([])) == []


def test_streams_that_differ_in_length_say_so(client: Client, bucket: Bucket) -> None:
    put(bucket, "a.tar", tar([("1", b"a1"), ("2", b"a2")]))
    put(bucket, "b.tar", tar([("1", b"b1")]))
    with pytest.warns(RuntimeWarning, match="the shortest has 1 members"):
        assert list(streams(client, bucket, "a", "b")) == [(b"a1", b"b1")]


def test_a_damaged_shard_of_a_stream_is_not_an_empty_one(client: Client, bucket: Bucket) -> None:
    put(bucket, "a.tar", tar([("1", b"a1" * 2000)])[:1500])
    put(bucket, "b.tar", tar([("1", b"b1")]))
    with pytest.raises(ShardError, match=r"a\.tar: the shard is"):
        list(streams(client, bucket, "a", "b"))
    put(bucket, "a.tar", tar([]))
    put(bucket, "b.tar", tar([]))
    assert list(streams(client, bucket, "a", "b")) == []


def test_the_length_is_that_of_the_shards_of_this_rank_in_this_epoch(bucket: Bucket) -> None:
    for shard in range(6):
        put(bucket, f"{shard}.tar", tar([(f"{shard}{n}.txt", b"x") for n in range(1 << shard)]))
    for ranks in ([0, 1], [1, 0]):
        datasets = [AISShardReader(bucket, shuffle=True, rank=rank, world_size=2) for rank in ranks]
        lengths = set()
        for epoch in range(4):
            for dataset in datasets:
                dataset.set_epoch(epoch)
                assert len(dataset) == sum(1 for _ in dataset)
            assert sum(map(len, datasets)) == 63
            lengths.add(len(datasets[0]))
        assert len(lengths) > 1


def test_shards_are_shuffled_whole(bucket: Bucket) -> None:
    fill_shards(bucket)
    reader = AISShardReader(bucket, shuffle=True, seed=3)
    orders = []
    for epoch in range(2):
        reader.set_epoch(epoch)
        orders.append([name for name, _ in flat(DataLoader(reader, batch_size=6, collate_fn=as_list))])
    assert orders[0] != orders[1]
    shards = [orders[0][at : at + 6] for at in range(0, 42, 6)]
    assert sorted(shards) == [[f"{n:04}" for n in range(at, at + 6)] for at in range(0, 42, 6)]
