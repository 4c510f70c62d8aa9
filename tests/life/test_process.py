"""The process around a node: its log, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from aistore.server import folder, process
from aistore.server.folder import find_server
from aistore.server.logs import LogFormatter
from aistore.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from programs import Program

    Run = Callable[..., Program]
    Wait = Callable[[Callable[[], object], str], None]


def test_told_to_stop_it_ends_cleanly_and_says_so(tmp_path: Path, wait_until: Wait) -> None:
    with LocalCluster(tmp_path) as cluster:
        os.kill(cluster.pid, signal.SIGTERM)
        wait_until(lambda: find_server(tmp_path) is None, "the server's end")
        log = (tmp_path / "server.log").read_text()
        assert f"serving {tmp_path} at {cluster.url}" in log
        assert "stopping: told to stop" in log
        assert (tmp_path / "lock").read_bytes() == b""


def test_ctrl_c_on_the_terminal_is_for_the_starter(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        os.kill(cluster.pid, signal.SIGINT)
        cluster.client().bucket("b").create()
        assert "stopping" not in (tmp_path / "server.log").read_text()


def test_folder_tells_its_format_and_who_serves_it(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        assert json.loads((tmp_path / "format").read_text()) == {"format": 1}
        assert json.loads((tmp_path / "lock").read_text()) == {"pid": cluster.pid, "url": cluster.url, "grace": 10.0}


def test_log_rotates_and_standard_error_follows(program: Run, tmp_path: Path) -> None:
    code = """
import os, pathlib, sys
from aistore.server import process
from aistore.server.settings import ServerSettings
process._LOG_BYTES = 1000
process._open_log(ServerSettings(pathlib.Path(sys.argv[1])), True)
for number in range(100):
    process.log.info("line %d", number)
os.write(2, b"the last words\\n")
"""
    assert program(code, tmp_path).finish() == 0
    logs = sorted(tmp_path.glob("server.log*"))
    assert [path.name for path in logs] == ["server.log", "server.log.1", "server.log.2", "server.log.3"]
    assert all(path.stat().st_size <= 1100 for path in logs)
    assert (tmp_path / "server.log").read_text().endswith("line 99\nthe last words\n")


@pytest.mark.parametrize("targets", [1, 2])
def test_what_is_in_a_data_folder_is_for_its_owner(tmp_path: Path, targets: int, wait_until: Wait) -> None:
    """Whatever the umask says: the content of small objects lies in the catalog and in its log."""
    before = os.umask(0o000)
    try:
        with LocalCluster(tmp_path / "data", targets=targets) as cluster, cluster.client() as client:
            bucket = client.bucket("b").create()
            bucket.object("small").get_writer().put_content(b"secret")
            bucket.object("large").get_writer().put_content(b"secret" * 20_000)
            bucket.object("growing").get_writer().append_content(b"secret")
            wait_until((cluster.path / "reserve").exists, "all that is made beside what clients do")
            found = [cluster.path, *cluster.path.rglob("*")]
            assert {"catalog.db", "catalog.db-wal", "content", "work", "server.log"} <= {path.name for path in found}
            assert [str(path) for path in found if path.stat().st_mode & 0o077] == []
    finally:
        os.umask(before)


def test_a_server_that_cannot_tell_whether_it_is_used_goes_on_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(errno.EMFILE, "no descriptor left"), PermissionError("not now")]
    reasons: list[process.Stop] = []

    def lock_file(path: Path) -> int | None:
        if failures:
            raise failures.pop()
        return folder.lock_file(path)

    monkeypatch.setattr("aistore.server.process.lock_file", lock_file)
    settings = ServerSettings(tmp_path, idle_exit=0.0)
    asyncio.run(asyncio.wait_for(process._watch_clients(settings, reasons.append), 20))
    assert reasons == [process.Stop.IDLE]


def test_no_line_of_the_log_comes_from_outside() -> None:
    record = logging.makeLogRecord(
        {"levelno": logging.ERROR, "msg": "GET %s failed", "args": ("/a\nI 12:00:00 forged",)}
    )
    error = ValueError("b\nI 12:00:00 forged\x85I 12:00:00 forged")
    record.exc_info = type(error), error, None
    first, *rest = LogFormatter().format(record).splitlines()
    assert first.startswith("E ")
    assert len(rest) == 4
    assert all(line.startswith("  ") for line in rest)
