"""Control calls over HTTP that no recorded scenario shows: bounds, faults, what survives a restart."""

from __future__ import annotations

import http.client
import io
import json
import tarfile
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path


def call(
    url: str, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One exchange; `body` is bytes or goes as JSON."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, body=data, headers=headers or {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def short(value: object) -> str:
    """A test's name, where its input is long."""
    return str(value)[:40]


def action(name: str, value: object = None, arg: str = "") -> dict[str, object]:
    return {"action": name, "name": arg, "value": value}


def make_bucket(url: str, name: str, objects: tuple[str, ...] = ()) -> str:
    assert call(url, "POST", f"/v1/buckets/{name}", action("create-bck"))[0] == 200
    for one in objects:
        assert call(url, "PUT", f"/v1/objects/{name}/{one}", b"x")[0] == 200
    return name


def listed(url: str, bucket: str, value: dict[str, object] | None = None) -> list[str]:
    status, _, body = call(url, "GET", f"/v1/buckets/{bucket}", action("list", value or {}))
    assert status == 200, body
    return [entry["name"] for entry in json.loads(body)["entries"] or []]


def finished(url: str, job: bytes) -> dict[str, object]:
    """The status of a job once it has ended."""
    deadline = time.monotonic() + 60
    while True:
        status, _, body = call(url, "GET", "/v1/cluster?what=status", {"ID": job.decode()})
        assert status == 200, body
        record: dict[str, object] = json.loads(body)
        if record["end_time"]:
            return record
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/buckets/b", b'{"action":' * 50_000, 400),
        ("GET", "/v1/buckets/b", b"[" * 100_000, 400),
        ("POST", "/v1/buckets/fresh", action("create-bck", {"checksum": {"type": "x" * 100_000}}), 400),
        ("PUT", "/v1/cluster", b"\xff" * 100, 400),
        ("GET", "/v1/daemon?what=log&severity=%00", None, 400),
        ("GET", "/v1/daemon?what=log&offset=-1", None, 400),
        ("PUT", "/v1/cluster", action("start", {"Kind": "prefetch-listrange"}), 400),
        ("PUT", "/v1/cluster", action("shutdown"), 501),
        ("POST", "/v1/cluster/join-by-admin", {}, 501),
        ("PUT", "/v1/cluster/proxy/x", None, 501),
        ("PUT", "/v1/cluster", action("start-maintenance", {"sid": "nosuchnode"}), 404),
        ("GET", "/v1/download", None, 501),
    ],
    ids=short,
)
def test_bad_input_is_refused_with_an_error_document(
    cluster: LocalCluster, method: str, path: str, body: object, status: int
) -> None:
    got, headers, content = call(cluster.url, method, path, body)
    assert (got, headers["content-type"]) == (status, "application/json")
    assert json.loads(content)["status"] == status


def test_a_message_beyond_the_limit_is_refused(cluster: LocalCluster) -> None:
    message = b'{"action":"list","value":{"prefix":"' + b"x" * (33 << 20) + b'"}}'
    assert call(cluster.url, "GET", "/v1/buckets/any", message)[0] == 413


@pytest.mark.parametrize("value", [{"pagesize": -1}, {"time_format": "2" * 1000}, {"flags": "-1"}], ids=short)
def test_listing_bounds(cluster: LocalCluster, value: dict[str, object]) -> None:
    bucket = make_bucket(cluster.url, f"bounds{abs(hash(str(value))) % 10**6}")
    assert call(cluster.url, "GET", f"/v1/buckets/{bucket}", action("list", value))[0] == 400


def test_partial_prefix_below_the_first_level_is_listed_without_recursion(cluster: LocalCluster) -> None:
    bucket = make_bucket(cluster.url, "levels", ("alpha/beta/x", "alpha/beta2", "alpha/gamma", "alphabet"))
    assert listed(cluster.url, bucket, {"flags": "2048", "prefix": "alpha/b"}) == ["alpha/beta/", "alpha/beta2"]
    assert listed(cluster.url, bucket, {"flags": "2048", "prefix": "alph"}) == ["alpha/", "alphabet"]
    assert listed(cluster.url, bucket, {"flags": "2048", "continuation_token": "alpha/"}) == ["alphabet"]


def test_delete_by_prefix_with_and_without_recursion(cluster: LocalCluster) -> None:
    bucket = make_bucket(cluster.url, "prefixes", ("d/1", "d/e/2", "d2", "e"))
    status, _, job = call(
        cluster.url,
        "DELETE",
        f"/v1/buckets/{bucket}",
        action("delete-listrange", {"template": "d/", "non-recurs": True}),
    )
    assert status == 200
    assert finished(cluster.url, job)["err"] == ""
    assert listed(cluster.url, bucket) == ["d/e/2", "d2", "e"]
    _, _, job = call(cluster.url, "DELETE", f"/v1/buckets/{bucket}", action("delete-listrange", {"template": "d"}))
    assert finished(cluster.url, job)["aborted"] is False
    assert listed(cluster.url, bucket) == ["e"]


@pytest.mark.parametrize(
    "value",
    [
        {"objnames": ["a", ""]},
        {"objnames": ["../x"]},
        {"objnames": ["a/"]},
        {"num-workers": -2},
        {"template": "{0..99999999}"},
    ],
    ids=short,
)
def test_delete_selections_refused_delete_nothing(cluster: LocalCluster, value: dict[str, object]) -> None:
    bucket = make_bucket(cluster.url, f"refused{abs(hash(str(value))) % 10**6}", ("a",))
    assert call(cluster.url, "DELETE", f"/v1/buckets/{bucket}", action("delete-listrange", value))[0] == 400
    assert listed(cluster.url, bucket) == ["a"]


def test_easy_urls_keep_slashes_in_names(cluster: LocalCluster) -> None:
    bucket = make_bucket(cluster.url, "easy")
    assert call(cluster.url, "PUT", f"/ais/{bucket}/dir/o", b"x")[0] == 200
    assert listed(cluster.url, bucket) == ["dir/o"]


def test_concurrent_changes_of_properties_lose_none(cluster: LocalCluster) -> None:
    from concurrent.futures import ThreadPoolExecutor

    bucket = make_bucket(cluster.url, "together")
    changes = [
        {"checksum": {"validate_warm_get": True}},
        {"versioning": {"enabled": False}},
        {"extra": {"custom": "x"}},
        {"features": "2"},
    ]
    with ThreadPoolExecutor(4) as pool:
        assert (
            list(
                pool.map(
                    lambda v: call(cluster.url, "PATCH", f"/v1/buckets/{bucket}", action("set-bprops", v))[0], changes
                )
            )
            == [200] * 4
        )
    props = json.loads(call(cluster.url, "HEAD", f"/v1/buckets/{bucket}")[1]["ais-bucket-props"])
    assert props["checksum"]["validate_warm_get"] is True
    assert (props["versioning"]["enabled"], props["extra"]["custom"], props["features"]) == (False, "x", "2")


def test_error_log_holds_what_went_wrong_and_the_archive_all_logs(cluster: LocalCluster) -> None:
    assert call(cluster.url, "PUT", "/v1/cluster", action("rotate-logs"))[0] == 200
    status, _, text = call(cluster.url, "GET", "/v1/daemon?what=log&severity=info")
    assert status == 200
    assert text.startswith(b"I ")
    status, _, data = call(cluster.url, "GET", "/v1/daemon?what=log&all=true")
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        assert {"server.log", "server.log.1"} <= set(archive.getnames())


def test_buckets_configuration_and_job_history_survive_a_restart(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "data") as first:
        url = first.url
        bucket = make_bucket(url, "kept", ("a", "b"))
        assert (
            call(url, "PATCH", f"/v1/buckets/{bucket}", action("set-bprops", {"chunks": {"chunk_size": "1.5GiB"}}))[0]
            == 200
        )
        assert call(url, "PUT", "/v1/cluster", action("set-config", {"checksum": {"type": "md5"}}))[0] == 200
        _, _, job = call(
            url, "DELETE", f"/v1/buckets/{bucket}", action("delete-listrange", {"objnames": ["a", "gone"]})
        )
        before = finished(url, job)
        uuid = json.loads(call(url, "GET", "/v1/daemon?what=smap")[2])["uuid"]
    with LocalCluster(tmp_path / "data") as second:
        url = second.url
        assert finished(url, job) == before
        assert listed(url, bucket) == ["b"]
        make_bucket(url, "new")
        props = json.loads(call(url, "HEAD", "/v1/buckets/new")[1]["ais-bucket-props"])
        assert props["checksum"]["type"] == "md5"
        assert (
            json.loads(call(url, "HEAD", f"/v1/buckets/{bucket}")[1]["ais-bucket-props"])["checksum"]["type"]
            == "xxhash2"
        )
        assert json.loads(call(url, "GET", "/v1/daemon?what=smap")[2])["uuid"] == uuid


def test_nodes_of_several_targets_answer_for_themselves(cluster3: LocalCluster) -> None:
    url = cluster3.url
    smap = json.loads(call(url, "GET", "/v1/daemon?what=smap")[2])
    assert len(smap["tmap"]) == 3
    for what in ("node_stats", "sysinfo"):
        assert set(json.loads(call(url, "GET", f"/v1/cluster?what={what}")[2])["target"]) == set(smap["tmap"])
    for target in smap["tmap"]:
        status, _, body = call(url, "GET", "/v1/reverse/daemon?what=node_status", headers={"Ais-Node-Id": target})
        assert status == 200
        assert json.loads(body)["snode"]["daemon_id"] == target
        status, _, text = call(url, "GET", "/v1/reverse/daemon?what=log", headers={"Ais-Node-Id": target})
        assert status == 200
        assert target.encode() in text or text.startswith(b"I ")
