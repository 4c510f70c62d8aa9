"""Transformers that do what they should not: the caller learns why in time, the server goes on, and nothing of them stays."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from aistore import LocalCluster
from aistore.http1.payload import BytesPayload
from aistore.server.etl.exchange import BadAnswer
from aistore.server.etl.message import Launch, parse_init
from aistore.server.etl.processes import Processes
from aistore.server.etl.running import Running
from aistore.server.etl.sockets import Sockets
from calling import Caller
from etl_rest import Etl, acting, files_of, has_namespaces, listens, ports_of, processes_of
from store_truth import open_descriptors
from waiting import DEADLINE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HTTP, FAST = "HTTPMultiThreadedServer", "FastAPIServer"

# What takes seconds, and is the same in each process that has transformers.
ONE_NODE = pytest.mark.parametrize("etl_cluster", ["one", pytest.param("three", marks=pytest.mark.long)], indirect=True)

# Answers a PUT as its environment says; `{}` stands for the body of a good answer.
SERVER = """
import os, socket, sys, threading, time
how = os.environ["HOW"]
listener = socket.create_server(("", 8000), backlog=50)
def read_request(file):
    line, length = file.readline(), 0
    while (field := file.readline()).strip():
        name, _, value = field.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    file.read(length)
    return line
def serve(sock):
    file = sock.makefile("rb")
    while line := read_request(file):
        if line.startswith(b"GET /health"):
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 7\\r\\n\\r\\nRunning")
            continue
        print("asked", flush=True)
        if how == "hang":
            time.sleep(1000)
        if how == "hang-in-body":
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhalf")
            time.sleep(1000)
        if how == "hang-dripping":
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
            while True:
                sock.sendall(b"1\\r\\nx\\r\\n")
                time.sleep(0.05)
        if how == "hang-late":
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4000000\\r\\n\\r\\n" + b"x" * 3000000)
            time.sleep(1000)
        if how == "crash-in-body":
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhalf")
        if how.startswith("crash"):
            print("about to crash", flush=True)
            os._exit(9)
        answers = {
            "close": b"",
            "short": b"HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nshort",
            "short-late": b"HTTP/1.1 200 OK\\r\\nContent-Length: 4000000\\r\\n\\r\\n" + b"x" * 3000000,
            "short-chunks": b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n64\\r\\nshort",
            "no-http": b"hello, this is no HTTP\\r\\n\\r\\n",
            "long-head": b"HTTP/1.1 200 OK\\r\\nX: " + b"y" * 1000000,
            "bad-length": b"HTTP/1.1 200 OK\\r\\nContent-Length: many\\r\\n\\r\\nx",
            "bad-chunk": b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\nzz\\r\\n",
        }
        if how in answers:
            sock.sendall(answers[how])
            sock.shutdown(socket.SHUT_RDWR)
            return
        if how == "too-much":
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\ngoodand what nobody announced")
            continue
        raise SystemExit("?")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def bad_server(etl: Etl, how: str, timeout: str = "2s") -> Etl:
    got = etl.runs([sys.executable, "-c", SERVER], env=[{"name": "HOW", "value": how}], obj_timeout=timeout)
    assert got.status == 200, got.body
    return etl


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("close", "closed the connection"),
        ("short", "after 5 of 100 bytes"),
        ("short-chunks", "the transformer's answer is broken"),
        ("no-http", "the transformer's answer is broken"),
        ("long-head", "the transformer's answer is broken"),
        ("bad-length", "the transformer's answer is broken"),
        ("bad-chunk", "the transformer's answer is broken"),
        ("hang", "context deadline exceeded"),
        ("hang-in-body", "context deadline exceeded"),
        ("hang-dripping", "context deadline exceeded"),
    ],
)
def test_answers_that_are_none(etl: Etl, src: str, how: str, text: str) -> None:
    bad_server(etl, how, "500ms" if how.startswith("hang") else "30s")
    for got in (etl.get(src, "a.txt"), etl.copy(f"{src}/a.txt", f"{src}/x")):
        message = str(got.error["message"])
        assert got.status == 400
        assert text in message
    assert f"\nlog of ETL {etl.name}:\nasked" in message
    assert etl.errors()[0]["msg"].startswith(message.partition("\n")[0][:20])
    assert etl.call.get(src, "x").status == 404
    said = etl.wait(etl.bucket(src, f"{src}-dst"))
    assert said["aborted"]
    assert text in said["err"]
    assert etl.stage == "Running"


@pytest.mark.parametrize("how", ["short-late", "hang-late"])
def test_answers_that_break_off_when_the_client_has_begun_to_read(etl: Etl, src: str, how: str) -> None:
    bad_server(etl, how, "1s" if how == "hang-late" else "30s")
    with pytest.raises(http.client.IncompleteRead):
        etl.get(src, "a.txt")
    got = etl.copy(f"{src}/a.txt", f"{src}/x")
    assert got.status == 400
    assert "the transformer's answer is broken" in str(got.error["message"])
    assert etl.call.get(src, "x").status == 404


def test_more_than_was_announced(etl: Etl, src: str) -> None:
    bad_server(etl, "too-much")
    for _ in range(3):
        assert etl.get(src, "a.txt").body == b"good"


@pytest.mark.parametrize("how", ["crash", "crash-in-body"])
def test_a_crash(etl: Etl, src: str, etl_cluster: LocalCluster, how: str) -> None:
    before = processes_of(etl_cluster)
    bad_server(etl, how, "30s")
    got = etl.get(src, "a.txt")
    message = str(got.error["message"])
    assert got.status == 400
    assert "about to crash" in message
    assert ("after 4 of 10 bytes" if how == "crash-in-body" else "the transformer has ended with status 9") in message
    until(lambda: etl.stage == "Aborted")
    assert processes_of(etl_cluster) <= before
    assert etl.ask("POST", "/start").status == 200
    assert etl.stage == "Running"
    job = etl.bucket(src, f"{src}-dst", coer=True)
    assert etl.wait(job)["aborted"]


def test_last_words_are_told_however_late_its_keeper_hears_them(tmp_path: Path) -> None:
    program = (
        "import pathlib, time\n"
        "while not pathlib.Path('speak').exists():\n"
        "    time.sleep(0.01)\n"
        "print('last words', flush=True)\n"
        "pathlib.Path('speak').unlink()\n"
        "time.sleep(1000)"
    )
    folder = tmp_path / "etl" / "one"
    speak = folder / "tmp" / "speak"
    message = parse_init(b'{"name": "etl-late", "runtime": {"image": "x"}}')

    async def run() -> None:
        launch = Launch("x", (sys.executable, "-c", program), {})
        processes = await Processes.start("etl-late", launch, {}, folder, ws=False, hidden=())
        running = Running(message, processes, "", "")
        keeper = processes._keeper.pid
        try:
            os.kill(keeper, signal.SIGSTOP)
            try:
                speak.touch()
                await asyncio.to_thread(until, lambda: not speak.exists())
                told = asyncio.ensure_future(running.broken(BadAnswer("cut off")))
                assert not (await asyncio.wait([told], timeout=0.2))[0]
            finally:
                os.kill(keeper, signal.SIGCONT)
            assert str(await told).endswith("last words")
        finally:
            await running.stop()

    asyncio.run(run())


@pytest.mark.parametrize("kind", [HTTP, FAST])
def test_workers_that_die_each_time(etl: Etl, src: str, kind: str) -> None:
    """They are replaced, but not for ever."""
    etl.started(acting(kind), env={"NUM_WORKERS": "2"})
    got = etl.get(src, "a.txt", "die")
    assert got.status == 400
    assert "last words" in str(got.error["message"])
    until(lambda: etl.stage == "Aborted" or etl.get(src, "a.txt", "die").status == 0)


def test_forks_that_go_away(etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    before = processes_of(etl_cluster)
    etl.started(acting(HTTP))
    assert etl.get(src, "a.txt", "fork").body == b"CONTENT OF A.TXT"
    assert len(processes_of(etl_cluster) - before) >= 4
    sessions = processes_of(etl_cluster) - before
    assert etl.ask("DELETE").status == 200
    assert processes_of(etl_cluster) <= before
    assert not [pid for pid in sessions if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("etl_cluster", ["one"], indirect=True)
@pytest.mark.parametrize("kind", [HTTP, FAST, "FlaskServer"])
def test_only_the_server_is_answered(
    shared: Callable[..., Etl], src: str, etl_cluster: LocalCluster, tmp_path: Path, kind: str
) -> None:
    """Whoever reaches a transformer's port could read files of the server's user, and read and write all buckets."""
    etl = shared(kind)
    text = (etl_cluster.path / "server.log").read_text()
    port = re.findall(rf"ETL {etl.name}: process \d+ listens at 127\.0\.0\.1:(\d+)", text)[-1]
    file = tmp_path / "private"
    file.write_text("of the server's user")
    hop = {"Ais-Node-Url": f"{etl_cluster.url}/{quote(f'ais/@#/{src}/made', safe='@')}"}
    with Caller(f"http://127.0.0.1:{port}") as anybody:
        for method, path, body, headers in (
            ("PUT", f"/b/o?etl_fqn={quote(quote(str(file), safe=''), safe='')}", b"", {}),
            ("GET", f"/{quote(f'ais/@#/{src}/a.txt', safe='@')}", None, {}),
            ("PUT", "/b/o", b"content", hop),
            ("PUT", "/b/o?etl_key=wrong", b"content", {}),
            ("PUT", "/b/o", b"content", {"Ais-Etl-Key": "\xff"}),
        ):
            got = anybody(method, path, body, headers)
            assert (got.status, b"are not answered" in got.body) == (403, True), (method, path)
    assert etl.call.get(src, "made").status == 404
    assert etl.get(src, "a.txt").body == b"CONTENT OF A.TXT"


@ONE_NODE
def test_the_server_keeps_no_descriptor_of_them(call: Caller, src: str, etl_cluster: LocalCluster) -> None:
    """Not of those that fail to start, that crash, that hang, nor of what they were given."""
    if sys.platform != "linux":
        pytest.skip("only Linux shows them")
    call.put(src, "large", b"x" * 4_000_000)

    def misbehave() -> None:
        with Etl(call) as etl:
            assert etl.runs([sys.executable, "-c", "raise SystemExit(1)"]).status == 400
        with Etl(call) as etl:
            assert etl.runs(["no-such-program-at-all"]).status == 400
        for how in ("short", "hang", "short-late", "crash"):
            with Etl(call) as etl:
                bad_server(etl, how, "500ms")
                for name in ("a.txt", "large"):
                    assert etl.copy(f"{src}/{name}", f"{src}/made").status in (400, 404)

    for _ in range(2):  # some things are opened when they are first needed, and kept
        misbehave()
    before, kept = len(open_descriptors(etl_cluster.pid)), files_of(etl_cluster)
    misbehave()
    until(lambda: len(open_descriptors(etl_cluster.pid)) <= before)
    assert files_of(etl_cluster) == kept


@ONE_NODE
def test_clients_that_go_away(etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    """What was begun for them is given up; it is more than may be under way at once."""
    etl.started(acting(HTTP))
    etl.call.put(src, "large", b"x" * 4_000_000)
    where = urlsplit(etl_cluster.url)
    for i in range(300):
        with socket.create_connection(("127.0.0.1", where.port or 0)) as sock:
            sock.sendall(
                f"GET /v1/objects/{src}/large?etl_name={etl.name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            if i % 3 == 0:
                sock.recv(1000)
            elif i % 3 == 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert etl.get(src, "large").body == b"X" * 4_000_000
    (folder,) = (etl_cluster.path / "etl").glob(f"{etl.name}-*/objects")
    until(lambda: list(folder.iterdir()) == [])


def test_a_log_without_end(etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    etl.started(acting(HTTP))
    for _ in range(5):
        assert etl.get(src, "a.txt", "print 2000000").status == 200
    until(lambda: etl.log.endswith("y\n") or "y\n" in etl.log[-5000:])
    assert len(etl.log) <= 2 << 20
    (folder,) = (etl_cluster.path / "etl").glob(f"{etl.name}-*")
    assert sum(one.stat().st_size for one in folder.glob("log*")) <= 2 << 20
    assert etl.get(src, "a.txt").body == b"CONTENT OF A.TXT"


@ONE_NODE
def test_a_process_that_does_not_want_to_end(etl: Etl, etl_cluster: LocalCluster) -> None:
    before = processes_of(etl_cluster)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
    assert etl.runs([sys.executable, "-c", stubborn], env=[{"name": "HOW", "value": "hang"}]).status == 200
    assert etl.ask("DELETE").status == 200
    assert processes_of(etl_cluster) <= before


def test_one_that_is_started_while_it_is_deleted(etl: Etl, etl_cluster: LocalCluster) -> None:
    """Either of them is the last word, and nobody's processes stay."""
    before = processes_of(etl_cluster)
    slow = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), os._exit(0)))\n"
    assert etl.runs([sys.executable, "-c", slow + SERVER], env=[{"name": "HOW", "value": "hang"}]).status == 200

    def delete() -> None:
        with Caller(etl_cluster.url) as call:
            assert Etl(call, etl.name).ask("DELETE").status == 200

    deleting = threading.Thread(target=delete)
    deleting.start()
    until(lambda: etl.stage in ("Aborted", ""))
    assert etl.ask("POST", "/start").status in (200, 400, 404)
    deleting.join()
    assert etl.stage == ""
    assert processes_of(etl_cluster) <= before
    assert not [one for one in files_of(etl_cluster) if one.startswith(etl.name)]


def test_sockets_of_workers_that_are_gone(etl: Etl, src: str, etl_cluster: LocalCluster) -> None:
    """An object does not fail because of what another one did before."""
    etl.started(acting(FAST), "ws", env={"NUM_WORKERS": "1"})

    def sleep() -> None:
        with Caller(etl_cluster.url) as call:
            assert Etl(call, etl.name).get(src, "a.txt", "sleep 0.5").status == 200

    threads = [threading.Thread(target=sleep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert etl.get(src, "a.txt", "die").status == 400
    for _ in range(4):
        assert etl.get(src, "a.txt").body == b"CONTENT OF A.TXT"


def test_a_socket_that_ends_while_it_is_idle_costs_no_object() -> None:
    """Its end may be on its way when the next object is given to it."""
    pytest.importorskip("websockets")
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    async def handle(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await connection.recv()
            await connection.send(await connection.recv())
            await connection.recv()
            connection.transport.abort()

    async def run() -> None:
        async with serve(handle, "127.0.0.1", 0) as server:
            (sock,) = server.sockets
            sockets = Sockets(f"http://127.0.0.1:{sock.getsockname()[1]}")
            for _ in range(3):
                assert (await sockets.ask(b"{}", BytesPayload(b"made"), DEADLINE, empty=False)).data == b"made"
            sockets.close()

    asyncio.run(run())


def test_it_cannot_signal_the_machine(etl: Etl) -> None:
    """`kill 1` ends a container; here it must not end anything else than the transformer."""
    if not has_namespaces():  # others would hit the first process of this machine
        pytest.skip("only root could, and is kept from it by a namespace")
    killing = "import os, time\nfor number in (9, 15):\n    os.kill(1, number)\ntime.sleep(1000)"
    got = etl.runs([sys.executable, "-c", killing])
    assert got.status == 400
    assert "state: Terminated" in str(got.error["message"])


def test_it_cannot_signal_what_it_has_not_started(etl: Etl, etl_cluster: LocalCluster) -> None:
    """Neither the server nor its keeper; but its own children, and them from their sessions."""
    if not (has_namespaces() or _has_scopes()):
        pytest.skip("this system does not keep a process from signalling others of its user")
    code = (
        "import os, signal, subprocess, sys\n"
        "own = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "own.terminate()\n"
        "said = [own.wait() == -signal.SIGTERM]\n"
        "for pid in (int(sys.argv[1]), os.getppid()):\n"
        "    try:\n"
        "        os.kill(pid, 0)\n"
        "    except (ProcessLookupError, PermissionError):\n"
        "        said.append('kept in')\n"
        "print(said)\n"
    )
    got = etl.runs([sys.executable, "-c", code, str(etl_cluster.pid)])
    assert got.status == 400
    # In a namespace of its own its parent is its own init.
    others = ["kept in"] if has_namespaces() else ["kept in", "kept in"]
    assert str([True, *others]) in str(got.error["message"])


def _has_scopes() -> bool:
    """Whether Landlock keeps signals in (Linux 6.12)."""
    import ctypes

    if sys.platform != "linux":
        return False
    # landlock_create_ruleset asks for the version
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(444), None, ctypes.c_long(0), ctypes.c_long(1))) >= 6


def test_its_environment_holds_nothing_of_the_servers(etl: Etl, src: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIS_AUTHN_TOKEN", "secret-of-the-server")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-server")
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret-of-the-server@index.example/simple")
    monkeypatch.setenv("HTTPS_PROXY", "https://me:secret-of-the-server@proxy.example")
    with LocalCluster() as cluster, Caller(cluster.url) as call, Etl(call) as mine:
        call.make_bucket("src")
        call.put("src", "x", b"x")
        mine.started(acting(HTTP), env={"COLOUR": "blue", "PATH": "/usr/bin", "PACKAGES": "xxhash"})
        env = json.loads(mine.get("src", "x", "env").body)
        assert "secret-of-the-server" not in json.dumps(env)
        assert (env["COLOUR"], env["PATH"], env["PYTHONUNBUFFERED"]) == ("blue", "/usr/bin", "1")
        assert (env["DIRECT_PUT"], env["direct_put"]) == ("true", "true")
        assert re.fullmatch(rf"{cluster.url}/v1/etl/_object/{mine.name}/\w{{10}}", env["AIS_TARGET_URL"])
        assert not [name for name in env if name.startswith("PYTEST")]


def test_memory_has_a_limit(etl: Etl, src: str) -> None:
    program = (
        "import resource\nprint('limit', resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_CORE)[0], flush=True)\n"
        + SERVER
    )
    got = etl.runs(
        [sys.executable, "-c", program],
        env=[{"name": "HOW", "value": "hang"}],
        resources={"limits": {"memory": "512Mi"}},
    )
    assert got.status == 200
    until(lambda: f"limit {512 << 20} 0" in etl.log)


# -- the end of the server -----------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 3])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    """A cluster of this test, with a data folder that stays."""
    with LocalCluster(tmp_path / "data", targets=request.param, durability="relaxed") as started:
        yield started


def _two_etls(cluster: LocalCluster) -> tuple[list[str], set[int], list[int]]:
    """Names, processes and ports of two ETLs that hold on to everything."""
    with Caller(cluster.url) as call:
        call.make_bucket("src")
        call.put("src", "a.txt", b"abc")
        names = []
        before = processes_of(cluster)
        for kind in (HTTP, FAST):
            etl = Etl(call).started(acting(kind), env={"NUM_WORKERS": "2"})
            assert etl.get("src", "a.txt", "fork").body == b"ABC"
            names.append(etl.name)
    ports = ports_of(cluster)
    assert len(ports) == 2
    assert all(map(listens, ports))
    return names, processes_of(cluster) - before, ports


def test_nothing_outlives_a_server_that_stops(own: LocalCluster) -> None:
    names, processes, ports = _two_etls(own)
    own.restart()
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    assert not any(map(listens, ports))
    assert files_of(own) == []
    _all_aborted_and_usable(own, names)


def _all_aborted_and_usable(cluster: LocalCluster, names: list[str]) -> None:
    with Caller(cluster.url) as call:
        listed = json.loads(call("GET", "/v1/etl").body)
        assert sorted((one["id"], one["stage"], one["xaction_id"]) for one in listed) == sorted(
            (name, "Aborted", "") for name in names
        )
        for name in names:
            etl = Etl(call, name)
            assert etl.get("src", "a.txt").status == 404
            assert etl.ask("POST", "/start").status == 200
            assert etl.get("src", "a.txt").body == b"ABC"
        assert Etl(call, names[0]).ask("DELETE").status == 200


def test_without_etl_the_answer_is_501(tmp_path: Path) -> None:
    with LocalCluster(etl=False) as cluster, Caller(cluster.url) as call:
        call.make_bucket("src")
        call.put("src", "x", b"x")
        for method, path in (("GET", "/v1/etl"), ("PUT", "/v1/etl"), ("GET", "/v1/objects/src/x?etl_name=some-etl")):
            assert call(method, path).status == 501


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example", "Content-Type": "text/plain"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_web_pages_do_nothing_to_etls(
    shared: Callable[..., Etl], call: Caller, src: str, headers: dict[str, str], status: int
) -> None:
    """What a page may send without asking first (a form, a plain POST), and what it may by a rebound name."""
    etl = shared()
    definition = json.dumps({"name": "of-a-page", "runtime": {"image": "aistorage/transformer_echo"}}).encode()
    to = quote(f"ais/@#/{src}-dst/", safe="")
    transform = json.dumps({"action": "etl-bck", "name": "", "value": {"id": etl.name}}).encode()
    for method, path, body in (
        ("POST", f"/v1/etl/{etl.name}/stop", b""),
        ("POST", f"/v1/buckets/{src}?bck_to={to}", transform),
        ("PUT", "/v1/etl", definition),
        ("DELETE", f"/v1/etl/{etl.name}", b""),
    ):
        assert call(method, path, body, headers).status == status
    assert etl.stage == "Running"
    assert Etl(call, "of-a-page").stage == ""
    assert f"{src}-dst" not in call("GET", "/v1/buckets", b'{"action":"list"}').body.decode()


@contextlib.contextmanager
def served(folder: Path, host: str, *options: str) -> Iterator[int]:
    """The port of a server that listens at `host`."""
    command = [sys.executable, "-m", "aistore.cli.main", "serve", str(folder / "data"), "--host", host]
    serving = subprocess.Popen([*command, "--allow-remote", "--port", "0", *options], stdout=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        yield int(next(re.findall(r":(\d+)\s*$", line)[0] for line in serving.stdout if line.strip().startswith("url")))
    finally:
        serving.terminate()
        serving.communicate()


def test_a_server_on_an_address_of_the_network(tmp_path: Path) -> None:
    """Its transformers reach it by that address, from that address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no network")
        address = sock.getsockname()[0]
    with served(tmp_path, address, "--allow-etl") as port, Caller(f"http://{address}:{port}") as call:
        call.make_bucket("src")
        call.put("src", "x", b"x")
        with Etl(call) as etl:
            assert etl.started(acting(HTTP), "hpull").get("src", "x").body == b"X"


@pytest.mark.parametrize(("options", "status"), [((), 403), (("--allow-etl",), 400), (("--no-etl",), 501)])
def test_only_those_on_this_machine_run_code(tmp_path: Path, options: tuple[str, ...], status: int) -> None:
    """A server that others reach runs none, unless it was said that they may."""
    with served(tmp_path, "0.0.0.0", *options) as port, Caller(f"http://127.0.0.1:{port}") as call:
        got = call("PUT", "/v1/etl", json.dumps({"name": "some-etl"}).encode())
        assert got.status == status
        if status == 403:
            assert "--allow-etl" in str(got.error["message"])
