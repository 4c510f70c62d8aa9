"""The main job, end to end: a cluster on this machine that holds a data set, read back in every way, and trained on.

    python examples/demo.py [--data DIR] [--keep]

Without --data it stores the UCI handwritten digits that scikit-learn ships (1,797 images) as PNG objects, two large
shards made of them, and shards of samples that a loader reads in another order every epoch. With --data it stores every
file of a folder of yours. --keep leaves the data folder, demo-data/, behind.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

from aistore import LocalCluster
from aistore.sdk import ArchiveConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aistore.sdk import Bucket, Client

    # An object, or a member of one that is a shard.
    Place = tuple[str, str]

THREADS = 8
SHARDS = 2
SHARD_BYTES = 64 << 20
# Every fifth image is kept out of training and measures it.
HELD_OUT = 5
EPOCHS = 4
BATCH = 64
LOADED = 256  # samples that the loader fetches at a time
SAMPLES_PER_SHARD = 500
SMALL = 1 << 20

T = TypeVar("T")


@dataclass
class DataSet:
    """What is stored: where the bytes come from, and their SHA-256, to compare with what comes back."""

    sources: dict[str, Path | bytes]
    sizes: dict[str, int] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, source in self.sources.items():
            digest = hashlib.sha256()
            size = 0
            for piece in pieces(source):
                digest.update(piece)
                size += len(piece)
            self.sizes[name], self.digests[name] = size, digest.digest()

    @property
    def size(self) -> int:
        return sum(self.sizes.values())

    @property
    def largest(self) -> str:
        return max(self.sizes, key=lambda name: self.sizes[name])


def pieces(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


# -- what is stored ------------------------------------------------------------------------------------------------


def digits(folder: Path) -> DataSet:
    """The digits as PNG objects named by split and label, and shards that hold them again."""
    import numpy
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    sources: dict[str, Path | bytes] = {}
    for number, (image, label) in enumerate(zip(found.images, found.target, strict=True)):
        png = io.BytesIO()
        Image.fromarray((image * (255 / 16)).astype(numpy.uint8)).save(png, "PNG")
        split = "test" if number % HELD_OUT == 0 else "train"
        sources[f"images/{split}/{label}/{number:04}.png"] = png.getvalue()
    images = list(sources.items())
    noise = numpy.random.default_rng(7)
    for number in range(SHARDS):
        path = folder / f"shard-{number}.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in images:
                add_member(tar, name, content)
            # Filler: the images alone are too small to show how a stream performs.
            while tar.offset < SHARD_BYTES:
                add_member(tar, f"synthetic/{tar.offset:09}.bin", noise.bytes(1 << 20))
        sources[f"shards/{path.name}"] = path
    return DataSet(sources)


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def own_files(folder: Path) -> DataSet:
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if not found:
        sys.exit(f"there are no files in {folder}")
    return DataSet(dict(found))


# -- what is done with it ------------------------------------------------------------------------------------------


def store(bucket: Bucket, data: DataSet) -> None:
    def put(name: str) -> None:
        source = data.sources[name]
        writer = bucket.object(name).get_writer()
        if isinstance(source, bytes):
            writer.put_content(source)
        else:
            writer.put_file(source)

    for_each(put, data.sources, "store")


def list_all(bucket: Bucket, data: DataSet) -> None:
    listed = {entry.name: entry.size for entry in bucket.list_objects_iter(props="name,size")}
    check(listed == data.sizes, "the listing does not match what was stored")


def read_whole(bucket: Bucket, data: DataSet) -> None:
    def read(name: str) -> None:
        content = bucket.object(name).get_reader().read_all()
        check(hashlib.sha256(content).digest() == data.digests[name], f"{name} differs from what was stored")

    for_each(read, data.sources, "read whole")


def read_ranges(bucket: Bucket, data: DataSet) -> None:
    """The first 64 bytes of every object."""

    def read(name: str) -> None:
        content = bucket.object(name).get_reader(byte_range="bytes=0-63").read_all() if data.sizes[name] else b""
        check(content == next(pieces(data.sources[name]), b"")[:64], f"a range of {name} differs")

    for_each(read, data.sources, "read ranges")


def read_stream(bucket: Bucket, data: DataSet) -> None:
    digest = hashlib.sha256()
    with progress(data.sizes[data.largest], "stream") as bar:
        for piece in bucket.object(data.largest).get_reader(chunk_size=1 << 20):
            digest.update(piece)
            bar.update(len(piece))
    check(digest.digest() == data.digests[data.largest], f"the stream of {data.largest} differs")


def read_as_file(bucket: Bucket, data: DataSet) -> str:
    """The largest object as a file; where it is a tar archive, its members one after the other."""
    with bucket.object(data.largest).get_reader().as_file() as file:
        if not data.largest.endswith(".tar"):
            total = 0
            while piece := file.read(1 << 20):
                total += len(piece)
            check(total == data.sizes[data.largest], f"{data.largest} read as a file has another length")
            return data.largest
        with tarfile.open(fileobj=file, mode="r|") as tar:
            members = sum(1 for member in tar if member.isfile())
    return f"{data.largest}, {members:,} members"


def train(bucket: Bucket) -> float:
    """Train a small network on images streamed from the bucket; its accuracy on those held out."""
    import numpy
    from PIL import Image
    from sklearn.neural_network import MLPClassifier

    def load(name: str) -> tuple[object, int]:
        png = bucket.object(name).get_reader().read_all()
        return numpy.asarray(Image.open(io.BytesIO(png)), dtype=float).ravel() / 255, int(name.split("/")[2])

    def batches(split: str) -> Iterator[tuple[list[object], list[int]]]:
        names = [entry.name for entry in bucket.list_objects_iter(prefix=f"images/{split}/")]
        numpy.random.default_rng(len(names)).shuffle(names)
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(names), BATCH):
                images, labels = zip(*pool.map(load, names[start : start + BATCH]), strict=True)
                yield list(images), list(labels)

    model = MLPClassifier(hidden_layer_sizes=(64,), learning_rate_init=0.01, random_state=7)
    with progress(EPOCHS, "train", unit="epoch") as bar:
        for _ in range(EPOCHS):
            for images, labels in batches("train"):
                model.partial_fit(images, labels, classes=list(range(10)))
            bar.update()
    right = total = 0
    for images, labels in batches("test"):
        right += int((model.predict(images) == labels).sum())
        total += len(labels)
    return right / total


# -- loading samples -----------------------------------------------------------------------------------------------


def write_shards(bucket: Bucket, data: DataSet, scratch: Path) -> list[Place]:
    """The images and their labels as samples in shards; where each image lies in them."""
    from aistore.sdk.dataset.data_attribute import DataAttribute
    from aistore.sdk.dataset.dataset_config import DatasetConfig
    from aistore.sdk.dataset.label_attribute import LabelAttribute

    images = scratch / "images"
    images.mkdir()
    labels = {}
    for name, source in data.sources.items():
        if isinstance(source, bytes):
            _, _, label, file = name.split("/")
            (images / file).write_bytes(source)
            labels[file.removesuffix(".png")] = int(label)
    config = DatasetConfig(DataAttribute(images, "image", "png"), [LabelAttribute("cls", labels.__getitem__)])
    here = Path.cwd()
    os.chdir(scratch)  # a shard is a local file, of the object's name, until it is stored
    try:
        bucket.write_dataset(config, pattern="samples", maxcount=SAMPLES_PER_SHARD)
    finally:
        os.chdir(here)
    shards = [entry.name for entry in bucket.list_objects_iter(prefix="samples-")]
    members = [(shard, one.name.removeprefix(f"{shard}/")) for shard in shards for one in bucket.list_archive(shard)]
    return [place for place in members if place[1].endswith(".png")]


def small_objects(data: DataSet) -> list[Place]:
    return [(name, "") for name, size in data.sizes.items() if size <= SMALL]


def one_by_one(bucket: Bucket, places: list[Place]) -> Iterator[bytes]:
    """A request for each sample, several at a time."""

    def read(place: Place) -> bytes:
        name, member = place
        return (
            bucket.object(name).get_reader(archive_config=ArchiveConfig(archpath=member) if member else None).read_all()
        )

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(read, places)


def together(client: Client, bucket: Bucket, places: list[Place]) -> Iterator[bytes]:
    """One request for all of them."""
    batch = client.batch(bucket=bucket)
    for name, member in places:
        batch.add(name, archpath=member)
    for info, content in batch.get():
        check(not info.err_msg, f"{info.obj_name}: {info.err_msg}")
        yield content


def load_epoch(
    bucket: Bucket, places: list[Place], fetch: Callable[[Bucket, list[Place]], Iterator[bytes]], epoch: int
) -> dict[Place, bytes]:
    """Load every sample once, in the order of this epoch; the SHA-256 of each."""
    order = random.Random(epoch).sample(places, len(places))
    digests = {}
    with progress(len(order), "load", unit="sample") as bar:
        for start in range(0, len(order), LOADED):
            wanted = order[start : start + LOADED]
            for place, content in zip(wanted, fetch(bucket, wanted), strict=True):
                digests[place] = hashlib.sha256(content).digest()
                bar.update()
    return digests


def load(client: Client, bucket: Bucket, data: DataSet, places: list[Place]) -> None:
    """An epoch by single requests and one by batches: the same samples, whatever their order."""
    epochs = []
    for number, (text, fetch) in enumerate(
        (("by single GETs", one_by_one), ("by GetBatch", partial(together, client)))
    ):
        epochs.append(
            step(
                f"load an epoch {text}",
                partial(load_epoch, bucket, places, fetch, number),
                objects=len(places),
                unit="samples",
            )
        )
    check(epochs[0] == epochs[1], "the epochs differ")
    known = set(data.digests.values())
    check(all(digest in known for digest in epochs[0].values()), "a sample differs from what was stored")


# -- telling it ------------------------------------------------------------------------------------------------------


def check(true: bool, what: str) -> None:
    if not true:
        sys.exit(f"FAILED: {what}")


def progress(total: int, text: str, unit: str = "B") -> tqdm[None]:
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(total=total, desc=text, unit=unit, unit_scale=unit == "B", leave=False, disable=None)


def for_each(act: Callable[[str], None], names: Iterable[str], text: str) -> None:
    names = list(names)
    with ThreadPoolExecutor(THREADS) as pool, progress(len(names), text, unit="object") as bar:
        for _ in pool.map(act, names):
            bar.update()


def step(text: str, act: Callable[[], T], objects: int = 0, size: int = 0, unit: str = "objects") -> T:
    """Do it, and print how long it took and how fast that was."""
    start = time.perf_counter()
    result = act()
    took = time.perf_counter() - start
    rates = [f"{objects / took:,.0f} {unit}/s"] if objects > 1 else []
    rates += [f"{size / took / 1e6:,.0f} MB/s"] if size else []
    print(f"  {text:<44} {took:7.2f} s   {', '.join(rates)}", flush=True)
    return result


@contextmanager
def data_folder(keep: bool) -> Iterator[Path]:
    if keep:
        yield Path("demo-data").absolute()
        return
    with tempfile.TemporaryDirectory(prefix="aistore-demo-") as folder:
        yield Path(folder) / "data"


def run(own: Path | None, keep: bool) -> None:
    with data_folder(keep) as folder, tempfile.TemporaryDirectory(prefix="aistore-demo-") as scratch:
        data = step("prepare the data", lambda: own_files(own) if own else digits(Path(scratch)))
        count, size = len(data.sources), data.size
        print(
            f"  {count:,} objects, {size:,} bytes"
            + ("" if own else f" (the {SHARDS} shards are mostly synthetic filler)")
        )
        cluster = LocalCluster(folder)
        step("start a cluster", cluster.start)
        try:
            print(f"  {cluster.url} on {folder}, durability strict")
            client = cluster.client()
            bucket = client.bucket("demo").create(exist_ok=True)
            step(f"store {count:,} objects", lambda: store(bucket, data), count, size)
            step("list them", lambda: list_all(bucket, data), count)
            step("read each whole, check its SHA-256", lambda: read_whole(bucket, data), count, size)
            step("read a range of each", lambda: read_ranges(bucket, data), count)
            step(
                "stream the largest, check its SHA-256",
                lambda: read_stream(bucket, data),
                size=data.sizes[data.largest],
            )
            step("read it as a file", lambda: read_as_file(bucket, data), size=data.sizes[data.largest])
            step("restart the server", cluster.restart)
            step("read all again, check each SHA-256", lambda: read_whole(bucket, data), count, size)
            if own:
                places = small_objects(data)
            else:
                places = step("write them as samples into shards", lambda: write_shards(bucket, data, Path(scratch)))
            if places:
                load(client, bucket, data, places)
            if own:
                print("  no training: the labels of your files are not known")
            else:
                seen = EPOCHS * sum(name.startswith("images/train/") for name in data.sources)
                accuracy = step(f"train on streamed images, {EPOCHS} epochs", lambda: train(bucket), objects=seen)
                print(f"  accuracy on the {100 // HELD_OUT} % held out: {accuracy:.1%}")
        finally:
            cluster.stop()
        if keep:
            print(f"Kept. Serve it again with:  .venv/bin/ais serve {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="store the files of this folder instead of the digits")
    parser.add_argument("--keep", action="store_true", help="leave demo-data/ behind")
    asked = parser.parse_args()
    if asked.data and not asked.data.is_dir():
        parser.error(f"{asked.data} is not a folder")
    try:
        run(asked.data, asked.keep)
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing is left behind" if not asked.keep else "interrupted")


if __name__ == "__main__":
    main()
