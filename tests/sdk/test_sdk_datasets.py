"""Data sets become shards: whole, in order, and with nothing left behind."""

from __future__ import annotations

import io
import logging
import sys
import tarfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aistore.sdk import DataShard
from aistore.sdk.dataset.data_attribute import DataAttribute
from aistore.sdk.dataset.dataset_config import DatasetConfig
from aistore.sdk.dataset.label_attribute import LabelAttribute
from aistore.sdk.errors import ErrBckNotFound
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore import LocalCluster
    from aistore.sdk import Bucket
    from aistore.sdk.dataset.config_attribute import ConfigAttribute

pytest.importorskip("webdataset", reason="shards are written by webdataset: run make test")

COUNT = 10
MIB = 1 << 20


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ten images; the working folder is an empty one beside it, which has to be empty again after the test."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"{number:02}.jpg").write_bytes(content_of(number))
    (folder / "notes.txt").write_text("no image")
    (folder / "folder.jpg").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def blocking(cluster: LocalCluster, bucket: Bucket) -> Iterator[Bucket]:
    """The test's bucket, for functions that are called in the middle of a call."""
    with cluster.client() as client:
        yield client.bucket(bucket.name)


def content_of(number: int) -> bytes:
    return f"image {number} ".encode() * 100


def config_of(images: Path, *others: ConfigAttribute) -> DatasetConfig:
    return DatasetConfig(DataAttribute(images, "image", "jpg"), list(others))


def names_of(bucket: Bucket) -> list[str]:
    return [entry.name for entry in bucket.list_all_objects()]


def members_of(bucket: Bucket) -> dict[str, bytes]:
    """Everything in all shards of a bucket, in order; fails for a shard that is not whole."""
    found: dict[str, bytes] = {}
    for name in names_of(bucket):
        content = bucket.object(name).get_reader().read_all()
        assert content.endswith(bytes(1024)), f"{name} has no end"
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                assert member.name not in found
                found[member.name] = file.read()
    return found


def test_every_file_is_a_sample_in_the_order_of_names(bucket: Bucket, images: Path) -> None:
    config = config_of(images, LabelAttribute("cls", int))
    bucket.write_dataset(config, pattern="train", maxcount=4)
    assert names_of(bucket) == ["train-0.tar", "train-1.tar", "train-2.tar"]
    members = members_of(bucket)
    assert list(members) == [f"sample_{n}.{key}" for n in range(COUNT) for key in ("cls", "image.jpg")]
    for number in range(COUNT):
        assert members[f"sample_{number}.image.jpg"] == content_of(number)
        assert (
            members[f"sample_{number}.cls"] == str(number).encode()
        )  # of which the first is 0: a label like any other
    assert list(Path().iterdir()) == []


def test_defaults_are_those_of_the_official_sdk(bucket: Bucket, images: Path) -> None:
    bucket.write_dataset(config_of(images))
    assert names_of(bucket) == ["dataset-000000.tar"]
    assert next(iter(members_of(bucket))) == "sample_000000.image.jpg"


def test_shards_end_at_maxsize(bucket: Bucket, images: Path) -> None:
    bucket.write_dataset(config_of(images), maxsize=2000, start_shard=7, mtime=0)
    assert names_of(bucket) == [f"dataset-{number:06}.tar" for number in range(7, 11)]
    assert len(members_of(bucket)) == COUNT


def test_the_pattern_may_name_a_folder(bucket: Bucket, images: Path) -> None:
    Path("a%d").mkdir()
    bucket.write_dataset(config_of(images), pattern="a%d/train")
    assert names_of(bucket) == ["a%d/train-000000.tar"]


@pytest.mark.parametrize("skip", [True, False])
def test_what_is_missing_is_told_and_left_out(
    bucket: Bucket, images: Path, caplog: pytest.LogCaptureFixture, skip: bool
) -> None:
    captions = images.parent / "captions"
    captions.mkdir()
    for number in range(COUNT):
        (captions / f"{number:02}.txt").write_text("" if number == 3 else f"caption {number}")
    (captions / "05.txt").unlink()
    label = LabelAttribute("label", lambda name: None if name == "07" else name)
    with caplog.at_level(logging.WARNING, logger="aistore.sdk.dataset"):
        bucket.write_dataset(config_of(images, DataAttribute(captions, "caption", "txt"), label), skip_missing=skip)
    told = [record.getMessage() for record in caplog.records if record.name.endswith("write_shards")]
    assert told == [
        f"Missing attributes: {lacked}" for lacked in ("03 - caption.txt", "05 - caption.txt", "07 - label")
    ]
    members = members_of(bucket)
    samples = sorted({name.partition(".")[0] for name in members})
    assert samples == [f"sample_{n:06}" for n in range(COUNT) if not (skip and n in (3, 5, 7))]
    if not skip:
        assert "sample_000003.image.jpg" in members
        assert "sample_000003.caption.txt" not in members


def test_samples_can_be_looked_at(images: Path) -> None:
    config = config_of(images, LabelAttribute("label", lambda name: name[1:]))
    sample, lacking = next(iter(config.generate_dataset(100)))
    assert sample == {"__key__": "sample_000", "image.jpg": content_of(0), "label": "0"}
    assert lacking == []


def test_a_broken_attribute_leaves_whole_shards_only(bucket: Bucket, images: Path) -> None:
    def label(name: str) -> str:
        if name == "07":
            raise RuntimeError("no label")
        return name

    with pytest.raises(RuntimeError, match="no label"):
        bucket.write_dataset(config_of(images, LabelAttribute("label", label)), maxcount=3)
    assert names_of(bucket) == ["dataset-0.tar", "dataset-1.tar"]
    assert len(members_of(bucket)) == 2 * 3 * 2
    assert list(Path().iterdir()) == []


def test_a_failed_upload_leaves_no_file(bucket: Bucket, images: Path, blocking: Bucket) -> None:
    def post(path: str) -> None:
        if path == "dataset-1.tar":
            blocking.delete()

    with pytest.raises(ErrBckNotFound):
        bucket.write_dataset(config_of(images), maxcount=3, post=post)
    assert list(Path().iterdir()) == []


def test_post_sees_each_shard_before_it_is_stored(bucket: Bucket, images: Path, blocking: Bucket) -> None:
    seen = []

    def post(path: str) -> None:
        with tarfile.open(path) as archive:
            seen.append((path, len(archive.getmembers()), path in names_of(blocking)))

    bucket.write_dataset(config_of(images), maxcount=6, post=post)
    assert seen == [("dataset-0.tar", 6, False), ("dataset-1.tar", 4, False)]


def test_a_post_that_fails_ends_it(bucket: Bucket, images: Path) -> None:
    def post(path: str) -> None:
        raise RuntimeError(f"not {path}")

    with pytest.raises(RuntimeError, match=r"not dataset-0\.tar"):
        bucket.write_dataset(config_of(images), maxcount=6, post=post)
    assert names_of(bucket) == []
    assert list(Path().iterdir()) == []


def test_a_file_of_the_users_own_is_not_replaced(bucket: Bucket, images: Path) -> None:
    Path("dataset-1.tar").write_text("mine")
    with pytest.raises(FileExistsError, match=r"dataset-1\.tar"):
        bucket.write_dataset(config_of(images), maxcount=3)
    assert [path.read_text() for path in Path().iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maxcount": 0}, "maxcount"),
        ({"maxcount": "4"}, "maxcount"),
        ({"nonsense": 1}, "nonsense"),
        ({"pattern": "nowhere/train"}, "nowhere"),
    ],
)
def test_wrong_arguments_store_nothing(bucket: Bucket, images: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        bucket.write_dataset(config_of(images), **options)
    assert names_of(bucket) == []
    assert list(Path().iterdir()) == []


def test_nothing_to_write_is_told(bucket: Bucket, images: Path) -> None:
    with pytest.raises(ValueError, match=r"no files \*\.png"):
        bucket.write_dataset(DatasetConfig(DataAttribute(images, "image", "png")))
    with pytest.raises(ValueError, match=r"00 - label is missing"):
        bucket.write_dataset(config_of(images, LabelAttribute("label", lambda _: None)))
    with pytest.raises(ValueError, match=r"the key 'image\.jpg'"):
        bucket.write_dataset(config_of(images, DataAttribute(images, "image", "jpg")))
    with pytest.raises(FileNotFoundError):
        bucket.write_dataset(config_of(images / "none"))
    assert names_of(bucket) == []


def test_local_shards_are_replaced_when_they_are_whole(images: Path) -> None:
    Path("dataset-0.tar").write_text("an older one")
    posted: list[object] = []
    config_of(images).write_shards(skip_missing=True, maxcount=6, post=posted.append)
    assert posted == ["dataset-0.tar", "dataset-1.tar"] == sorted(path.name for path in Path().iterdir())
    before = Path("dataset-0.tar").read_bytes()
    failing = config_of(images, LabelAttribute("label", {"00": "first"}.__getitem__))
    with pytest.raises(KeyError):
        failing.write_shards(skip_missing=True, maxcount=6)
    assert Path("dataset-0.tar").read_bytes() == before
    assert len(list(Path().iterdir())) == 2


def test_memory_holds_a_sample_at_a_time(images: Path, bucket: Bucket) -> None:
    for number in range(24):
        (images / f"{number:02}.jpg").write_bytes(bytes([number]) * MIB)
    tracemalloc.start()
    try:
        bucket.write_dataset(config_of(images), maxcount=8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(names_of(bucket)) == 3
    assert peak < 6 * MIB


def test_a_bar_counts_samples(bucket: Bucket, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bucket.write_dataset(config_of(images), maxcount=3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "10 samples" in err


def test_without_webdataset_it_says_what_to_install(
    bucket: Bucket, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ImportError, match="pip install webdataset"):
        bucket.write_dataset(config_of(images))


def test_a_shard_says_where_it_lies() -> None:
    shard = DataShard("http://host", "bucket")
    assert (shard.provider, shard.prefix, shard.etl_name) == (Provider.AIS, "", None)
    assert shard == DataShard(client_url="http://host", bucket_name="bucket")
