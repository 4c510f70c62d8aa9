"""What datasets are made of, and what they refuse."""

from __future__ import annotations

import logging
import pickle
import re
from itertools import chain
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test-torch installs it, and runs this")

from torch.utils.data import DataLoader

from aistore import Client, LocalCluster
from aistore.pytorch import (
    AISBaseIterDataset,
    AISBaseMapDataset,
    AISBatchIterDataset,
    AISIterDataset,
    AISMapDataset,
    AISParallelMapDataset,
    AISShardReader,
    DynamicBatchSampler,
    SampleNotFound,
)
from aistore.sdk.ais_source import AISSource
from aistore.sdk.batch.batch import Batch
from aistore.sdk.enums import Colocation
from aistore.sdk.errors import AISError, ErrBckNotFound, ErrObjNotFound
from archives import tar
from loading import COUNT, as_list, content_of, fill, flat, until_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from aistore.sdk import Bucket
    from aistore.sdk.obj.object import Object
    from aistore.sdk.request_client import RequestClient


def test_samples_by_index(bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISMapDataset(bucket)
    assert len(dataset) == COUNT
    assert dataset[3] == (names[3], content_of(3))
    assert dataset[-1] == (names[-1], content_of(COUNT - 1))
    assert dataset.__getitems__([5, 0, 5, -1]) == [dataset[5], dataset[0], dataset[5], dataset[COUNT - 1]]
    assert [len(content) for _, content in dataset.__getitems__([*range(COUNT)] * 300)] == [
        len(content_of(number)) for number in range(COUNT)
    ] * 300
    for outside in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError, match="in bounds"):
            dataset[outside]
        with pytest.raises(IndexError):
            dataset.__getitems__([0, outside])
    objects = dataset.get_obj_list()
    assert [one.name for one in objects] == names
    assert objects is dataset.get_obj_list()
    assert (objects[2].props_cached or pytest.fail("no size")).size == len(content_of(2))


def test_prefixes_choose_and_never_double(bucket: Bucket) -> None:
    fill(bucket)
    names = [one.name for one in AISMapDataset(bucket, {bucket: ["001", "0012", "003"]}).get_obj_list()]
    assert names == [f"{n:04}.txt" for n in (*range(10, 20), *range(30, 40))]
    assert len(AISIterDataset(bucket, {bucket: "000"})) == 10
    assert len(AISMapDataset(bucket, {bucket: []})) == 0
    group = bucket.objects(obj_names=["0001.txt", "0011.txt"])
    assert [name for name, _ in AISIterDataset([group, bucket], {bucket: "000", group: "001"})] == [
        "0011.txt",
        *(f"{n:04}.txt" for n in range(10)),
    ]


def test_sources_without_objects_are_told(client: Client, bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    assert len(AISMapDataset(bucket)) == 0
    fill(bucket)
    assert len(AISIterDataset(bucket, {bucket: ["000", "zzz"]})) == 10
    assert [record.getMessage() for record in caplog.records] == [
        f"{bucket!r} has no objects: a dataset has no samples of it",
        f"{bucket!r} has no objects whose names begin with 'zzz': a dataset has no samples of it",
    ]


def test_no_prefix_is_every_object(bucket: Bucket) -> None:
    fill(bucket)
    assert len(AISMapDataset(bucket, {bucket: None})) == len(AISMapDataset(bucket, {bucket: ""})) == COUNT


def test_what_is_refused(client: Client, bucket: Bucket) -> None:
    for made in (AISMapDataset, AISParallelMapDataset):
        with pytest.raises(ValueError, match="ais_source_list must be provided"):
            made()
    with pytest.raises(ValueError, match="must be provided"):
        AISIterDataset([])
    for source in ("bucket", ["bucket"], client, bucket.object("x")):
        shown = source[0] if isinstance(source, list) else source
        with pytest.raises(TypeError, match=re.escape(f"<AISMapDataset> {shown!r} is no source: give a bucket")):
            AISMapDataset(source)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="not in ais_source_list: its keys are the very objects of that list"):
        AISMapDataset(bucket, {client.bucket(bucket.name): "a"})
    with pytest.raises(TypeError, match=r"prefix_map '00' is no mapping: give {bucket: '00'}"):
        AISMapDataset(bucket, "00")  # type: ignore[arg-type]  # the mistake
    for prefix in (5, [b"0"]):
        with pytest.raises(TypeError, match="is no prefix, and no list of prefixes"):
            AISMapDataset(bucket, {bucket: prefix})  # type: ignore[dict-item]  # the mistake
    for index in ("0", slice(2), None):
        with pytest.raises(TypeError, match="is no index"):
            AISMapDataset(bucket)[index]  # type: ignore[index]  # the mistake
    with pytest.raises(ErrBckNotFound):
        AISMapDataset(client.bucket("nowhere"))
    with pytest.raises(ValueError, match="max_batch_size"):
        AISBatchIterDataset(bucket, client, max_batch_size=0)
    with pytest.raises(ValueError, match="num_workers"):
        AISParallelMapDataset(bucket, num_workers=0)
    for base in (AISBaseMapDataset, AISBaseIterDataset):
        with pytest.raises(TypeError, match="abstract"):
            base(bucket)


@pytest.mark.parametrize("output_format", [".tar", ".tgz", ".zip"])
@pytest.mark.parametrize("streaming", [True, False])
def test_batches_as_asked_for(output_format: str, streaming: bool, client: Client, bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISBatchIterDataset(bucket, client, {}, False, 7, output_format, streaming, Colocation.TARGET_AWARE)
    assert list(dataset) == list(dataset) == [(name, content_of(number)) for number, name in enumerate(names)]


def test_the_next_batch_is_requested_when_this_one_arrives(
    client: Client, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket)
    asked = []
    get = Batch.get

    def counted(batch: Batch) -> Iterator[object]:
        asked.append(len(batch))
        return iter(get(batch))

    monkeypatch.setattr(Batch, "get", counted)
    samples = iter(AISBatchIterDataset(bucket, client, max_batch_size=3))
    assert asked == []
    seen = [(next(samples)[0], len(asked)) for _ in range(5)]
    assert seen == [("0000.txt", 2), ("0001.txt", 2), ("0002.txt", 2), ("0003.txt", 3), ("0004.txt", 3)]


def test_names_and_contents_of_any_kind(bucket: Bucket) -> None:
    wanted = {"": b"x", "ä/你.txt": b"", "a b#c?%41": b"1", "n" * 200 + "/" + "m" * 200: b"long", "__404__/x": b"there"}
    wanted.pop("")
    for name, content in wanted.items():
        bucket.object(name).get_writer().put_content(content)
    for dataset in (AISMapDataset(bucket), AISIterDataset(bucket)):
        assert dict(flat(DataLoader(dataset, batch_size=3, collate_fn=as_list))) == wanted  # type: ignore[arg-type]  # pairs


def test_an_object_that_is_gone_raises_the_same_in_workers(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    for dataset in (AISMapDataset(bucket), AISParallelMapDataset(bucket, num_workers=2), AISIterDataset(bucket)):
        bucket.object("0013.txt").delete()
        for workers in (0, 2):
            loader = DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=as_list)
            got, error = until_error(loader, SampleNotFound)
            assert "object '0013.txt' is not in bucket" in str(error)
            assert isinstance(error, ErrObjNotFound)
            assert isinstance(error, FileNotFoundError)
            assert "0013.txt" not in [name for name, _ in got]
        bucket.object("0013.txt").get_writer().put_content(content_of(13))
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), copied.status_code) == (SampleNotFound, str(error), 404)


def test_objects_that_are_gone_are_left_out_as_asked(
    client: Client, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    names = fill(bucket)
    dataset = AISBatchIterDataset(bucket, client, max_batch_size=5, cont_on_err=True)
    for gone in ("0000.txt", "0013.txt", "0040.txt"):
        bucket.object(gone).delete()
        names.remove(gone)
    with caplog.at_level(logging.WARNING, "aistore.pytorch"):
        assert [name for name, _ in dataset] == names
    assert [record.getMessage().count("is not in bucket") for record in caplog.records] == [1, 1, 1]


def test_a_bucket_that_is_gone(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISIterDataset(bucket)
    bucket.delete()
    with pytest.raises(ErrBckNotFound):
        list(dataset)


def test_sources_of_several_clusters(bucket: Bucket, tmp_path: Path) -> None:
    names = fill(bucket)
    with LocalCluster(tmp_path / "other", durability="relaxed") as other, other.client() as client:
        more = client.bucket("more").create()
        for number in range(10):
            more.object(f"m{number}").get_writer().put_content(b"%d" % number)
        dataset = AISMapDataset([more, bucket])
        assert dataset.__getitems__([11, 0, 9, 10]) == [dataset[11], ("m0", b"0"), ("m9", b"9"), dataset[10]]
        here, there = bucket.object("both"), client.bucket(bucket.name).create().object("both")
        for one, content in ((here, b"here"), (there, b"there")):
            one.get_writer().put_content(content)
        groups = [one.objects(obj_names=["both"]) for one in (bucket, client.bucket(bucket.name))]
        assert list(iter(AISBatchIterDataset(groups, client))) == [("both", b"here"), ("both", b"there")]
        here.delete()
        shuffled = AISIterDataset([more, bucket], shuffle=True)
        assert sorted(name for name, _ in shuffled) == sorted([*names, *(f"m{number}" for number in range(10))])


class Own(AISSource):
    """A source as users may write one."""

    def __init__(self, *buckets: Bucket) -> None:
        self._buckets = buckets

    @property
    def client(self) -> RequestClient:
        return self._buckets[0].client

    def list_all_objects_iter(self, prefix: str = "", props: str = "name,size") -> Iterator[Object]:
        for bucket in self._buckets:
            yield from bucket.list_all_objects_iter(prefix, props)

    def list_urls(self, prefix: str = "", etl: object = None) -> Iterable[str]:
        for bucket in self._buckets:
            yield from bucket.list_urls(prefix)


def test_sources_of_ones_own(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    other = client.bucket(f"{bucket.name}-2").create()
    try:
        other.object("0000.txt").get_writer().put_content(b"other")
        source = Own(bucket, other)
        dataset = AISMapDataset(source, {source: "0000"})
        assert dataset.__getitems__([1, 0]) == [("0000.txt", b"other"), ("0000.txt", content_of(0))]
        assert [name for name, _ in AISIterDataset(source)] == [f"{n:04}.txt" for n in range(COUNT)] + ["0000.txt"]
    finally:
        other.delete()


def test_datasets_of_ones_own(bucket: Bucket) -> None:
    fill(bucket)

    class Names(AISBaseMapDataset[str]):
        def __getitem__(self, index: int) -> str:
            return self.get_obj_list()[index].name

    class Words(AISBaseIterDataset[str]):
        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

    assert next(iter(DataLoader(Names(bucket), batch_size=3))) == ["0000.txt", "0001.txt", "0002.txt"]
    assert (list(Words(bucket)), len(Words(bucket))) == (["a", "b"], COUNT)


def test_subclasses_decode_samples_of_batches_too(bucket: Bucket) -> None:
    class Sizes(AISMapDataset):
        def __getitem__(self, index: int) -> tuple[str, bytes]:
            name, content = super().__getitem__(index)
            return name, b"%d" % len(content)

    names = fill(bucket)
    wanted = [(name, b"%d" % len(content_of(number))) for number, name in enumerate(names)]
    dataset = Sizes(bucket)
    assert dataset[3] == wanted[3]
    assert list(flat(DataLoader(dataset, batch_size=8, collate_fn=as_list))) == wanted


def test_progress_is_shown(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    fill(bucket)
    assert len(list(AISIterDataset(bucket, show_progress=True))) == COUNT
    assert f"{COUNT}/{COUNT}" in capsys.readouterr().err


def sizes_of(dataset: AISMapDataset, batches: Iterable[list[int]]) -> list[int]:
    return [sum(len(dataset[at][1]) for at in batch) for batch in batches]


def test_dynamic_batches_fill_up_and_never_overflow(bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISMapDataset(bucket)
    sampler = DynamicBatchSampler(dataset, 2000)
    batches = list(sampler)
    assert [*chain.from_iterable(batches)] == list(range(COUNT))
    sizes = sizes_of(dataset, batches)
    assert max(sizes) <= 2000
    assert all(size + len(dataset[after[0]][1]) > 2000 for size, after in zip(sizes, batches[1:], strict=False))
    assert len(sampler) == len(batches)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=2, collate_fn=as_list)
    assert [len(batch) for batch in loader] == [len(batch) for batch in batches]


def test_dynamic_batches_of_samples_that_are_too_large(bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    fill(bucket)
    dataset = AISMapDataset(bucket)
    fitting = [at for at in range(COUNT) if len(content_of(at)) <= 500]
    with caplog.at_level(logging.WARNING, "aistore.pytorch"):
        assert [*chain.from_iterable(DynamicBatchSampler(dataset, 500))] == fitting
    assert len(caplog.records) == COUNT - len(fitting)
    alone = list(DynamicBatchSampler(dataset, 500, allow_oversized_samples=True))
    assert sorted([*chain.from_iterable(alone)]) == list(range(COUNT))
    assert all(len(batch) == 1 for batch in alone if batch[0] not in fitting)


def test_the_last_dynamic_batch(bucket: Bucket) -> None:
    for number in range(5):
        bucket.object(str(number)).get_writer().put_content(bytes(100))
    dataset = AISMapDataset(bucket)
    assert list(DynamicBatchSampler(dataset, 200)) == [[0, 1], [2, 3], [4]]
    assert list(DynamicBatchSampler(dataset, 200, True)) == [[0, 1], [2, 3]]
    assert list(DynamicBatchSampler(dataset, 200, True, saturation_factor=0.5)) == [[0, 1], [2, 3], [4]]
    for factor in (-0.1, 1.1):
        with pytest.raises(ValueError, match="saturation_factor"):
            DynamicBatchSampler(dataset, 200, saturation_factor=factor)
    with pytest.raises(ValueError, match="max_batch_size"):
        DynamicBatchSampler(dataset, 0)


def test_dynamic_batches_shuffle_and_deal_to_ranks(bucket: Bucket) -> None:
    names = fill(bucket)
    for dataset in (
        AISMapDataset(bucket),
        AISMapDataset(bucket.objects(obj_names=names)),
    ):  # sizes of a group are asked for
        sampler = DynamicBatchSampler(dataset, 2000, shuffle=True)
        epochs = [list(sampler) for _ in range(2)]
        assert epochs[0] != epochs[1]
        sampler.set_epoch(0)
        assert (list(sampler), len(sampler)) == (epochs[0], len(epochs[0]))
        dealt = [list(DynamicBatchSampler(dataset, 2000, shuffle=True, rank=rank, world_size=2)) for rank in range(2)]
        assert dealt == [epochs[0][::2], epochs[0][1::2]]


def test_objects_and_shards_through_an_etl(tmp_path: Path) -> None:
    from aistore.sdk.etl.webserver import HTTPMultiThreadedServer

    class Upper(HTTPMultiThreadedServer):
        def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
            assert isinstance(data, bytes)
            return data.replace(b"sample", b"SAMPLE")

    with LocalCluster(tmp_path / "data", durability="relaxed") as cluster, cluster.client() as client:
        bucket = client.bucket("plain").create()
        for number in range(5):
            bucket.object(f"o-{number}").get_writer().put_content(b"sample %d" % number)
        bucket.object("s.tar").get_writer().put_content(tar([("a.txt", b"sample a"), ("b.txt", b"sample b")]))
        client.etl("etl-upper").init_class()(Upper)
        wanted = [(f"o-{number}", b"SAMPLE %d" % number) for number in range(5)]
        for made in (AISMapDataset, AISIterDataset):
            loader = DataLoader(
                made(bucket, {bucket: "o-"}, "etl-upper"), batch_size=2, num_workers=1, collate_fn=as_list
            )
            assert list(flat(loader)) == wanted
        reader = AISShardReader(bucket, {bucket: "s"}, "etl-upper")
        assert len(reader) == 2
        assert [(name, sample["txt"]) for name, sample in reader] == [("a", b"SAMPLE a"), ("b", b"SAMPLE b")]
        with pytest.raises(AISError, match="etl-none"):
            AISMapDataset(bucket, {bucket: "o-"}, "etl-none")[0]
