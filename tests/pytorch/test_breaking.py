"""Training while the world changes: servers and workers killed, objects overwritten and deleted. No sample is dropped, doubled or mixed."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test-torch installs it, and runs this")

from requests import ConnectionError  # noqa: A004  the one that failures of the network are
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from torch.utils.data import DataLoader

from aistore import Client, LocalCluster
from aistore.pytorch import (
    AISBatchIterDataset,
    AISIterDataset,
    AISMapDataset,
    AISShardReader,
    SampleNotFound,
    StatefulDataLoader,
)
from aistore.sdk import RetryConfig
from archives import tar
from backends.relay import Relay
from loading import as_list, build, flat, ordered, store, until_error
from waiting import DEADLINE, until

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.sdk import Bucket

LARGE = 300_000


def versions(bucket: Bucket, count: int, version: int) -> dict[str, bytes]:
    """Store objects that a socket's buffers cannot hold; what they are."""
    made = {f"{number:03}": bytes([number, version]) * (LARGE // 2) for number in range(count)}
    for name, content in made.items():
        bucket.object(name).get_writer().put_content(content)
    return made


@pytest.mark.parametrize("kind", ["map", "iter", "batch", "shards"])
def test_a_server_that_is_killed_and_restarted(kind: str, tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "data") as cluster, cluster.client() as client:
        bucket = client.bucket("train").create()
        if kind == "shards":
            for shard in range(4):
                bucket.object(f"s-{shard}.tar").get_writer().put_content(
                    tar([(f"{shard}{n}.bin", bytes([shard, n]) * LARGE) for n in range(10)])
                )
            wanted: list[tuple[object, ...]] = [
                (f"{s}{n}", {"bin": bytes([s, n]) * LARGE}) for s in range(4) for n in range(10)
            ]
        else:
            wanted = store(kind, bucket)
        dataset = build(kind, client, bucket)
        batches = iter(DataLoader(dataset, batch_size=4, collate_fn=as_list))
        got = [next(batches) for _ in range(2)]
        assert cluster.pid
        os.kill(cluster.pid, signal.SIGKILL)
        cluster.restart()
        got += batches
        assert list(flat(got)) == wanted


def test_a_server_that_is_killed_while_workers_read(tmp_path: Path) -> None:
    patient = RetryConfig.default()
    patient.network_retry = Retrying(
        stop=stop_after_delay(60), wait=wait_fixed(0.1), retry=retry_if_exception_type(ConnectionError), reraise=True
    )
    with LocalCluster(tmp_path / "data") as cluster, Client(cluster.url, retry_config=patient) as client:
        bucket = client.bucket("train").create()
        wanted = versions(bucket, 60, 0)
        for dataset in (AISMapDataset(bucket), AISBatchIterDataset(bucket, client, max_batch_size=8)):
            batches = iter(DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=as_list))
            got = [next(batches) for _ in range(2)]
            assert cluster.pid
            os.kill(cluster.pid, signal.SIGKILL)
            cluster.restart()
            got += batches
            assert ordered(flat(got)) == list(wanted.items())


@pytest.mark.parametrize("kind", ["map", "batch", "shards"])
def test_a_worker_that_is_killed(kind: str, client: Client, bucket: Bucket) -> None:
    wanted = store(kind, bucket)

    def loader() -> StatefulDataLoader:
        return StatefulDataLoader(build(kind, client, bucket), 2, num_workers=2, collate_fn=as_list)

    first = loader()
    others = set(multiprocessing.active_children())
    batches = iter(first)
    got = [next(batches) for _ in range(3)]
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    for one in workers:
        assert one.pid
        os.kill(one.pid, signal.SIGKILL)
        one.join()
    more, error = until_error(batches, RuntimeError)
    assert re.search(r"DataLoader worker .* (exited unexpectedly|killed by signal)", str(error))
    state = first.state_dict()
    del batches
    second = loader()
    second.load_state_dict(state)
    assert ordered([*flat(got), *more, *flat(second)]) == ordered(wanted)


def test_objects_that_are_overwritten_meanwhile(bucket: Bucket) -> None:
    before = versions(bucket, 40, 0)
    for dataset in (AISMapDataset(bucket), AISIterDataset(bucket)):
        batches = iter(DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=as_list))
        got = [next(batches)]
        after = versions(bucket, 40, 1)
        got += batches
        names = [name for name, _ in flat(got)]
        assert sorted(map(str, names)) == sorted(before)
        assert all(content in (before[str(name)], after[str(name)]) for name, content in flat(got))
        versions(bucket, 40, 0)


def test_objects_that_are_deleted_meanwhile(client: Client, bucket: Bucket) -> None:
    made = versions(bucket, 40, 0)
    batches = iter(DataLoader(AISBatchIterDataset(bucket, client, max_batch_size=4), batch_size=1, collate_fn=as_list))
    got = [*next(batches)]
    bucket.object("039").delete()  # of a batch that is not requested yet
    with pytest.raises(SampleNotFound, match="'039'"):
        for batch in batches:
            got += batch
    assert got == [(name, content) for name, content in made.items() if name != "039"]


def test_streams_that_break_again_and_again(cluster: LocalCluster, bucket: Bucket) -> None:
    wanted = [(f"{n:02}", bytes([n]) * LARGE) for n in range(40)]
    bucket.object("s-0.tar").get_writer().put_content(tar([(f"{name}.bin", content) for name, content in wanted]))
    for name, content in wanted:
        bucket.object(name).get_writer().put_content(content)
    with Relay(cluster.url.removeprefix("http://")) as relay, Client(relay.url) as client:
        relay.cuts_all = 3 * LARGE
        source = client.bucket(bucket.name)
        shards = AISShardReader(source, {source: "s-"})
        assert [(name, sample["bin"]) for name, sample in shards] == wanted
        objects = source.objects(obj_names=[name for name, _ in wanted])
        assert list(iter(AISIterDataset(objects))) == AISMapDataset(objects).__getitems__(range(40)) == wanted


def test_a_shard_that_is_replaced_while_it_is_read_is_never_mixed(client: Client, bucket: Bucket) -> None:
    def shard(version: int) -> bytes:
        return tar([(f"{n:02}.bin", bytes([version, n]) * LARGE) for n in range(20)])

    bucket.object("s-0.tar").get_writer().put_content(shard(0))
    samples = iter(build("shards", client, bucket))
    got = [next(samples)]
    bucket.object("s-0.tar").get_writer().put_content(shard(1))
    got += samples
    assert [(name, sample["bin"]) for name, sample in got] == [(f"{n:02}", bytes([0, n]) * LARGE) for n in range(20)]


def test_workers_end_with_their_loader(client: Client, bucket: Bucket) -> None:
    store("iter", bucket)
    others = set(multiprocessing.active_children())
    loader = DataLoader(
        build("iter", client, bucket), batch_size=2, num_workers=2, collate_fn=as_list, persistent_workers=True
    )
    next(iter(loader))
    assert len(set(multiprocessing.active_children()) - others) == 2
    del loader
    until(lambda: not set(multiprocessing.active_children()) - others)


TRAINING = """
import signal, sys
from torch.utils.data import DataLoader
from aistore import Client
from aistore.pytorch import AISMapDataset

signal.signal(signal.SIGINT, signal.default_int_handler)  # which is not that of processes in the background
dataset = AISMapDataset(Client(sys.argv[1]).bucket(sys.argv[2]))
loader = DataLoader(dataset, 2, num_workers=2, persistent_workers=True, multiprocessing_context=sys.argv[3])
while True:
    for _ in loader:
        print("read", flush=True)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_ctrl_c_ends_a_training_and_its_workers(method: str, cluster: LocalCluster, bucket: Bucket) -> None:
    store("map", bucket)
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, cluster.url, bucket.name, method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as training:
        try:
            assert training.stdout is not None
            assert [training.stdout.readline() for _ in range(2)] == ["read\n"] * 2  # one of each worker
            os.killpg(training.pid, signal.SIGINT)  # as a terminal does: to workers, too
            _, said = training.communicate(timeout=DEADLINE)  # to the end of what all of them write to
        except BaseException:
            os.killpg(training.pid, signal.SIGKILL)
            raise
        assert training.returncode == -signal.SIGINT
        assert said.endswith("KeyboardInterrupt\n"), said
