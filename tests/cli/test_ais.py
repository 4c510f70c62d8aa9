"""The `ais` command, as a shell runs it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from aistore.cli.words import in_a_shell
from aistore.server.folder import find_server
from aistore.transport.errors import _NOT_TRUSTED, _REFUSES_CERTIFICATE, _UNVERIFIED, _WANTS_CERTIFICATE
from peer import Peer, echo
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore.sdk import Bucket, Client

    Ais = Callable[..., "subprocess.CompletedProcess[bytes]"]

CERTIFICATES = Path(__file__).parents[1] / "transport" / "certificates"


@pytest.fixture
def ais(tmp_path: Path, local_dir: Path, cluster: LocalCluster) -> Ais:
    """Runs a command that talks to the test's cluster, in a folder of its own."""

    def run(*words: object, stdin: bytes = b"", endpoint: str = cluster.url) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "AIS_LOCAL_DIR": str(local_dir), "AIS_ENDPOINT": endpoint}
        return subprocess.run(
            [sys.executable, "-m", "aistore.cli.main", *map(str, words)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=environment,
            timeout=60,
        )

    return run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`ais serve data` in the foreground, at a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "aistore.cli.main", "serve", "data", "--port", "0", "--capacity", "1GiB"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,  # no terminal
    )
    yield process
    process.kill()
    process.communicate()


def banner(server: subprocess.Popen[str]) -> dict[str, str]:
    """What the server prints when it serves: label to value."""
    assert server.stdout is not None
    said = {"": server.stdout.readline().strip()}
    for line in server.stdout:
        label, _, value = line.strip().partition("  ")
        said[label.strip()] = value.strip()
        if line.startswith("Stop it:"):
            return said
    raise AssertionError(f"no banner, but {said}")


def test_put_ls_get(ais: Ais, bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "a.bin").write_bytes(content)
    assert ais("put", "a.bin", f"{bucket.name}/").returncode == 0
    assert ais("put", "a.bin", f"ais://{bucket.name}/dir/other").returncode == 0
    assert ais("put", "-", f"{bucket.name}/dir/stdin", stdin=b"from a pipe").returncode == 0
    assert f"ais://{bucket.name}" in ais("ls").stdout.decode().split()
    assert ais("put", "-", f"{bucket.name}/dir/stdin", stdin=b"replaced").returncode == 0
    assert ais("get", f"{bucket.name}/dir/stdin", "-").stdout == b"replaced"
    assert ais("ls", bucket.name).stdout == b"a.bin\ndir/other\ndir/stdin\n"
    assert ais("ls", "-l", f"{bucket.name}/dir/s").stdout.split() == [b"8", b"dir/stdin"]
    assert ais("get", f"{bucket.name}/a.bin", "-").stdout == content
    assert ais("get", f"{bucket.name}/dir/other", "back").returncode == 0
    assert ais("get", f"{bucket.name}/dir/other").returncode == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "other").read_bytes() == content


def test_create_a_bucket_and_use_it(ais: Ais, cluster: LocalCluster, client: Client) -> None:
    name = f"made-{uuid.uuid4().hex[:8]}"
    before = ais("put", "-", f"{name}/x")
    assert (before.returncode, before.stderr.decode()) == (
        1,
        f'ais: bucket "ais://{name}" does not exist on {cluster.url} (create it with: ais create)\n',
    )
    assert ais("create", name).returncode == 0
    try:
        assert ais("put", "-", f"ais://{name}/x", stdin=b"x").returncode == 0
        again = ais("create", f"ais://{name}")
        assert (again.returncode, b"already exists" in again.stderr) == (1, True)
    finally:
        client.bucket(name).delete()


def test_get_that_fails_leaves_no_file_and_keeps_the_one_that_is_there(
    ais: Ais, bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("kept")
    done = ais("get", f"{bucket.name}/missing", "mine")
    assert done.returncode == 1
    assert done.stderr.startswith(b"ais: ")
    assert b"Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get", "justabucket"], b"names a bucket, not an object"),
        (["create", "b/x"], b"names an object, not a bucket"),
        (["create", "s3://b"], b"aws://: buckets of this provider are not made"),
        (["ls", "az://b"], b"az://b"),
        (["ls", "ais://@"], b"ais://@CLUSTER/BUCKET/NAME"),
        (["ls", "ais://@nobody/b"], b"--backend ais=URL"),
        (["get", "b/x", "nowhere/x"], b"there is no folder 'nowhere'"),
        (["put", ".", "b/x"], b"ais put -r"),
        (["put", "-", "b/"], b"under which name"),
        (["put", "nofile", "b/x"], b"nofile"),
        (["ls", "--endpoint", "https://127.0.0.1:9", "--ca-cert", "none.pem"], b"ais: 'none.pem': no such certificate"),
        (["ls", "://x"], b"names no bucket"),
        (["ls", "no-such-bucket"], b"no-such-bucket"),
        (["serve", "--capacity", "lots"], b"is not a size"),
        (["serve", "--host", "0.0.0.0"], b"--allow-remote"),
        (["serve", "--tls-key", "key.pem"], b"needs a certificate: --tls-cert, or --tls-self-signed"),
        (["serve", "--config", "none.toml"], b"cannot read none.toml"),
        (["serve", __file__], b"is no folder: there is a file of that name"),
    ],
)
def test_mistakes_are_explained(ais: Ais, words: list[str], message: bytes) -> None:
    done = ais(*words)
    assert done.returncode == 1
    assert message in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("ls",), ("get", "ais://b/x", "-")], ids=lambda one: one[0])
def test_endpoint_that_nobody_serves(command: tuple[str, ...], ais: Ais) -> None:
    done = ais(*command, endpoint="http://127.0.0.1:9")
    assert done.returncode == 1
    repeated, failed = done.stderr.splitlines()
    assert repeated.startswith(b"ais: no AIStore answers at http://127.0.0.1:9")
    assert b"attempt 2 follows" in repeated
    assert failed.startswith(b"ais: no AIStore answers at http://127.0.0.1:9")


def test_a_server_that_nobody_vouches_for_is_told_with_what_a_shell_has(ais: Ais) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    with Peer(echo, tls=context) as peer:
        untrusted = ais("ls", endpoint=peer.url).stderr.decode()
        peer.failures.clear()
    assert "name the CA that vouches for it with --ca-cert FILE, or in AIS_CLIENT_CA" in untrusted
    assert "--skip-verify trusts anybody" in untrusted


def test_what_a_server_wants_of_clients_is_told(tmp_path: Path, ais: Ais) -> None:
    client = {"AIS_CLIENT_CA": str(CERTIFICATES / "ca.pem")}
    words = [
        "serve",
        "data",
        "--port",
        "0",
        "--tls-cert",
        CERTIFICATES / "server.pem",
        "--tls-client-ca",
        CERTIFICATES / "ca.pem",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "aistore.cli.main", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **client},
    ) as process:
        try:
            assert process.stdout is not None
            told = ""
            while "Stop it:" not in told:
                told += process.stdout.readline() or pytest.fail(told)
            assert "export AIS_CRT=" in told
            status = ais("status", "data")
            assert status.returncode == 0
            assert b"contents    not shown: " in status.stdout
            assert b"asks for a client certificate: name yours in AIS_CRT and AIS_CRT_KEY" in status.stdout
        finally:
            process.kill()


@pytest.mark.parametrize("reason", [*_UNVERIFIED.values(), _NOT_TRUSTED, _WANTS_CERTIFICATE, _REFUSES_CERTIFICATE])
def test_no_advice_on_tls_names_arguments_of_python(reason: str) -> None:
    assert not re.search(r"`\w+`", in_a_shell(reason))


def test_a_mistyped_option_shows_the_usage_of_its_command(ais: Ais) -> None:
    done = ais("put", "--endpiont", "http://127.0.0.1:9", "a", "b/c")
    assert done.returncode == 2
    assert done.stderr.startswith(b"usage: ais put ")
    assert b"--endpiont" in done.stderr


def test_without_an_endpoint_it_is_the_server_of_the_users_folder(ais: Ais, local_dir: Path) -> None:
    try:
        assert ais("ls", endpoint="").returncode == 0
        assert find_server(local_dir) is not None
    finally:
        assert ais("stop").returncode == 0
    assert find_server(local_dir) is None


def test_serve_until_ctrl_c(ais: Ais, server: subprocess.Popen[str], tmp_path: Path) -> None:
    said = banner(server)
    url = said["url"]
    assert said[""].endswith(f"serves {tmp_path / 'data'}")
    assert said["durability"].startswith("strict")
    assert said["capacity"] == "1,073,741,824 bytes"
    status = ais("status", "data")
    assert status.returncode == 0
    assert url.encode() in status.stdout
    assert str(server.pid).encode() in status.stdout
    second = ais("serve", "data", "--port", "0")
    assert second.returncode == 1
    assert f"already served by process {server.pid} at {url}".encode() in second.stderr
    server.send_signal(signal.SIGINT)
    rest, errors = server.communicate(timeout=60)
    assert (server.returncode, rest, errors) == (0, "stopped\n", "")
    assert ais("status", "data").returncode == 1


def test_a_daemon_goes_on_when_it_is_told_of_a_new_certificate(
    ais: Ais, server: subprocess.Popen[str], tmp_path: Path
) -> None:
    url = banner(server)["url"]
    os.kill(server.pid, signal.SIGHUP)
    until(lambda: "SIGHUP: certificates" in (tmp_path / "data" / "server.log").read_text())
    assert ais("ls", endpoint=url).returncode == 0


def test_stop_ends_a_foreground_server(ais: Ais, server: subprocess.Popen[str]) -> None:
    banner(server)
    done = ais("stop", "data")
    assert done.stdout.decode() == f"stopped process {server.pid}\n"
    assert server.wait(60) == 0
    again = ais("stop", "data")
    assert (again.returncode, again.stdout.startswith(b"nothing serves")) == (0, True)


def test_output_into_a_closed_pipe_ends_quietly_as_by_the_signal(bucket: Bucket, cluster: LocalCluster) -> None:
    for number in range(200):
        bucket.object(f"{'x' * 900}{number:04}").get_writer().put_content(b"")
    ls = f"{shlex.quote(sys.executable)} -m aistore.cli.main ls --endpoint {cluster.url} {bucket.name}"
    command = f"({ls}; echo $? >&2) | head -c 10"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"x" * 10, b"141\n")


def test_folders_go_into_buckets_and_back(ais: Ais, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a").write_bytes(b"1")
    (tmp_path / "in" / "sub" / "b").write_bytes(b"22")
    place = f"{bucket.name}/p"
    put = ais("put", "-r", "in", place)
    assert (put.returncode, put.stderr) == (0, b"")
    assert put.stdout.startswith(b"2 moved, 0 skipped, 0 deleted, 0 failed, 3 bytes in ")
    assert ais("ls", bucket.name).stdout == b"p/a\np/sub/b\n"
    assert ais("get", "-rv", place, "out").stdout.splitlines()[:-1] in (
        [b"moved a (get)", b"moved sub/b (get)"],
        [b"moved sub/b (get)", b"moved a (get)"],
    )
    assert (tmp_path / "out" / "sub" / "b").read_bytes() == b"22"
    assert ais("get", "-r", place).returncode == 0
    assert (tmp_path / "sub" / "b").read_bytes() == b"22"
    assert ais("put", "-r", "nowhere", place).returncode == 1
    nothing = ais("get", "-r", f"{place}/nothing", "none")
    assert (nothing.returncode, b"starts with 'p/nothing/'" in nothing.stderr) == (1, True)
    assert not (tmp_path / "none").exists()


def test_what_is_left_out_is_told(ais: Ais, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("elsewhere")
    told = ais("put", "-r", "in", bucket.name)
    assert (told.returncode, told.stderr) == (0, b"ais: left out: link: a symbolic link; -v tells all\n")
    (tmp_path / "in" / "more").symlink_to("elsewhere")
    assert ais("put", "-r", "in", bucket.name).stderr.startswith(b"ais: 2 of what was skipped was left out, such as ")
    assert ais("put", "-rv", "in", bucket.name).stderr == b""


def test_a_cluster_that_is_away_hides_no_other_buckets(ais: Ais) -> None:
    with LocalCluster() as far, LocalCluster(backends={"ais": {"far": far.url}}) as near, near.client() as client:
        client.bucket("own").create()
        far.stop()
        listed = ais("ls", "--endpoint", near.url)
        assert (listed.returncode, listed.stdout) == (0, b"ais://own\n")
        assert listed.stderr.startswith(b"ais: not all buckets of other clusters are shown: ")


def test_buckets_of_other_clusters_have_names(ais: Ais, cluster: LocalCluster, bucket: Bucket) -> None:
    bucket.object("x").get_writer().put_content(b"far away")
    with LocalCluster(backends={"ais": {"far": cluster.url}}) as near:
        listed = ais("ls", "--endpoint", near.url).stdout.decode().split()
        assert ais("get", f"ais://@far/{bucket.name}/x", "-", "--endpoint", near.url).stdout == b"far away"
        (shown,) = [name for name in listed if name.endswith(f"/{bucket.name}")]
        assert shown.startswith("ais://@")
        assert ais("ls", shown, "--endpoint", near.url).stdout == b"x\n"


def test_sync_tells_what_it_does_and_what_failed(
    ais: Ais, bucket: Bucket, cluster3: LocalCluster, tmp_path: Path
) -> None:
    for name in ("p/a", "p/a/b", "p/c"):
        bucket.object(name).get_writer().put_content(b"1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_bytes(b"1")
    place = f"ais://{bucket.name}/p"
    dry = ais("sync", "--dry-run", "--delete", place, "out")
    assert (dry.returncode, sorted(dry.stdout.splitlines()[:-1])) == (
        1,
        [b"deleted old", b"moved a (get)", b"moved c (get)"],
    )
    assert dry.stdout.splitlines()[-1].startswith(b"would be: 2 moved, 0 skipped, 1 deleted, 1 failed")
    done = ais("sync", "--delete", place, "out")
    assert (done.returncode, done.stderr) == (1, b"ais: a/b: 'a' is an object, too, and no file is also a folder\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]
    back = ais("sync", "out", place)
    assert (back.returncode, back.stdout[:20]) == (0, b"0 moved, 2 skipped, ")
    with cluster3.client() as client:
        far = client.bucket(f"{bucket.name}-far").create()
        try:
            copied = ais("sync", place, f"ais://{far.name}", "--to-endpoint", cluster3.url)
            assert (copied.returncode, copied.stdout[:8]) == (0, b"3 moved,")
            assert [entry.name for entry in far.list_all_objects()] == ["a", "a/b", "c"]
        finally:
            far.delete()
    neither = ais("sync", "out", "elsewhere")
    assert (neither.returncode, b"is a bucket" in neither.stderr) == (1, True)
    assert ais("sync", "out").returncode == 2
