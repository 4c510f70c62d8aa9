"""Looking at ETLs, stopping, starting and deleting them (protocol/50 14: 17-30)."""

from __future__ import annotations

import base64
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from aistore import LocalCluster
from calling import Caller
from etl_rest import Etl, acting, files_of, parent_of, processes_of
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

HTTP = "HTTPMultiThreadedServer"
ECHO = {"runtime": {"image": "aistorage/transformer_echo:latest"}}


def targets(call: Caller) -> list[str]:
    return sorted(json.loads(call("GET", "/v1/daemon?what=smap").body)["tmap"])


@pytest.mark.parametrize("count", [1, 3])
def test_a_cluster_begins_without_etls(count: int) -> None:
    with LocalCluster(targets=count) as cluster, Caller(cluster.url) as call:
        got = call("GET", "/v1/etl")
        assert (got.status, got.body) == (200, b"[]\n")


def test_details_echo_the_message(etl: Etl) -> None:
    env = {"SEED": "7", "EMPTY": ""}
    etl.started(acting(HTTP), env=env, obj_timeout="90s")
    document = json.loads(etl.ask("GET", "?uuid=").body)
    assert list(document) == ["init_msg"]
    message = document["init_msg"]
    assert message["name"] == etl.name
    assert message["communication"] == "hpush://"
    assert message["obj_timeout"] == "1m30s"
    assert message["support_direct_put"] is True
    assert message["runtime"]["image"].startswith("aistorage/runtime_python:")
    assert message["runtime"]["env"][1:] == [{"name": name, "value": value} for name, value in env.items()]


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("POST", "/start"), ("POST", "/stop"), ("DELETE", "")])
def test_a_name_that_nobody_knows(etl: Etl, method: str, tail: str) -> None:
    got = etl.ask(method, tail)
    assert got.status == 404
    assert f"etl job {etl.name} does not exist" in str(got.error["message"])


@pytest.mark.parametrize("tail", ["", "/logs", "/health", "/metrics"])
def test_what_is_stopped_tells_nothing(etl: Etl, tail: str) -> None:
    assert etl.init(ECHO).status == 200
    assert etl.ask("GET", tail).status == 200
    assert etl.ask("POST", "/stop").status == 200
    got = etl.ask("GET", tail)
    assert got.status == 404
    assert str(got.error["message"]).endswith(f"]: {etl.name} does not exist")


def test_stop_and_start(etl: Etl, etl_cluster: LocalCluster, src: str) -> None:
    before = processes_of(etl_cluster)
    etl.started(acting(HTTP))
    first = etl.listed["xaction_id"]
    secret = json.loads(etl.get(src, "a.txt", "env").body)["AIS_TARGET_URL"]
    assert etl.ask("POST", "/start").error["message"] == (
        f'invalid action "can\'t start ETL[{etl.name}] during Running stage"'
    )
    for _ in range(2):
        stopped = etl.ask("POST", "/stop")
        assert (stopped.status, stopped.body) == (200, b"")
        assert (etl.listed["stage"], etl.listed["xaction_id"]) == ("Aborted", "")
    assert processes_of(etl_cluster) <= before
    assert etl.get(src, "a.txt").status == 404
    started = etl.ask("POST", "/start")
    assert started.status == 200
    assert etl.listed["xaction_id"] == started.body.decode() != first
    assert json.loads(etl.get(src, "a.txt", "env").body)["AIS_TARGET_URL"] != secret
    assert etl.listed["obj_count"] == 1


def test_delete_while_it_runs(etl: Etl, etl_cluster: LocalCluster) -> None:
    before = processes_of(etl_cluster)
    etl.started(acting(HTTP))
    assert processes_of(etl_cluster) > before
    got = etl.ask("DELETE")
    assert (got.status, got.body) == (200, b"")
    assert etl.listed == {}
    assert processes_of(etl_cluster) <= before
    assert not [one for one in files_of(etl_cluster) if one.startswith(etl.name)]


def test_logs(etl: Etl) -> None:
    etl.started(acting(HTTP))
    known = targets(etl.call)
    until(lambda: "constructed" in etl.log)
    (shown,) = json.loads(etl.ask("GET", "/logs").body)
    assert shown["target_id"] in known
    assert "constructed" in base64.b64decode(shown["logs"]).decode()
    for target in known:
        (one,) = json.loads(etl.ask("GET", f"/logs/{target}").body)
        assert one["target_id"] == target
    got = etl.ask("GET", "/logs/nobody")
    assert (got.status, got.error["message"]) == (400, 'unknown target "nobody"')


def test_health_and_metrics(shared: Callable[..., Etl]) -> None:
    etl = shared()
    (health,) = json.loads(etl.ask("GET", "/health").body)
    assert health["health_status"] == "Running"
    (metrics,) = json.loads(etl.ask("GET", "/metrics").body)
    assert metrics["target_id"] == health["target_id"]
    assert isinstance(metrics["cpu"], float)
    assert metrics["mem"] > 1 << 20


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/other", 400),
        ("GET", "/logs/a/b", 400),
        ("POST", "/restart", 400),
        ("POST", "", 400),
        ("PUT", "", 400),
        ("DELETE", "/logs", 400),
        ("PATCH", "", 405),
        ("HEAD", "", 405),
    ],
)
def test_calls_that_there_are_not(shared: Callable[..., Etl], method: str, path: str, status: int) -> None:
    assert shared().ask(method, path).status == status


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_names_that_are_none(call: Caller, method: str) -> None:
    got = call(method, "/v1/etl/abc")
    assert (got.status, got.error["message"]) == (400, 'ETL name "abc" is too short')


def test_methods_of_the_resource(call: Caller) -> None:
    got = call("PATCH", "/v1/etl")
    assert (got.status, got.headers["Allow"]) == (405, "DELETE, GET, POST, PUT")


def test_aborting_its_job_stops_it(etl: Etl, etl_cluster: LocalCluster) -> None:
    before = processes_of(etl_cluster)
    etl.started(acting(HTTP))
    got = etl.call.action("PUT", "/v1/cluster", "stop", {"id": etl.listed["xaction_id"]})
    assert got.status == 200
    until(lambda: etl.stage == "Aborted")
    until(lambda: processes_of(etl_cluster) <= before)


@pytest.mark.parametrize("kind", [HTTP, "FastAPIServer"])
def test_the_end_of_the_main_process_ends_it(etl: Etl, etl_cluster: LocalCluster, kind: str) -> None:
    before = processes_of(etl_cluster)
    etl.started(acting(kind), env={"NUM_WORKERS": "2"})
    job = etl.listed["xaction_id"]
    parents = {pid: parent_of(pid) for pid in processes_of(etl_cluster) - before}
    (main,) = (pid for pid, parent in parents.items() if parent not in parents)  # the keeper
    for _ in range(2 if os.geteuid() == 0 else 1):  # behind it, and where there is one, the init of its namespace
        (main,) = (pid for pid, parent in parents.items() if parent == main)
    os.kill(main, signal.SIGKILL)
    until(lambda: etl.stage == "Aborted")
    until(lambda: processes_of(etl_cluster) <= before)
    said: dict[str, Any] = {}

    def has_ended() -> bool:
        said.update(json.loads(etl.call("GET", "/v1/cluster?what=status", json.dumps({"id": job}).encode()).body))
        return bool(said["aborted"])

    until(has_ended)
    assert "its main process ended with status 137" in said["err"]
    assert etl.ask("POST", "/start").status == 200


def test_a_worker_that_dies_is_replaced(etl: Etl, src: str) -> None:
    etl.started(acting("FastAPIServer"), env={"NUM_WORKERS": "2"})
    assert etl.get(src, "a.txt", "die").status == 400
    assert etl.get(src, "a.txt").body == b"CONTENT OF A.TXT"
    assert etl.stage == "Running"
