"""What is told of jobs outlives the server; what is too much is forgotten."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from aistore.sdk.errors import AISError
from aistore.server.dsort import registry
from aistore.server.dsort.progress import Progress
from aistore.server.dsort.registry import Sorts
from archives import tar
from shards import Places
from store_truth import bucket_id, opened

if TYPE_CHECKING:
    from pathlib import Path


def progress(number: int) -> Progress:
    return Progress(f"srt-{number:06}", bucket_id("in"), bucket_id("out"), f"number {number}")


def test_infos_survive_a_restart(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "data") as cluster, cluster.client() as client:
        places = Places(cluster, client, client.bucket("in").create(), client.bucket("out").create())
        places.put({"in-0.tar": tar([("a.x", b"1")])})
        result, infos = places.sort(description="before")
        assert result
        bad, _ = places.sort(description="before", Config={"missing_shards": "abort"})
        assert not bad
        cluster.restart()
    with LocalCluster(tmp_path / "data") as cluster, cluster.client() as client:
        found = client.dsort(result.job_id).get_job_info()
        assert list(found.values()) == list(infos.values())
        listed = client.dsort().list_jobs("^before$")
        assert [(info.id, info.aborted, info.archived) for info in listed] == [
            (bad.job_id, True, True),
            (result.job_id, False, True),
        ]
        client.dsort(result.job_id).remove()
        cluster.restart()
        with cluster.client() as again, pytest.raises(AISError, match="does not exist"):
            again.dsort(result.job_id).get_job_info()


def test_a_job_that_died_with_its_process_is_shown_as_aborted(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await Sorts(store).start(progress(1))
        async with opened(tmp_path) as store:
            sorts = Sorts(store)
            info = sorts.find("srt-000001")
            assert info is not None
            assert (info.aborted, info.archived, info.metrics.aborted) == (True, True, True)
            assert info.metrics.errors == ["the server was killed while the job ran"]
            assert not sorts.runs("srt-000001")
            await sorts.close()
        async with opened(tmp_path) as store:
            assert Sorts(store).find("srt-000001") == info

    asyncio.run(run())


def test_old_jobs_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KEPT", 3)

    async def run() -> None:
        async with opened(tmp_path) as store:
            sorts = Sorts(store)
            for number in range(6):
                one = progress(number)
                await sorts.start(one)
                sorts.end(one, "")
            assert len(sorts.all()) == 6  # none is a day old
            monkeypatch.setattr(registry, "_KEPT_FOR", 0)
            one = progress(6)
            await sorts.start(one)
            assert next(info.id for info in sorts.all()) == "srt-000006"
            sorts.end(one, "it failed")
            await sorts.close()
            assert [info.id for info in sorts.all()] == ["srt-000006", "srt-000005", "srt-000004"]
        async with opened(tmp_path) as store:
            assert [info.id for info in Sorts(store).all()] == ["srt-000006", "srt-000005", "srt-000004"]

    asyncio.run(run())
