"""A server that is told to stop: what runs is finished, within a time, and nothing else begins."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from aistore.sdk import Namespace
from aistore.server.folder import find_server
from calling import Caller
from programs import target_pids
from serving import Raw, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Wait = Callable[[Callable[[], object], str], None]

LARGE = 12_000_000  # more than the kernel keeps for a client
CONTENT = bytes(range(256)) * 1200


def place_of(cluster: LocalCluster, method: str, name: str) -> tuple[int, str]:
    """Port and target where a call on an object of bucket `b` is executed."""
    with Caller(cluster.url) as call:
        url = urlsplit(call.redirected(method, f"/v1/objects/b/{name}?provider=ais"))
    return url.port or 0, f"{url.path}?{url.query}"


def begin_upload(cluster: LocalCluster, name: str) -> Raw:
    """An upload of which half is sent, and is under way: the server said so."""
    port, target = place_of(cluster, "PUT", name)
    raw = Raw(port)
    raw.send(request("PUT", target, CONTENT, "Expect: 100-continue\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert raw.answer().status == 100
    raw.send(CONTENT[: len(CONTENT) // 2])
    return raw


def begin_download(cluster: LocalCluster, name: str) -> Raw:
    port, target = place_of(cluster, "GET", name)
    raw = Raw(port, receive_buffer=65536)
    raw.send(request("GET", target))
    assert raw.sock.recv(1, 2)  # MSG_PEEK: it has begun
    return raw


@pytest.mark.parametrize("targets", [1, 3])
def test_what_runs_is_finished(targets: int, tmp_path: Path, wait_until: Wait) -> None:
    with (
        LocalCluster() as far,
        LocalCluster(tmp_path, targets=targets, backends={"ais": {"far": far.url}}, limits={"grace": 240}) as near,
    ):
        far.client().bucket("there").create().object("a").get_writer().put_content(b"far away")
        remote = near.client().bucket("there", namespace=Namespace(uuid="far"))
        assert [entry.name for entry in remote.list_all_objects()] == ["a"]
        near.client().bucket("b").create().object("large").get_writer().put_content(bytes(LARGE))
        os.kill(far.pid, signal.SIGSTOP)
        try:
            job = remote.objects(obj_names=["a"]).prefetch()  # which waits for the other cluster
            with (
                begin_upload(near, "new") as upload,
                begin_download(near, "large") as download,
                Raw(urlsplit(near.url).port or 0) as idle,
            ):
                assert idle.ask("GET", "/v1/health").status == 200
                os.kill(near.pid, signal.SIGTERM)
                assert idle.rest() == b""
                for node in (urlsplit(near.url).port or 0, upload.sock.getpeername()[1]):
                    wait_until(partial(refuses, node), "the end of listening")
                upload.send(CONTENT[len(CONTENT) // 2 :])
                answer = upload.answer()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                assert upload.rest() == b""
                assert download.answer().body == bytes(LARGE)
            wait_until(lambda: find_server(tmp_path) is None, "the server's end")
        finally:
            os.kill(far.pid, signal.SIGCONT)
        near.restart()
        assert near.client().bucket("b").object("new").get_reader().read_all() == CONTENT
        snapshots = near.client().job(job).get_details().list_snapshots()
        assert {snapshot.aborted for snapshot in snapshots} == {True}
        assert "the server was stopped" in str(snapshots[0].abort_err)


def test_a_second_signal_ends_it_at_once(tmp_path: Path, wait_until: Wait) -> None:
    with LocalCluster(tmp_path, targets=3, limits={"grace": 600}) as cluster:
        cluster.client().bucket("b").create()
        gateway, targets = cluster._state.process, list(target_pids(cluster).values())
        with begin_upload(cluster, "new") as upload:
            over = threading.Event()

            def go_on() -> None:  # slowly, but not too slowly
                try:
                    for at in range(len(CONTENT) // 2, len(CONTENT) - 1, 100):
                        upload.send(CONTENT[at : at + 100])
                        if over.wait(0.05):
                            return
                except OSError:
                    return

            sending = threading.Thread(target=go_on)
            sending.start()
            try:
                os.kill(gateway.pid, signal.SIGTERM)
                wait_until(lambda: "stopping" in (tmp_path / "server.log").read_text(), "the begin of the stop")
                os.kill(gateway.pid, signal.SIGTERM)
                assert gateway.wait(60) == 128 + signal.SIGTERM
            finally:
                over.set()
                sending.join()
        wait_until(lambda: not any(map(is_alive, targets)), "the end of the targets")
        cluster.restart()
        with Caller(cluster.url) as call:
            assert call("GET", "/v1/objects/b/new?provider=ais").status == 404


def refuses(port: int) -> bool:
    try:
        Raw(port).sock.close()
    except ConnectionRefusedError:
        return True
    return False


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_who_stops_it_learns_how_long_that_may_take(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, limits={"grace": 7}):
        running = find_server(tmp_path)
        assert running is not None
        assert running.grace == 7
