"""`ais doctor` on folders that nobody serves, and on one that is served."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from aistore import AsyncClient, Client, LocalCluster
from aistore.cli.main import main
from aistore.wire import access
from guarding import token as token_of

if TYPE_CHECKING:
    from pathlib import Path

    from guarding import Guarded

AIS = (sys.executable, "-m", "aistore.cli.main")
CONTENT = b"0123456789abcdef" * 6000


def ais(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AIS, "doctor", *map(str, arguments)], capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with LocalCluster(tmp_path / "d", durability="relaxed") as cluster:
        bucket = cluster.client().bucket("b").create()
        bucket.object("large").get_writer().put_content(CONTENT)
        bucket.object("small").get_writer().put_content(CONTENT[:100])
    return tmp_path / "d"


def flip(folder: Path) -> Path:
    (path,) = (folder / "content").glob("*/*")
    with path.open("r+b") as file:
        file.seek(4000)
        file.write(b"\xff")
    return path


def test_a_folder_in_order(folder: Path) -> None:
    done = ais(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 objects" in done.stdout and "all is well" in done.stdout
    said = json.loads(ais(folder, "--json", "--quick").stdout)
    assert (said["mode"], said["finished"], said["objects"], said["bytes"]) == ("quick", True, 2, 0)


def test_damage_is_told_contained_and_healed(folder: Path) -> None:
    path = flip(folder)
    done = ais(folder)
    assert done.returncode == 1
    assert "content-damaged  ais://b/large: xxhash2(" in done.stdout and "repair would: " in done.stdout
    done = ais(folder, "--repair")
    assert done.returncode == 1  # what was lost stays lost
    assert f"what there is lies in {path}" in done.stdout
    said = json.loads(ais(folder, "--json").stdout)
    assert [(one["kind"], one["where"], one["state"]) for one in said["problems"]] == [
        ("content-damaged", "ais://b/large", "contained")
    ]
    with LocalCluster(folder, durability="relaxed") as cluster:
        large = cluster.client().bucket("b").object("large")
        with pytest.raises(Exception, match="BAD DATA CHECKSUM"):
            large.get_reader().read_all()
        with pytest.raises(
            Exception, match="BAD DATA CHECKSUM"
        ):  # and not as a fault of the server, which clients repeat
            large.copy(cluster.client().bucket("b").object("copy"))
        large.get_writer().put_content(CONTENT)  # the same content: it mends the object
        assert large.get_reader().read_all() == CONTENT
    assert ais(folder).returncode == 0


def test_names_whose_bytes_have_changed(folder: Path) -> None:
    flip(folder)
    with closing(sqlite3.connect(folder / "catalog.db")) as db:
        db.execute("UPDATE object SET name = CAST(x'7aff' || name AS TEXT)")
        db.commit()
    for options, state in (((), "found"), (("--repair",), "contained"), ((), "contained")):
        said = json.loads(ais(folder, "--json", *options).stdout)
        assert said["finished"] and said["objects"] == 2
        assert ["content-damaged", "ais://b/z\\xfflarge", state] in [
            [one["kind"], one["where"], one["state"]] for one in said["problems"]
        ]
        assert said["found"]["unreadable"] == 2
    done = ais(folder)
    assert (done.returncode, done.stderr) == (1, "") and "ais://b/z\\xffsmall: its name is not text" in done.stdout


def test_leftovers_go_with_repair_only(folder: Path) -> None:
    orphan = next((folder / "content").glob("*/*")).with_name(f"{8000:016x}")
    orphan.write_bytes(b"nobody's")
    orphan.chmod(0o600)
    assert (ais(folder).returncode, orphan.exists()) == (1, True)
    done = ais(folder, "--repair")
    assert (done.returncode, orphan.exists()) == (0, False)
    assert "1 problem, all repaired" in done.stdout
    assert (folder / "lost+found" / orphan.name).read_bytes() == b"nobody's"


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    done = ais(tmp_path / "nothing")
    assert (done.returncode, "is no data folder" in done.stderr) == (2, True)
    (tmp_path / "content").mkdir()
    done = ais(tmp_path)
    assert (done.returncode, "it is missing" in done.stdout) == (1, True)
    assert ais("--no-such-option").returncode == 2
    assert ais(tmp_path, "--rate", "fast").returncode == 2


def test_ctrl_c_leaves_a_folder_that_the_next_can_check(folder: Path) -> None:
    flip(folder)
    process = subprocess.Popen([*AIS, "doctor", str(folder), "--repair", "--rate", "1KiB"], stdout=subprocess.PIPE)
    while not (folder / "lock").read_bytes():  # until it has the folder
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (130, -signal.SIGINT)
    process.communicate()
    assert ais(folder).returncode == 1


def test_a_served_folder_is_checked_by_its_server(folder: Path) -> None:
    with LocalCluster(folder, durability="relaxed") as cluster:
        done = ais(folder, "--quick")
        assert (done.returncode, "all is well" in done.stdout) == (0, True), done
        flip(folder)
        done = ais("--endpoint", cluster.url, "--json")
        said = json.loads(done.stdout)
        assert (done.returncode, said["found"], said["repair"]) == (1, {"content-damaged": 1}, False)
        done = ais(folder, "--repair")
        assert (done.returncode, "cannot be mended: have it answer an error" in done.stdout) == (1, True), done
        done = ais(folder, "--rate", "1MiB")
        assert (done.returncode, "keeps to a rate of its own" in done.stderr) == (2, True)
        assert len(cluster.client().cluster().list_jobs_status("scrub")) == 3
    assert ais("--endpoint", "http://127.0.0.1:9").returncode == 2


def test_a_folder_that_is_served_with_tls_is_checked_without_more_words(folder: Path) -> None:
    with LocalCluster(folder, durability="relaxed", tls=True, etl=False):
        done = ais(folder, "--quick")
        assert (done.returncode, done.stderr, "all is well" in done.stdout) == (0, "", True), done


def test_where_tokens_are_asked_for_it_is_for_administrators(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def doctor(*arguments: str) -> int:
        return main(["doctor", "--quick", *arguments])

    served = str(guarded.folder)
    monkeypatch.setenv("AIS_AUTHN_TOKEN_FILE", str(tmp_path / "none"))
    every_right = token_of(guarded.uuid, (1 << 63) - 1 & ~access.ADMIN)
    for given, refusal in (
        ("", f"token required on {guarded.url} (log in: ais authn login NAME)"),
        (token_of(admin=True, lifetime=-10), "token expired"),
        (every_right, "user `alice` has insufficient permissions"),
    ):
        monkeypatch.setenv("AIS_AUTHN_TOKEN", given)
        for where in ((served,), ("--endpoint", guarded.url)):
            assert doctor(*where, "--repair") == 2
            said = capsys.readouterr()
            assert (said.out, refusal in said.err) == ("", True), said
            assert "is for administrators: name the token of one by AIS_AUTHN_TOKEN" in said.err
            assert "STATUS:" not in said.err
            assert not given or given not in said.err
    root = token_of(admin=True)
    with Client(guarded.url, token=root) as client:
        assert client.cluster().list_jobs_status("scrub") == []
    monkeypatch.setenv("AIS_AUTHN_TOKEN", root)
    assert (doctor(served), "all is well" in capsys.readouterr().out) == (0, True)
    monkeypatch.delenv("AIS_AUTHN_TOKEN")
    (tmp_path / "none").write_text(json.dumps({"token": token_of(guarded.uuid, access.ADMIN | access.SHOW_CLUSTER)}))
    assert doctor("--endpoint", guarded.url) == 0


def test_an_asynchronous_client_is_told_what_was_found(folder: Path) -> None:
    flip(folder)

    async def told(url: str) -> tuple[object, object]:
        async with AsyncClient(url) as client:
            job = client.job(await client.job(job_kind="scrub").start())
            found = await job.wait(timeout=60)
            assert not found.success
            other = client.job(await client.job(job_kind="cleanup-store").start())
            return await job.findings(), (await other.findings(), await client.job("no-such-job").findings())

    with LocalCluster(folder, durability="relaxed", etl=False) as cluster:
        found, of_others = asyncio.run(told(cluster.url))
        assert of_others == (None, None)
        assert isinstance(found, dict)
        assert (found["found"], found["finished"], found["objects"]) == ({"content-damaged": 1}, True, 2)
        assert [(one["kind"], one["where"]) for one in found["problems"]] == [("content-damaged", "ais://b/large")]
        with cluster.client() as client:
            (job,) = client.cluster().list_jobs_status("scrub")
            assert client.job(job.uuid).findings() == found
