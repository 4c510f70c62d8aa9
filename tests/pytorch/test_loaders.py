"""A `DataLoader` over each kind of dataset: every sample once, whatever number of workers, ranks and epochs."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import sys
import threading
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-torch installs it, and runs this")

from torch.utils.data import DataLoader

from aistore.pytorch import AISIterDataset, AISMapDataset, EpochSampler
from loading import (
    KINDS,
    RESHARDED,
    as_list,
    be_rank,
    build,
    fill,
    flat,
    names_of_rank,
    ordered,
    set_epoch_of_rank,
    store,
)
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.sdk import Bucket, Client
    from programs import Program


@pytest.mark.parametrize("workers", [0, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sample_once(kind: str, workers: int, client: Client, bucket: Bucket) -> None:
    wanted = store(kind, bucket)
    loader = DataLoader(build(kind, client, bucket), batch_size=8, num_workers=workers, collate_fn=as_list)
    got = list(flat(loader))
    assert ordered(got) == ordered(wanted)
    if workers == 0 or kind in ("map", "parallel"):
        assert got == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_persistent_workers_read_epoch_after_epoch(kind: str, client: Client, bucket: Bucket) -> None:
    wanted = store(kind, bucket)
    shuffle = {"shuffle": True} if kind in RESHARDED else {}
    dataset = build(kind, client, bucket, **shuffle)
    loader = DataLoader(dataset, batch_size=8, num_workers=2, collate_fn=as_list, persistent_workers=True)
    epochs = []
    for epoch in range(3):
        if shuffle:
            dataset.set_epoch(epoch)
        epochs.append(list(flat(loader)))
        assert ordered(epochs[-1]) == ordered(wanted)
    if kind in ("iter", "batch", "shards"):
        assert epochs[0] != epochs[1] != epochs[2]
        again = build(kind, client, bucket, **shuffle)
        again.set_epoch(1)
        assert list(flat(DataLoader(again, batch_size=8, num_workers=2, collate_fn=as_list))) == epochs[1]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_not_forked(method: str, client: Client, bucket: Bucket) -> None:
    for kind in ("map", "iter"):
        wanted = store(kind, bucket)
        loader = DataLoader(
            build(kind, client, bucket), batch_size=8, num_workers=2, collate_fn=as_list, multiprocessing_context=method
        )
        assert ordered(flat(loader)) == ordered(wanted)


@pytest.mark.parametrize("kind", RESHARDED)
def test_ranks_and_workers_read_nothing_twice(
    kind: str, client: Client, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = store(kind, bucket)
    got = []
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        dataset = build(kind, client, bucket)
        mine = list(flat(DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=as_list)))
        if kind != "streams":
            assert len(mine) == len(dataset)
        got += mine
        assert ordered(map(repr, build(kind, client, bucket, rank=rank, world_size=3))) == ordered(
            map(repr, build(kind, client, bucket))
        )
    assert ordered(got) == ordered(wanted)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_ranks_that_are_given_the_dataset_of_another_process(method: str, bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISIterDataset(bucket, shuffle=True)
    context = multiprocessing.get_context(method)
    with (
        context.Pool(1, be_rank, (dataset, 0, 2)) as zero,
        context.Pool(1, be_rank, (dataset, 1, 2)) as one,
    ):
        for rank in (zero, one):
            rank.apply(set_epoch_of_rank, (1,))
        first = zero.apply(names_of_rank)
        zero.apply(set_epoch_of_rank, (2,))  # it is ahead
        assert sorted(first + one.apply(names_of_rank)) == names


def test_sources_go_to_workers_whole(client: Client, bucket: Bucket) -> None:
    names = fill(bucket)
    groups = [bucket.objects(obj_names=names[start : start + 10]) for start in range(0, len(names), 10)]
    dataset = AISIterDataset(groups, partition_sources_by_worker=True)
    loader = DataLoader(dataset, batch_size=100, num_workers=2, collate_fn=as_list)
    got = [[name for name, _ in batch] for batch in loader]
    assert got == [[*names[:10], *names[20:30], *names[40:]], [*names[10:20], *names[30:40]]]
    ranks = [AISIterDataset(groups, {}, None, False, True, rank=rank, world_size=2) for rank in range(2)]
    assert [len(list(one)) for one in ranks] == [len(one) for one in ranks] == [21, 20]


DISTRIBUTED = """
import sys
import torch
from aistore.pytorch import AISBatchIterDataset, AISMapDataset, EpochSampler
from aistore.sdk import Client
from loading import as_list
from torch.utils.data import DataLoader

url, bucket, store, rank = sys.argv[1:]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=2)
client = Client(url)
mine = client.bucket(bucket)
iterable = DataLoader(AISBatchIterDataset(mine, client), None, num_workers=1, multiprocessing_context="spawn")
data = AISMapDataset(mine)
mapped = DataLoader(data, 4, sampler=EpochSampler(data, shuffle=True), collate_fn=as_list)
if __name__ == "__main__":
    print(*(name for name, _ in iterable))
    print(*(name for batch in mapped for name, _ in batch))
    torch.distributed.destroy_process_group()
"""


def test_ranks_of_torch_distributed(
    client: Client, bucket: Bucket, tmp_path: Path, program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fill(bucket)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    started = [
        program(DISTRIBUTED, client._client.endpoint, bucket.name, tmp_path / "store", rank) for rank in range(2)
    ]
    for _ in range(2):
        said = [one.line().split() for one in started]
        assert sorted(said[0] + said[1]) == names
        assert abs(len(said[0]) - len(said[1])) <= 1
    assert [one.finish() for one in started] == [0, 0]


def test_epoch_sampler_deals_all_indices_out(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISMapDataset(bucket)
    plain = [EpochSampler(dataset, rank=rank, world_size=4) for rank in range(4)]
    assert [list(one) for one in plain] == [list(range(rank, 41, 4)) for rank in range(4)]
    assert [len(one) for one in plain] == [11, 10, 10, 10]
    mixed = [EpochSampler(dataset, True, 7, rank=rank, world_size=4) for rank in range(4)]
    first = [list(one) for one in mixed]
    assert sorted(chain.from_iterable(first)) == list(range(41))
    for one in mixed:
        one.set_epoch(1)
    assert [list(one) for one in mixed] != first
    with pytest.raises(ValueError, match="ranks begin with 0"):
        list(EpochSampler(dataset, rank=4, world_size=4))
    with pytest.raises(ValueError, match="together"):
        len(EpochSampler(dataset, rank=4))


def test_a_bucket_is_listed_once_for_all_workers(client: Client, bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISMapDataset(bucket)
    calls: list[str] = []
    exchange = client._client.exchange

    def noted(request):  # type: ignore[no-untyped-def]  # passes on what it gets
        calls.append(request.path)
        return exchange(request)

    client._client.exchange = noted
    for workers in (0, 2):
        loader = DataLoader(dataset, batch_size=16, num_workers=workers, collate_fn=as_list)
        assert [name for name, _ in flat(loader)] == names
    assert set(calls) == {f"ml/moss/{bucket.name}"}
    assert len(calls) == 3  # those of workers are made elsewhere


def test_nothing_is_left_when_a_loader_ends(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    fill_shards_too(bucket)
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("threads and descriptors are told by /proc")

    def sockets() -> int:
        count = 0
        for one in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                count += str(one.readlink()).startswith("socket:")
        return count

    client.close()
    gc.collect()  # what other tests left
    before = sockets(), threading.active_count(), children()
    for kind in ("map", "iter", "batch", "shards"):
        for workers in (0, 2):
            loader = DataLoader(build(kind, client, bucket), batch_size=4, num_workers=workers, collate_fn=as_list)
            batches = iter(loader)
            next(batches)
            del batches, loader
    client.close()
    until(lambda: sockets() <= before[0] and threading.active_count() <= before[1] and children() <= before[2])


def fill_shards_too(bucket: Bucket) -> None:
    store("shards", bucket)


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            found.update((task / "children").read_text().split())
    return found


@pytest.mark.parametrize("batch_size", [None, 4])
def test_buffers_come_from_workers(batch_size: int | None, client: Client, bucket: Bucket) -> None:
    wanted = store("parallel", bucket)
    dataset = build("parallel", client, bucket, num_workers=2)
    loader = DataLoader(dataset, batch_size, num_workers=1, collate_fn=list if batch_size else None, timeout=120)
    got = list(loader) if batch_size is None else list(flat(loader))
    assert as_list(got) == wanted


def test_pinned_memory_leaves_samples_as_they_are(client: Client, bucket: Bucket) -> None:
    wanted = store("iter", bucket)
    loader = DataLoader(build("iter", client, bucket), batch_size=8, num_workers=1, pin_memory=True)
    got = [pair for names, contents in loader for pair in zip(names, contents, strict=True)]
    assert got == wanted
