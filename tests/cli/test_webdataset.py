"""The `ais` command as webdataset calls it: `ais get URL -` and `ais put - URL`, from its own handlers and from `pipe:` URLs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore import LocalCluster
    from aistore.sdk import Bucket
    from peer import PeerConnection

    Run = Callable[..., Any]

pytest.importorskip("webdataset", reason="it drives webdataset: run make test")

MEMORY_MIB = 100
"""More than the interpreter and what the command imports take, and less than the content."""

READ = """
import webdataset
for sample in webdataset.WebDataset(given["urls"], shardshuffle=False, empty_check=False):
    found.append([sample["__key__"], sample["txt"].decode(), len(sample["bin"])])
"""
WRITE = """
import webdataset
with webdataset.ShardWriter(given["pattern"], maxcount=4, verbose=0) as writer:
    for number in range(10):
        writer.write({"__key__": f"{number:03}", "txt": f"sample {number}", "bin": bytes(number * 1000)})
"""
SAMPLES = [[f"{number:03}", f"sample {number}", number * 1000] for number in range(10)]


@pytest.fixture
def environment(tmp_path: Path, cluster: LocalCluster) -> dict[str, str]:
    """That of a user who has `ais` on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "ais"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m aistore.cli.main "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "AIS_ENDPOINT": cluster.url}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Runs a program that uses webdataset; what it put into `found`. Raises what it printed if it failed."""

    def run(code: str, endpoint: str = "", **given: object) -> Any:
        program = f"import json, sys\ngiven, found = json.loads(sys.argv[1]), []\n{code}\nprint(json.dumps(found))"
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(given)],
            env={**environment, "AIS_ENDPOINT": endpoint or environment["AIS_ENDPOINT"]},
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(
    ("put", "get"), [("ais://{}/", "ais://{}/"), ("pipe:ais put - ais://{}/", "pipe:ais get ais://{}/")]
)
def test_shards_go_in_and_come_back(bucket: Bucket, run: Run, put: str, get: str) -> None:
    run(WRITE, pattern=put.format(bucket.name) + "dir/s-%02d.tar")
    names = [entry.name for entry in bucket.list_all_objects()]
    assert names == [f"dir/s-{number:02}.tar" for number in range(3)]
    end = " -" if get.startswith("pipe") else ""
    assert run(READ, urls=[f"{get.format(bucket.name)}{name}{end}" for name in names]) == SAMPLES


def test_objects_read_as_files_are_shards(bucket: Bucket, run: Run, cluster: LocalCluster) -> None:
    code = f"""
from aistore.sdk import Client
from webdataset.gopen import gopen_schemes

client = Client({cluster.url!r})

def open_object(url, mode="rb", bufsize=8192):
    one = client.get_object_from_url(url)
    return one.get_reader().as_file() if mode[0] == "r" else one.get_writer().as_file("w")

gopen_schemes["ais"] = open_object
"""
    run(code + WRITE, endpoint="http://127.0.0.1:9", pattern=f"ais://{bucket.name}/s-%02d.tar")
    urls = f"ais://{bucket.name}/s-{{00..02}}.tar"
    assert run(code + READ, endpoint="http://127.0.0.1:9", urls=urls) == SAMPLES


def test_a_missing_shard_is_an_error(bucket: Bucket, run: Run) -> None:
    for url in (f"ais://{bucket.name}/none.tar", f"pipe:ais get ais://{bucket.name}/none.tar -"):
        with pytest.raises(RuntimeError) as caught:
            run(READ, urls=[url])
        assert "none.tar' is not in bucket" in str(caught.value)


def test_a_bucket_that_cannot_be_written_is_an_error(run: Run) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(WRITE, pattern="ais://no-such-bucket/s-%d.tar")
    assert "no-such-bucket" in str(caught.value)


def test_a_reader_that_closes_early_is_content(bucket: Bucket, run: Run) -> None:
    bucket.object("large").get_writer().put_content(bytes(8 << 20))
    code = """
from webdataset.gopen import gopen
for url in given["urls"]:
    with gopen(url, "rb") as file:
        found.append(len(file.read(10)))
    found.append(file.status)
"""
    url = f"ais://{bucket.name}/large"
    assert run(code, urls=[url, f"pipe:ais get {url} -"]) == [10, 141, 10, 141]


def test_a_stream_that_stays_broken_is_an_error(run: Run, environment: dict[str, str]) -> None:
    def script(connection: PeerConnection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 10_000)
        connection.close()

    with Peer(script) as peer:
        done = subprocess.run(
            ["ais", "get", "ais://b/x.tar", "-"],
            env={**environment, "AIS_ENDPOINT": peer.url},
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(b"ais: ")
        assert set(done.stdout) <= set(b"x")
        with pytest.raises(RuntimeError, match=r"tarfile|exit 1"):
            run(READ, endpoint=peer.url, urls=["ais://b/x.tar"])


def test_output_that_cannot_be_written_is_an_error(bucket: Bucket, environment: dict[str, str]) -> None:
    bucket.object("x").get_writer().put_content(b"x")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            ["ais", "get", f"ais://{bucket.name}/x", "-"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert (done.returncode, b"No space left" in done.stderr) == (1, True)


def test_memory_does_not_grow_with_the_content(bucket: Bucket, environment: dict[str, str], tmp_path: Path) -> None:
    url = f"ais://{bucket.name}/large"
    content = tmp_path / "content"
    with content.open("wb") as file:
        file.truncate(2 * MEMORY_MIB << 20)
    back = tmp_path / "back"
    with content.open("rb") as source, back.open("wb") as sink:
        # Through cat: a pipe, as webdataset has it.
        for words, command in ((["put", "-", url], "cat | ais"), (["get", url, "-"], "ais")):
            line = f"{command} {shlex.join(words)}{' | cat' if words[0] == 'get' else ''}"
            measured = line.replace("ais ", f"{shlex.quote(sys.executable)} -c {shlex.quote(MEASURED)} ", 1)
            done = subprocess.run(
                ["/bin/sh", "-c", measured],
                env=environment,
                stdin=source,
                stdout=sink,
                stderr=subprocess.PIPE,
                timeout=120,
            )
            status, peak = map(int, done.stderr.split())
            assert status == 0
            assert peak >> 10 < MEMORY_MIB
    assert back.stat().st_size == content.stat().st_size


MEASURED = """
import os, sys
_, status, used = os.wait4(os.spawnvp(os.P_NOWAIT, "ais", ["ais", *sys.argv[1:]]), 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss, file=sys.stderr)
"""
