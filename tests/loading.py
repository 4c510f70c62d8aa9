"""Datasets to load, and what loaders of the tests are given: it has to be importable in workers that are not forked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from aistore.sdk import DataShard
from aistore.sdk.obj.content_iterator.buffer import ParallelBuffer
from archives import packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aistore.sdk import Bucket, Client

    Sample = tuple[object, ...]

    from aistore.pytorch import AISIterDataset

E = TypeVar("E", bound=Exception)
S = TypeVar("S")

COUNT = 41
KINDS = ("map", "parallel", "iter", "batch", "shards", "streams")
RESHARDED = ("iter", "batch", "shards", "streams")
SHARDS = 7


_given: list[AISIterDataset] = []


def be_rank(dataset: AISIterDataset, rank: int, world_size: int) -> None:
    """Start a process that was given a dataset, as `torch.multiprocessing.spawn` starts ranks."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size))
    _given.append(dataset)


def set_epoch_of_rank(epoch: int) -> None:
    _given[0].set_epoch(epoch)


def names_of_rank() -> list[str]:
    return [name for name, _ in iter(_given[0])]


def content_of(number: int) -> bytes:
    return f"{number:04}".encode() * (1 + number * 7)


def fill(bucket: Bucket, count: int = COUNT) -> list[str]:
    """Objects of different sizes; their names, sorted."""
    names = [f"{number:04}.txt" for number in range(count)]
    for number, name in enumerate(names):
        bucket.object(name).get_writer().put_content(content_of(number))
    return names


def fill_shards(
    bucket: Bucket, prefix: str = "", shards: int = SHARDS, samples: int = 6, extension: str = ".tar"
) -> None:
    """Shards whose members are `number.txt` and `number.cls`."""
    for shard in range(shards):
        members = []
        for number in range(shard * samples, (shard + 1) * samples):
            members += [(f"d/{number:04}.cls", b"%d" % number), (f"d/{number:04}.txt", content_of(number))]
        bucket.object(f"{prefix}{shard:02}{extension}").get_writer().put_content(packed(extension, members))


def build(kind: str, client: Client, bucket: Bucket, **options: Any):  # type: ignore[no-untyped-def]  # a dataset: PyTorch may be missing
    """A dataset over what `fill` and `fill_shards` made."""
    from aistore import pytorch

    if kind in ("map", "parallel", "iter", "batch"):
        source = bucket.objects(obj_template=f"{{0000..{COUNT - 1:04}}}.txt")
        makers = {
            "map": pytorch.AISMapDataset,
            "parallel": pytorch.AISParallelMapDataset,
            "iter": pytorch.AISIterDataset,
        }
        if kind != "batch":
            return makers[kind](source, **options)
        return pytorch.AISBatchIterDataset(source, client, max_batch_size=5, **options)
    if kind == "shards":
        return pytorch.AISShardReader(bucket, {bucket: "s-"}, **options)
    options.pop("shuffle", None)
    url = client._client.endpoint
    return pytorch.AISMultiShardStream(
        [DataShard(url, bucket.name, prefix="s-"), DataShard(url, bucket.name, prefix="t-")], **options
    )


def store(kind: str, bucket: Bucket) -> list[Sample]:
    """Fill a bucket for a kind of dataset; the samples that it has then, plain, in order."""
    if kind == "shards":
        fill_shards(bucket, "s-")
        return [(f"{n:04}", {"cls": b"%d" % n, "txt": content_of(n)}) for n in range(SHARDS * 6)]
    if kind == "streams":
        fill_shards(bucket, "s-")
        fill_shards(bucket, "t-", shards=SHARDS * 2, samples=3)
        return [(one, one) for n in range(SHARDS * 6) for one in (b"%d" % n, content_of(n))]
    names = fill(bucket)
    return [(name, content_of(number)) for number, name in enumerate(names)]


def plain(sample: Sample) -> Sample:
    """A sample of nothing but tuples, dicts and bytes."""
    made: list[object] = []
    for part in sample:
        if isinstance(part, ParallelBuffer):
            with part:
                made.append(part.tobytes())
        else:
            made.append(dict(part.items()) if isinstance(part, dict) else part)
    return tuple(made)


def as_list(samples: list[Sample]) -> list[Sample]:
    """Collates nothing."""
    return [plain(sample) for sample in samples]


def flat(batches: Iterable[list[Sample]]) -> Iterator[Sample]:
    for batch in batches:
        yield from batch


def ordered(samples: Iterable[S]) -> list[S]:
    """Samples in an order that does not depend on who read them."""
    return sorted(samples, key=repr)


def until_error(batches: Iterable[list[Sample]], kind: type[E]) -> tuple[list[Sample], E]:
    """The samples that come before an error, and the error.

    Without its traceback: that keeps the loader's iterator in a cycle, and if the garbage collector ends workers, it waits seconds for each.
    """
    got: list[Sample] = []
    try:
        for batch in batches:
            got += batch
    except kind as error:
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return got, error
    raise AssertionError(f"no {kind.__name__} came after {len(got)} samples")
