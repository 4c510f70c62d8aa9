"""`local:` endpoints: one server a data folder, whoever comes first, as long as anybody uses it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from aistore.local import ServerStartError, resolve
from aistore.local.shared import data_dir_of
from aistore.server.folder import find_server
from programs import end_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from programs import Program

    Run = Callable[..., Program]
    Wait = Callable[[Callable[[], object], str], None]

JOIN = """
import sys
from aistore.local import resolve
print(resolve(sys.argv[1], idle_exit=float(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose server, if there is one, is gone after the test."""
    yield tmp_path / "data"
    end_server(tmp_path / "data")


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("local:///srv/ais", "/srv/ais"),
        ("local:/srv/ais", "/srv/ais"),
        ("local:///srv/with%20blank", "/srv/with blank"),
        ("local:./here", str(Path.cwd().resolve() / "here")),
        ("local:here", str(Path.cwd().resolve() / "here")),
        ("local:~/ais", str(Path("~/ais").expanduser().resolve())),
    ],
)
def test_spellings(endpoint: str, path: str) -> None:
    assert data_dir_of(endpoint) == Path(path)


@pytest.mark.parametrize("endpoint", ["local:", "local://", "local:///"])
def test_without_a_path_it_is_the_users_folder(endpoint: str, local_dir: Path) -> None:
    assert data_dir_of(endpoint) == local_dir


def test_users_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIS_LOCAL_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    monkeypatch.setattr(sys, "platform", "linux")
    assert data_dir_of("local:") == Path("/xdg/aistore")
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/invalid")
    assert data_dir_of("local:") == Path("~/.local/share/aistore").expanduser()


@pytest.mark.parametrize("endpoint", ["local://host/path", "http://127.0.0.1:8080", "local:/a%00b"])
def test_what_is_no_folder(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"names a host|does not start|NUL"):
        data_dir_of(endpoint)


@pytest.mark.parametrize("count", [16, pytest.param(64, marks=pytest.mark.long)])
def test_many_processes_at_once_get_one_server(folder: Path, count: int) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN, f"local:{folder}", "60"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    urls = {process.communicate(timeout=120)[0].strip() for process in processes}
    running = find_server(folder)
    assert running is not None
    assert urls == {running.url}
    assert (folder / "server.log").read_text().count(" serving ") == 1


def test_joining_twice_is_the_same_server(folder: Path) -> None:
    assert resolve(f"local:{folder}") == resolve(f"local://{folder}")


def test_client_of_a_local_endpoint(folder: Path) -> None:
    from aistore import Client

    Client(f"local://{folder}").bucket("b").create().object("a").get_writer().put_content(b"1")
    assert Client(f"local:{folder}").bucket("b").object("a").get_reader().read_all() == b"1"


def test_server_stays_while_a_client_lives_and_leaves_afterwards(program: Run, wait_until: Wait, folder: Path) -> None:
    first = program(JOIN, f"local:{folder}", 0.1)
    url = first.line()
    second = program(JOIN, f"local:{folder}", 0.1)
    assert second.line() == url
    first.kill()
    with urllib.request.urlopen(f"{url}/v1/health", timeout=10) as response:
        assert response.status == 200
    second.kill()
    wait_until(lambda: find_server(folder) is None, "the server's leaving")
    assert "nobody used it any more" in (folder / "server.log").read_text()


def test_server_whose_folder_is_removed_ends(program: Run, wait_until: Wait, folder: Path) -> None:
    joined = program(JOIN, f"local:{folder}", 0.1)
    url = urlsplit(joined.line())
    assert url.hostname is not None

    def is_removed() -> bool:
        shutil.rmtree(folder, ignore_errors=True)  # the server, which still runs, may write between two of its steps
        return not folder.exists()

    wait_until(is_removed, "the folder's removal")

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((url.hostname, url.port)) != 0

    wait_until(refuses, "the server's end")


def test_forked_worker_counts_as_a_client(program: Run, wait_until: Wait, folder: Path) -> None:
    code = """
import os, sys, time
from aistore.local import resolve
url = resolve(sys.argv[1], idle_exit=0.1)
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, url, flush=True)
"""
    parent = program(code, f"local:{folder}")
    child, url = parent.line().split()
    assert parent.finish() == 0
    joined = program(JOIN, f"local:{folder}", 0.1)
    assert joined.line() == url
    os.kill(int(child), signal.SIGKILL)
    joined.kill()
    wait_until(lambda: find_server(folder) is None, "the server's leaving")


def test_server_that_was_killed_is_started_again(wait_until: Wait, folder: Path) -> None:
    resolve(f"local:{folder}")
    running = find_server(folder)
    assert running is not None
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: find_server(folder) is None, "the server's end")
    url = resolve(f"local:{folder}")
    again = find_server(folder)
    assert again is not None
    assert (again.url, again.pid != running.pid) == (url, True)


def test_somebody_elses_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ServerStartError, match="not an AIStore data folder"):
        resolve(f"local:{tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_path_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerStartError, match="file"):
        resolve(f"local:{tmp_path}/file/data")
