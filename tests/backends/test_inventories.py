"""Inventories of remote buckets: recorded once, and listed from without the backend."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from aistore import AsyncClient, LocalCluster
from aistore.sdk import Namespace
from aistore.sdk.errors import AISError
from aistore.sdk.list_object_flag import ListObjectFlag
from backends.relay import refuse
from calling import Caller
from programs import target_pids
from store_truth import problems
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.sdk import Bucket, Client
    from backends.conftest import Remote

NAMES = [f"{folder}/{number:02}" for folder in ("a", "b-1", "b") for number in range(20)]
SORTED = sorted(NAMES)


def record(client: Client, bucket: Bucket, **options: object) -> None:
    job = bucket.create_inventory(**options)  # type: ignore[arg-type]  # what create_inventory takes
    assert job.startswith("inv-")
    result = client.job(job).wait()
    assert result.success, result.error


def fill(remote: Remote) -> None:
    for name in NAMES:
        remote.put(name, name.encode())


def test_an_inventory_is_listed_from_without_the_backend(remote: Remote, near_client: Client) -> None:
    fill(remote)
    remote.read("a/00")
    record(near_client, remote.here, name="all", names_per_chunk=7)
    (info,) = remote.here.show_inventory().values()
    assert (info.name, info.ntotal, info.chunks) == ("all", len(NAMES), 9)
    assert info.obj_name.endswith(f"/{remote.name}/all")
    assert 0 < info.started <= info.finished
    assert remote.here.show_inventory("other") == {}
    remote.place.relay.cut_off()
    listed = remote.here.list_all_objects(inventory_name="all")
    assert [entry.name for entry in listed] == SORTED
    assert [entry.size for entry in listed] == [len(name) for name in SORTED]
    assert [entry.name for entry in listed if entry.is_cached()] == ["a/00"]
    assert [entry.name for entry in remote.here.list_objects_iter(page_size=4, inventory_name="all")] == SORTED
    # The default size of a page is that of a chunk.
    assert len(remote.here.list_objects(inventory_name="all").entries) == 7
    remote.here.destroy_inventory("all")
    remote.here.destroy_inventory()
    assert remote.here.show_inventory() == {}


def test_prefix_and_levels_are_views_of_the_snapshot(remote: Remote, near_client: Client) -> None:
    fill(remote)
    remote.put("top", b"")
    record(near_client, remote.here)
    (info,) = remote.here.show_inventory().values()

    def names(prefix: str = "", page_size: int = 0, *flags: ListObjectFlag) -> list[str]:
        found = remote.here.list_all_objects(prefix, page_size=page_size, flags=flags, inventory_name=info.name)
        return [entry.name for entry in found]

    level = ListObjectFlag.NO_RECURSION
    for size in (0, 1, 2):
        assert names("", size, level) == ["a/", "b-1/", "b/", "top"]
        assert names("b", size, level) == [f"b/{number:02}" for number in range(20)]
        assert names("b/", size, level) == [f"b/{number:02}" for number in range(20)]
        assert names("b-", size, level) == ["b-1/"]
    assert names("b") == [name for name in SORTED if name.startswith("b")]
    assert names("b/1", 3) == [f"b/{number}" for number in range(10, 20)]
    assert names("zzz") == []


def test_a_second_inventory_needs_force_and_takes_the_place_of_the_first(remote: Remote, near_client: Client) -> None:
    fill(remote)
    record(near_client, remote.here, name="one", prefix="a/")
    with pytest.raises(AISError, match="already exists") as caught:
        remote.here.create_inventory("two")
    assert caught.value.status_code == 400
    record(near_client, remote.here, name="two", force=True)
    assert [info.name for info in remote.here.show_inventory().values()] == ["two"]
    assert len(remote.here.list_all_objects(inventory_name="two")) == len(NAMES)


def test_what_a_snapshot_cannot_tell_is_refused(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"")
    with pytest.raises(AISError, match="has no inventories"):
        remote.here.list_objects(flags=[ListObjectFlag.NBI])
    record(near_client, remote.here)
    for flag in (ListObjectFlag.NOT_CACHED, ListObjectFlag.ARCH_DIR, ListObjectFlag.MISSING):
        with pytest.raises(AISError) as caught:
            remote.here.list_objects(flags=[ListObjectFlag.NBI, flag])
        assert caught.value.status_code == 400
    with pytest.raises(AISError) as caught:
        remote.here.list_objects(inventory_name="none")
    assert caught.value.status_code == 404
    with pytest.raises(AISError, match="expecting remote bucket"):
        near_client.bucket("plain").create(exist_ok=True).create_inventory()


def test_a_bucket_takes_its_inventory_with_it(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"")
    record(near_client, remote.here)
    remote.here.evict(keep_md=True)
    assert len(remote.here.show_inventory()) == 1
    remote.here.evict()
    assert remote.here.show_inventory() == {}


def test_a_rename_that_is_refused_leaves_the_inventory(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"")
    front = near_client.bucket(f"front-{remote.name}").create()
    own = remote.here
    behind: dict[str, object] = {"name": remote.name, "provider": own.provider.value}
    if own.namespace is not None:
        behind["namespace"] = {"uuid": own.namespace.uuid, "name": ""}
    front.make_request("PATCH", "set-bprops", {"backend_bck": behind})
    try:
        record(near_client, front, name="all")
        with pytest.raises(AISError, match="itself"):
            front.rename(front.name)
        assert len(front.show_inventory()) == 1
        front.rename(f"renamed-{remote.name}")
        front = near_client.bucket(f"renamed-{remote.name}")
        assert front.show_inventory() == {}
    finally:
        front.delete()


def test_a_backend_that_fails_leaves_the_inventory_that_there_was(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"")
    record(near_client, remote.here, name="kept")
    remote.place.relay.cut_off()
    result = near_client.job(remote.here.create_inventory("new", force=True)).wait()
    assert not result.success
    assert [info.name for info in remote.here.show_inventory().values()] == ["kept"]
    assert [entry.name for entry in remote.here.list_all_objects(inventory_name="kept")] == ["a"]


def test_one_is_made_at_a_time_and_an_aborted_one_leaves_nothing(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"")
    record(near_client, remote.here, name="kept")
    remote.place.relay.answers_all = refuse("503 Service Unavailable", b"", "Retry-After: 60")  # it is asked again then
    remote.place.relay.drop()
    job = near_client.job(remote.here.create_inventory("new", force=True))
    with pytest.raises(AISError, match="currently running") as caught:
        remote.here.create_inventory("other", force=True)
    assert caught.value.status_code == 409
    job.abort()
    assert job.wait().error == "user abort"
    remote.place.relay.restore()
    assert [info.name for info in remote.here.show_inventory().values()] == ["kept"]
    record(near_client, remote.here, name="new", force=True)


def test_clients_of_s3_list_from_an_inventory_too(remote: Remote, near: LocalCluster, near_client: Client) -> None:
    fill(remote)
    record(near_client, remote.here, name="snap")
    remote.place.relay.cut_off()
    headers = {"Ais-Bucket-Inventory": "true"}
    with Caller(near.url) as call:

        def pages(query: str, **more: str) -> list[str]:
            found: list[str] = []
            token = ""
            while True:
                path = f"/s3/{remote.name}?list-type=2&max-keys=7&{query}" + (
                    f"&continuation-token={token}" if token else ""
                )
                got = call("GET", path, None, {**headers, **more})
                assert got.status == 200, got.body
                text = got.body.decode()
                found += re.findall("<(?:Key|Prefix)>([^<]+)<", text)
                if "<IsTruncated>true" not in text:
                    return found
                (token,) = re.findall("<NextContinuationToken>([^<]+)<", text)

        assert pages("") == SORTED
        assert pages("prefix=b/", **{"Ais-Inv-Name": "snap"}) == [name for name in SORTED if name.startswith("b/")]
        assert pages("delimiter=/") == ["a/", "b-1/", "b/"]
        assert pages("delimiter=/&prefix=b") == ["b-1/", "b/"]
        assert pages("start-after=b/18") == ["b/19"]
        assert call("GET", f"/s3/{remote.name}?list-type=2", None, {**headers, "Ais-Inv-Name": "x"}).status == 404
        shown = call.action("GET", "/v1/buckets", "show-inventory")
        assert f"/{remote.name}/snap" in shown.body.decode()
        other = call.action("GET", "/v1/buckets?provider=gcp", "show-inventory")
        assert json.loads(other.body) == {}


def test_the_asyncio_face_does_the_same(remote: Remote, near: LocalCluster) -> None:
    remote.put("a", b"")

    async def run() -> None:
        async with AsyncClient(near.url) as client:
            bucket = client.bucket(remote.name, remote.here.provider, remote.here.namespace)
            assert (await client.job(await bucket.create_inventory("async")).wait()).success
            assert [info.name for info in (await bucket.show_inventory()).values()] == ["async"]
            assert [entry.name async for entry in bucket.list_objects_iter(inventory_name="async")] == ["a"]
            await bucket.destroy_inventory()
            assert await bucket.show_inventory() == {}

    asyncio.run(run())


def rounds_of_kills(folder: Path, rounds: int, targets: int) -> None:
    dice = random.Random(targets)
    with (
        LocalCluster() as far,
        LocalCluster(folder, durability="relaxed", targets=targets, backends={"ais": {"far": far.url}}) as near,
    ):
        with far.client() as client:
            source = client.bucket("src").create()
            names = [f"o-{number:04}" for number in range(500)]
            for name in names:
                source.object(name).get_writer().put_content(b"")

        def again() -> None:
            with suppress(OSError, AISError), near.client() as client:
                bucket = client.bucket("src", namespace=Namespace(uuid="far"))
                while True:
                    client.job(bucket.create_inventory(force=True)).wait()

        with near.client() as client:
            record(client, client.bucket("src", namespace=Namespace(uuid="far")), name="first")
        for _ in range(rounds):
            worker = threading.Thread(target=again)
            worker.start()
            time.sleep(dice.uniform(0.05, 0.4))  # when it dies is what varies
            for pid in (*target_pids(near).values(), near.pid):
                os.kill(pid, signal.SIGKILL)
            worker.join()
            near.restart()
            with near.client() as client:
                bucket = client.bucket("src", namespace=Namespace(uuid="far"))
                (info,) = bucket.show_inventory().values()
                assert info.ntotal == len(names)
                listed = bucket.list_all_objects(inventory_name=info.name)
                assert [entry.name for entry in listed] == names
                ended = client.cluster().list_jobs_status("create-inventory")
                assert ended and all(status.end_time for status in ended)
        until(lambda: problems(near.path) == [])


@pytest.mark.parametrize("targets", [1, 3])
def test_an_inventory_survives_restarts_and_kills(tmp_path: Path, targets: int) -> None:
    rounds_of_kills(tmp_path / "data", 2, targets)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("targets", [1, 3])
def test_an_inventory_survives_many_kills(tmp_path: Path, targets: int) -> None:
    rounds_of_kills(tmp_path / "data", 40, targets)
