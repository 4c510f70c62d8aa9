"""Specifications and results of dSort jobs, in both faces."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from aistore import AsyncClient, Client
from aistore.calls import dsort
from aistore.sdk.dsort import Dsort, DsortAlgorithm, DsortFramework, DsortShardsGroup, ExternalKeyMap
from aistore.sdk.dsort.types import JobInfo
from aistore.sdk.errors import AISError, Timeout
from aistore.sdk.multiobj import ObjectNames, ObjectRange
from aistore.transport.request import Request
from archives import tar
from shards import DEADLINE, Places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.sdk.wait_result import WaitResult

BUCKET = {"name": "b", "provider": "ais"}
SPEC: dict[str, Any] = {
    "input_bck": BUCKET,
    "input_format": {"template": "in-{0..9..1}"},
    "input_extension": ".tar",
    "output_bck": {"name": "c", "provider": "ais"},
    "output_format": "out-{00..99..1}",
    "output_extension": ".tgz",
    "algorithm": {"kind": "shuffle", "decreasing": False, "seed": "7"},
    "description": "d",
    "output_shard_size": "10KB",
}


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
def test_a_framework_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"spec{suffix}"
    path.write_text(json.dumps(SPEC))  # which is YAML too
    assert DsortFramework.from_file(path).to_spec() == SPEC
    assert DsortFramework.from_file(str(path)).to_spec() == SPEC
    names = {**SPEC, "input_format": {"objnames": ["a.tar", "b.tar"]}}
    assert DsortFramework.from_spec(names).to_spec() == names


@pytest.mark.parametrize(
    "change",
    [
        {"input_format": "in-{0..9}"},
        {"input_format": {}},
        {"input_format": {"template": "prefix"}},
        {"output_format": ""},
        {"output_format": ["a"]},
        {"output_format": "out-%d"},
        {"input_bck": None},
        {"output_bck": {"name": "x"}},
        {"algorithm": {"kind": "bubble"}},
        {"algorithm": {"kind": "content"}},
    ],
)
def test_specifications_that_a_framework_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        DsortFramework.from_spec({**SPEC, **change})


@pytest.mark.parametrize(
    ("name", "text"), [("x.json", "[1]"), ("x.json", "{"), ("x.yaml", "a: [1"), ("x.yml", "text"), ("x.txt", "{}")]
)
def test_files_that_are_no_specification(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError):
        DsortFramework.from_file(path)
    with pytest.raises(ValueError):
        Client("http://127.0.0.1:9").dsort().start(path)


def test_what_a_job_cannot_be_started_with() -> None:
    job = Client("http://127.0.0.1:9").dsort()
    for spec in (5, None, [1], DsortAlgorithm()):
        with pytest.raises(ValueError, match="must be a Path or a DsortFramework"):
            job.start(spec)  # type: ignore[arg-type]  # what is refused
    assert repr(job) == "<Dsort not started>"
    assert repr(Dsort(job._client, "srt-x")) == "<Dsort srt-x>"


def test_a_job_that_was_not_started() -> None:
    job = Client("http://127.0.0.1:9").dsort()
    for call in (job.wait, job.get_job_info, job.abort, job.remove):
        with pytest.raises(ValueError, match=r"was not started: call start\(\)"):
            call()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"outptu_shard_size": "1KB"}, "'outptu_shard_size' is no key of it, and is ignored: is 'output_shard_size' meant?"),
        ({"algorithm": {"Kind": "md5", "sead": "1"}}, "'algorithm.sead' is no key of it, and is ignored: is 'seed' meant?"),
        ({"config": {"missing_shard": "warn"}}, "'config.missing_shard' is no key of it, and is ignored: is 'missing_shards' meant?"),
        ({"zzz": 1}, "'zzz' is no key of it, and is ignored"),
    ],
)  # fmt: skip
def test_a_key_that_no_cluster_knows_is_told(
    spec: dict[str, Any], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    assert isinstance(next(dsort.start(spec, lambda: "")), Request)
    steps = dsort.start(path, lambda: "")
    next(steps)  # to read the file
    assert isinstance(steps.send(dsort.read_specification(path)), Request)  # type: ignore[arg-type]  # what the file has
    assert [record.getMessage() for record in caplog.records] == [f"dSort specification: {told}"] * 2


def test_known_keys_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    next(dsort.start({"INPUT_FORMAT": {"template": "x"}, "Config": {}, "dry_run": True, "algorithm": "x"}, lambda: ""))
    assert caplog.records == []


def test_groups_and_key_maps() -> None:
    bucket = Client("http://127.0.0.1:9").bucket("b").as_model()
    ekm = ExternalKeyMap()
    ekm["a-%d"] = ObjectNames(["x"])
    assert DsortShardsGroup(bucket, "output", ekm, ".tar").as_dict()["output_format"] == ""
    with pytest.raises(ValueError, match='format of input role must be an instance of "ObjectNames" or "ObjectRange"'):
        DsortShardsGroup(bucket, "input", ekm, ".tar")
    with pytest.raises(ValueError, match="role"):
        DsortShardsGroup(bucket, "both", ObjectRange("x", 0, 1), ".tar")  # type: ignore[arg-type]  # what is refused


@pytest.fixture
def places(cluster: LocalCluster, client: Client, request: pytest.FixtureRequest) -> Iterator[Places]:
    with Places.of(cluster, client, request.node.nodeid) as made:
        yield made


def test_with_asyncio(places: Places, tmp_path: Path) -> None:
    places.put({"in-0.tar": tar([("b.x", b"1"), ("a.x", b"2")])})
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(places.spec(description="async")))

    async def run() -> None:
        async with AsyncClient(places.cluster.url) as client:
            job = client.dsort()
            assert await job.start(path) == job.dsort_id
            result = await job.wait(DEADLINE, verbose=False)
            assert result
            assert result.end_time is not None
            infos = await job.get_job_info()
            assert {info.metrics.description for info in infos.values()} == {"async"}
            assert job.dsort_id in [info.id for info in await job.list_jobs("async")]
            await job.remove()
            with pytest.raises(AISError, match="does not exist"):
                await job.abort()
            ekm = ExternalKeyMap()
            ekm["k-%d.tar"] = ObjectNames(["x"])
            framework = DsortFramework(
                DsortShardsGroup(places.source.as_model(), "input", ObjectRange("in-", 0, 1), ".tar"),
                DsortShardsGroup(places.target.as_model(), "output", ekm, ".tar"),
                output_shard_size="1MB",
            )
            await job.start(framework)
            assert await job.wait(DEADLINE, verbose=False)
            assert await client.bucket(places.target.name).object("k-0.tar").head()

    asyncio.run(run())


def info(*, finished: bool, aborted: bool = False, errors: list[str] | None = None) -> dict[str, Any]:
    phase = {
        "started_time": "2025-03-04T10:11:12Z", "end_time": "2025-03-04T10:11:13Z", "elapsed": 1, "running": False, "finished": finished,
    }  # fmt: skip
    counts = (
        "total_count", "extracted_count", "extracted_size", "extracted_record_count", "extracted_to_disk_count", "extracted_to_disk_size",
    )  # fmt: skip
    return {
        "id": "srt-x",
        "src-bck": BUCKET,
        "dst-bck": BUCKET,
        "finish_time": "2025-03-04T10:11:13Z",
        "loc-objs": "1",
        "loc-bytes": "2",
        "Metrics": {
            "local_extraction": {**phase, **dict.fromkeys(counts, "1")},
            "meta_sorting": phase,
            "shard_creation": {**phase, "to_create": "1", "created_count": "1", "moved_shard_count": "0"},
            "errors": errors,
        },
        "aborted": aborted,
        "archived": finished or aborted,
    }


class Told(NamedTuple):
    """An answer, as calls look at it."""

    content: bytes


def waited(*told: dict[str, Any], timeout: float = 300) -> WaitResult:
    """The result of waiting, when these are the answers, one after the other."""
    left = iter(told)
    steps = dsort.wait("srt-x", timeout, False)
    effect = next(steps)
    try:
        while True:
            document = json.dumps(next(left)).encode() if isinstance(effect, Request) else b""
            effect = steps.send(Told(document))  # type: ignore[arg-type]  # what of an answer is looked at
    except StopIteration as done:
        found: WaitResult = done.value
    assert next(left, None) is None
    return found


def test_waiting_ends_when_all_targets_have_finished() -> None:
    result = waited(
        {},
        {"a": info(finished=True), "b": info(finished=False)},
        {"a": info(finished=True), "b": info(finished=True)},
    )
    assert (result.success, result.error, result.job_id) == (True, None, "srt-x")
    assert str(result.end_time) == "2025-03-04 10:11:13+00:00"


def test_waiting_ends_when_one_target_has_aborted() -> None:
    result = waited({"a": info(finished=False), "b": info(finished=False, aborted=True, errors=["", "why"])})
    assert (result.success, result.error, result.end_time) == (False, "why", None)


def test_waiting_has_an_end() -> None:
    with pytest.raises(Timeout, match="srt-x"):
        waited({}, timeout=0)


def test_what_is_told_has_the_types_of_the_official_models() -> None:
    found = JobInfo.model_validate(
        {**info(finished=True), "started_meta_sorting": 5, "started_shard_creation": 6, "finished_shard_creation": 7}
    )
    assert (found.extracted_duration, found.sorting_duration, found.creation_duration) == (5, 6, 7)
    assert (found.objects, found.bytes, found.metrics.shard_creation.to_create) == ("1", "2", "1")
    assert found.src_bck.name == "b"
