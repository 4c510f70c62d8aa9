"""A state is of the epoch and the order that were read, whoever chose them, and one that does not fit is refused."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test-torch installs it, and runs this")

from torch.utils.data import DataLoader, DistributedSampler

from aistore.pytorch import (
    AISIterDataset,
    AISMapDataset,
    AISMultiShardStream,
    AISShardReader,
    DynamicBatchSampler,
    EpochSampler,
    StatefulDataLoader,
)
from aistore.sdk import DataShard
from archives import tar
from loading import as_list, fill, flat, until_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.sdk import Bucket, Client


class Reversing:
    """A sampler of one's own, which tells nobody its epoch, and has another order each time unless it is told one."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._times = 0
        self._epoch: int | None = None

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self):  # type: ignore[no-untyped-def]  # an iterator of int
        self._times += 1
        epoch = self._times if self._epoch is None else self._epoch
        return iter(range(self._count) if epoch % 2 else range(self._count - 1, -1, -1))

    def __len__(self) -> int:
        return self._count


def stop_and_go_on(make: Callable[[], StatefulDataLoader], begin: Callable[[StatefulDataLoader], None]) -> list[str]:
    """Names that come if an epoch stops after three batches, and goes on in another loader."""
    first = make()
    begin(first)
    batches = iter(first)
    got = [next(batches) for _ in range(3)]
    second = make()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    return [str(name) for name, _ in flat([*got, *second])]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_the_dataset_was_told(workers: int, bucket: Bucket) -> None:
    names = fill(bucket)

    def make() -> StatefulDataLoader:
        return StatefulDataLoader(AISIterDataset(bucket, shuffle=True), 4, num_workers=workers, collate_fn=as_list)

    def begin(loader: StatefulDataLoader) -> None:
        loader.dataset.set_epoch(3)
        assert loader.epoch == 3

    assert sorted(stop_and_go_on(make, begin)) == names


def test_an_epoch_that_the_sampler_was_told(bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISMapDataset(bucket)
    samplers: list[EpochSampler | DistributedSampler] = []
    for kind in (
        lambda: EpochSampler(dataset, shuffle=True),
        lambda: DistributedSampler(dataset, num_replicas=1, rank=0),
    ):

        def make(kind: Callable[[], EpochSampler | DistributedSampler] = kind) -> StatefulDataLoader:
            samplers.append(kind())
            return StatefulDataLoader(dataset, 4, sampler=samplers[-1], collate_fn=as_list)

        assert sorted(stop_and_go_on(make, lambda _: samplers[-1].set_epoch(3))) == names


@pytest.mark.parametrize("workers", [0, 2])
def test_samplers_that_mix_anew_each_time(workers: int, bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISMapDataset(bucket)

    def dynamic() -> StatefulDataLoader:
        sampler = DynamicBatchSampler(dataset, 3000, shuffle=True)
        return StatefulDataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=as_list)

    def own() -> StatefulDataLoader:
        return StatefulDataLoader(dataset, 4, sampler=Reversing(41), num_workers=workers, collate_fn=as_list)

    def read_once(loader: StatefulDataLoader) -> None:
        assert list(loader)

    for make in (dynamic, own):
        assert sorted(stop_and_go_on(make, read_once)) == names


def test_another_epoch_of_the_dataset_drops_a_state(bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISIterDataset(bucket)
    loader = StatefulDataLoader(dataset, 4, collate_fn=as_list)
    list(loader)
    state = loader.state_dict()
    dataset.set_epoch(1)
    assert loader.state_dict()["batches"] == 0
    loader.load_state_dict(state)
    dataset.set_epoch(1)
    assert [name for name, _ in flat(loader)] == names


def test_a_dataset_alone_between_epochs(bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISIterDataset(bucket)
    samples = iter(dataset)
    for _ in range(11):
        next(samples)
    state = dataset.state_dict()
    list(samples)
    dataset.set_epoch(1)
    other = AISIterDataset(bucket)
    other.load_state_dict(dataset.state_dict())
    assert [name for name, _ in iter(other)] == names
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert [name for name, _ in iter(other)] == names[11:]


def test_the_state_of_a_dataset_is_not_for_each_iteration_of_a_worker(bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISIterDataset(bucket)
    next(iter(dataset))
    dataset.load_state_dict(dataset.state_dict())
    refused = until_error(DataLoader(dataset, num_workers=1, collate_fn=as_list), ValueError)[1]
    assert "load it into a StatefulDataLoader" in str(refused)


def test_states_of_other_samplers_are_refused(bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISMapDataset(bucket)

    def loader(most: int = 3000, seed: int = 0, world_size: int = 1) -> StatefulDataLoader:
        sampler = DynamicBatchSampler(dataset, most, shuffle=True, seed=seed, rank=0, world_size=world_size)
        return StatefulDataLoader(dataset, batch_sampler=sampler)

    state = loader().state_dict()
    loader().load_state_dict(state)
    for other in (loader(most=2000), loader(seed=1), loader(world_size=2)):
        with pytest.raises(ValueError, match="order was"):
            other.load_state_dict(state)
    bucket.object("0000.txt").get_writer().put_content(b"larger, so that batches are others")
    dataset = AISMapDataset(bucket)
    with pytest.raises(ValueError, match="order was"):
        loader().load_state_dict(state)
    one = StatefulDataLoader(dataset, sampler=EpochSampler(dataset, True, 1)).state_dict()
    with pytest.raises(ValueError, match="order was"):
        StatefulDataLoader(dataset, sampler=EpochSampler(dataset, True, 2)).load_state_dict(one)


def test_what_has_no_position(bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISMapDataset(bucket)
    with pytest.raises(ValueError, match="out of order"):
        StatefulDataLoader(dataset, 4, num_workers=2, in_order=False)
    sampler = DynamicBatchSampler(dataset, 3000)
    for more in ({"batch_size": 4}, {"drop_last": True}, {"sampler": range(3)}):
        with pytest.raises(ValueError, match="a batch_sampler makes the batches"):
            StatefulDataLoader(dataset, batch_sampler=sampler, **more)


class Unplaced(AISIterDataset):
    """A dataset whose samples do not come from what keeps its position."""

    def __iter__(self):  # type: ignore[no-untyped-def]  # an iterator of samples
        return iter([("a", b"1"), ("b", b"2")])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_that_keeps_no_position(workers: int, bucket: Bucket) -> None:
    fill(bucket)
    loader = StatefulDataLoader(Unplaced(bucket), 1, num_workers=workers, collate_fn=as_list)
    assert loader.state_dict()["batches"] == 0
    assert len(list(loader)) == 2
    with pytest.raises(ValueError, match="Unplaced keeps no position"):
        loader.state_dict()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_workers_of_copies_hear_of_the_epoch(
    copied: Callable[[AISIterDataset], AISIterDataset], bucket: Bucket
) -> None:
    names = fill(bucket)
    first = AISIterDataset(bucket, shuffle=True)
    dataset = copied(first)
    first.set_epoch(7)
    assert dataset.epoch == 0
    loader = DataLoader(dataset, None, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append([name for name, _ in loader])
        assert sorted(epochs[-1]) == names
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("seed", [-1, 1 << 62, (1 << 64) - 1])
def test_any_seed(seed: int, bucket: Bucket) -> None:
    names = fill(bucket)
    dataset = AISIterDataset(bucket, shuffle=True, seed=seed)
    assert sorted(name for name, _ in iter(dataset)) == names


@pytest.mark.parametrize("other", [["0", "10", "2"], ["0"]])
def test_a_shard_that_was_replaced_since_is_refused(other: list[str], client: Client, bucket: Bucket) -> None:
    def put(names: list[str], content: bytes) -> None:
        bucket.object("s-0.tar").get_writer().put_content(tar([(f"{name}.txt", content) for name in names]))

    put(["0", "1", "2"], b"first")
    bucket.object("s-1.tar").get_writer().put_content(tar([("9.txt", b"last")]))
    for dataset in (
        AISShardReader(bucket),
        AISMultiShardStream([DataShard(client._client.endpoint, bucket.name)]),
    ):
        put(["0", "1", "2"], b"first")
        samples = iter(dataset)
        for _ in range(2):
            next(samples)
        state = dataset.state_dict()
        put(["0", "1", "2"], b"second")  # the same samples
        dataset.load_state_dict(state)
        assert len(list(iter(dataset))) == 2
        put(other, b"third")
        dataset.load_state_dict(state)
        with pytest.raises(ValueError, match="than when the state was taken"):
            list(iter(dataset))
