"""An epoch that is stopped in its middle goes on where the training was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-torch installs it, and runs this")

from torch.utils.data import DataLoader, DistributedSampler, RandomSampler

from aistore.pytorch import AISBatchIterDataset, AISIterDataset, AISMapDataset, DynamicBatchSampler, StatefulDataLoader
from loading import KINDS, RESHARDED, as_list, build, fill, flat, ordered, store, until_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aistore.sdk import Bucket, Client


def saved(loader: StatefulDataLoader) -> dict[str, object]:
    """The state, having been a file."""
    state: dict[str, object] = json.loads(json.dumps(loader.state_dict()))
    return state


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_or_doubled(kind: str, workers: int, client: Client, bucket: Bucket) -> None:
    wanted = store(kind, bucket)

    def loader() -> StatefulDataLoader:
        shuffled = kind in RESHARDED
        dataset = build(kind, client, bucket, **({"shuffle": True} if shuffled else {}))
        return StatefulDataLoader(dataset, 4, not shuffled, num_workers=workers, collate_fn=as_list)

    whole = loader()
    whole.set_epoch(5)
    in_one_go = list(flat(whole))
    assert ordered(in_one_go) == ordered(wanted)
    first = loader()
    first.set_epoch(5)
    batches = iter(first)
    got = [next(batches) for _ in range(3)]
    state = saved(first)
    del batches, first
    second = loader()
    second.load_state_dict(state)
    assert second.epoch == 5
    batches = iter(second)
    got += [next(batches) for _ in range(2)]
    third = loader()
    third.load_state_dict(saved(second))
    third.set_epoch(5)  # as a loop over epochs says
    got += third
    assert ordered(flat(got)) == ordered(wanted)
    if workers == 0 or kind not in RESHARDED:
        assert list(flat(got)) == in_one_go
    third.set_epoch(6)
    assert ordered(flat(third)) == ordered(wanted)


@pytest.mark.parametrize("kind", ["map", "iter"])
def test_workers_that_live_on_go_back_too(kind: str, client: Client, bucket: Bucket) -> None:
    wanted = store(kind, bucket)
    loader = StatefulDataLoader(
        build(kind, client, bucket), 4, num_workers=2, collate_fn=as_list, persistent_workers=True, prefetch_factor=3
    )
    batches = iter(loader)
    got = [next(batches) for _ in range(2)]
    state = saved(loader)
    assert len(list(batches)) > 2
    loader.load_state_dict(state)
    got += loader
    assert ordered(flat(got)) == ordered(wanted)
    for epoch in (1, 2):
        loader.set_epoch(epoch)
        assert ordered(flat(loader)) == ordered(wanted)


def test_map_datasets_resume_with_another_number_of_workers(bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISMapDataset(bucket)
    whole = list(StatefulDataLoader(dataset, 4, True, collate_fn=as_list))
    first = StatefulDataLoader(dataset, 4, True, num_workers=2, collate_fn=as_list)
    batches = iter(first)
    got = [next(batches) for _ in range(5)]
    second = StatefulDataLoader(dataset, 4, True, num_workers=1, collate_fn=as_list)
    second.load_state_dict(first.state_dict())
    assert len(second) == len(whole)
    assert [*got, *second] == whole


def test_the_end_of_an_epoch_is_a_position_too(bucket: Bucket) -> None:
    fill(bucket)
    for dataset in (AISMapDataset(bucket), AISIterDataset(bucket)):
        loader = StatefulDataLoader(dataset, 4, num_workers=1, collate_fn=as_list)
        whole = list(loader)
        other = StatefulDataLoader(dataset, 4, num_workers=1, collate_fn=as_list)
        other.load_state_dict(saved(loader))
        assert list(other) == []
        other.set_epoch(1)
        assert list(other) == whole
        assert list(other) == whole


def test_states_that_do_not_fit_are_refused(client: Client, bucket: Bucket) -> None:
    fill(bucket)
    loader = StatefulDataLoader(AISMapDataset(bucket), 4, True, collate_fn=as_list)
    state = loader.state_dict()
    for other, what in (
        (StatefulDataLoader(AISMapDataset(bucket), 5, True), "batch_size"),
        (StatefulDataLoader(AISMapDataset(bucket), 4, True, seed=1), "seed"),
        (StatefulDataLoader(AISMapDataset(bucket), 4, False), "shuffle"),
        (StatefulDataLoader(AISMapDataset(bucket), 4, True, rank=0, world_size=2), "world_size"),
    ):
        with pytest.raises(ValueError, match=f"not for what is read now: {what} was"):
            other.load_state_dict(state)
    iterable = StatefulDataLoader(AISIterDataset(bucket), 4, num_workers=2).state_dict()
    with pytest.raises(ValueError, match="workers was 2, and is 1"):
        StatefulDataLoader(AISIterDataset(bucket), 4, num_workers=1).load_state_dict(iterable)
    bucket.object("0007.txt").delete()
    with pytest.raises(ValueError, match=r"objects was '41-.*', and is '40-"):
        StatefulDataLoader(AISMapDataset(bucket), 4, True).load_state_dict(state)
    for bad in ({}, {"epoch": "1"}, {"epoch": 1}, {"epoch": 1, "batches": 2}):
        with pytest.raises(ValueError, match="no state of a"):
            loader.load_state_dict(bad)
    with pytest.raises(ValueError, match="no state of a"):
        loader.load_state_dict(None)  # type: ignore[arg-type]  # the mistake


def test_what_a_stateful_loader_is_not_for(bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISMapDataset(bucket)
    with pytest.raises(TypeError, match=r"a dataset of aistore\.pytorch is needed"):
        StatefulDataLoader([1, 2, 3])
    with pytest.raises(ValueError, match="cannot be repeated"):
        StatefulDataLoader(dataset, sampler=RandomSampler(dataset))
    with pytest.raises(ValueError, match="without a sampler"):
        StatefulDataLoader(dataset, 4, True, sampler=range(3))
    with pytest.raises(ValueError, match="shuffles itself"):
        StatefulDataLoader(AISIterDataset(bucket), 4, True)


def test_samplers_of_ones_own(bucket: Bucket) -> None:
    fill(bucket)
    dataset = AISMapDataset(bucket)

    def loaders() -> list[StatefulDataLoader]:
        return [
            StatefulDataLoader(dataset, 4, sampler=DistributedSampler(dataset, 2, 1), collate_fn=as_list),
            StatefulDataLoader(
                dataset,
                batch_sampler=DynamicBatchSampler(dataset, 3000, shuffle=True),
                collate_fn=as_list,
                num_workers=2,
            ),
            StatefulDataLoader(dataset, None, sampler=range(40, 0, -1), collate_fn=None),
        ]

    for one, other in zip(loaders(), loaders(), strict=True):
        one.set_epoch(3)
        whole = list(one)
        batches = iter(one)
        got = [next(batches) for _ in range(3)]
        other.load_state_dict(saved(one))
        assert got + list(other) == whole


def test_single_samples_without_batches(bucket: Bucket) -> None:
    names = fill(bucket)
    for dataset in (AISMapDataset(bucket), AISIterDataset(bucket)):
        loader = StatefulDataLoader(dataset, None)
        batches = iter(loader)
        got = [next(batches)[0] for _ in range(3)]
        other = StatefulDataLoader(dataset, None)
        other.load_state_dict(loader.state_dict())
        assert got + [name for name, _ in other] == names


def test_samples_that_are_left_out_count(client: Client, bucket: Bucket) -> None:
    names = fill(bucket)

    def loader() -> StatefulDataLoader:
        dataset = AISBatchIterDataset(bucket.objects(obj_names=names), client, cont_on_err=True, max_batch_size=3)
        return StatefulDataLoader(dataset, 4, num_workers=2, collate_fn=as_list)

    for gone in (names[1], names[2], names[8], names[9]):
        bucket.object(gone).delete()
    first = loader()
    batches = iter(first)
    got = [next(batches) for _ in range(3)]
    second = loader()
    second.load_state_dict(saved(first))
    got += second
    assert sorted(str(name) for name, _ in flat(got)) == [*names[:1], *names[3:8], *names[10:]]


@pytest.mark.parametrize("kind", RESHARDED)
def test_a_dataset_alone_goes_on(kind: str, client: Client, bucket: Bucket) -> None:
    wanted = store(kind, bucket)
    first = build(kind, client, bucket)
    samples = iter(first)
    got = [next(samples) for _ in range(11)]
    second = build(kind, client, bucket)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    got += list(iter(second))
    assert as_list(got) == wanted
    assert as_list(list(iter(second))) == wanted
    elsewhere = build(kind, client, bucket, rank=1, world_size=2)
    elsewhere.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="rank was 0, and is 1"):
        iter(elsewhere)
    second.load_state_dict(first.state_dict())
    refused = until_error(DataLoader(second, num_workers=2, collate_fn=as_list), ValueError)[1]
    assert "workers was 1, and is 2" in str(refused)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["map", *RESHARDED])
def test_the_stateful_loader_of_torchdata(kind: str, workers: int, client: Client, bucket: Bucket) -> None:
    stateful = pytest.importorskip(
        "torchdata.stateful_dataloader", reason="torchdata is not installed: run make test-torch"
    )
    wanted = store(kind, bucket)

    def loader() -> Iterable[list[tuple[object, ...]]]:
        made: Iterable[list[tuple[object, ...]]] = stateful.StatefulDataLoader(
            build(kind, client, bucket), batch_size=4, num_workers=workers, collate_fn=as_list
        )
        return made

    first = loader()
    batches = iter(first)
    got = [next(batches) for _ in range(3)]
    second = loader()
    second.load_state_dict(first.state_dict())  # type: ignore[attr-defined]  # of torchdata
    assert ordered([*flat(got), *flat(second)]) == ordered(wanted)
