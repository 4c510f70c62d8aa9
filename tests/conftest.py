"""Clusters to test against: real ones, each xdist worker its own."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from aistore import Client, LocalCluster
from programs import Program, end_server
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from aistore.sdk import Bucket
    from guarding import AuthnServer, Guarded


# The same examples each time; `make test-long` looks for others. How long one takes says nothing on a busy machine.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", settings.get_profile("tests"), derandomize=False, max_examples=3_000)
settings.load_profile("tests")


def pytest_configure() -> None:
    """Let the processes of tests hear signals: a shell has what it starts in the background ignore SIGINT, `nohup` SIGHUP, which they would inherit."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One more than there are cores: tests wait a good part of their time, for disks and for limits of time that they reach."""
    return (yield) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Keep tests that share something expensive on one worker, and spread all others one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByWhatTheyShare(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file.endswith("test_package.py"):  # one installed wheel
                return file
            if file.startswith("tests/backends/"):  # servers that take seconds to start
                return "tests/backends"
            if "test_conformance_" in file:  # one run of a harness: [official-2.0.0-one-buckets.rename]
                return nodeid.rpartition("-")[0]
            return nodeid

    return ByWhatTheyShare(config, log)


@pytest.fixture(scope="session")
def promote_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that clusters promote files from."""
    return tmp_path_factory.mktemp("promote").resolve()


@pytest.fixture(scope="session")
def cluster(promote_root: Path) -> Iterator[LocalCluster]:
    """One node, gateway and target at once; without ETL, as the cluster that was recorded."""
    with LocalCluster(
        allow_hosts=["x"], promote_root=promote_root, etl=False
    ) as started:  # recorded scenarios call it so
        yield started


@pytest.fixture(scope="session")
def cluster3(promote_root: Path) -> Iterator[LocalCluster]:
    """A gateway that redirects to three target processes."""
    with LocalCluster(targets=3, allow_hosts=["x"], promote_root=promote_root, etl=False) as started:
        yield started


@pytest.fixture(scope="session")
def cluster_tls(promote_root: Path) -> Iterator[LocalCluster]:
    """One node that speaks HTTPS, with a certificate of its own making."""
    with LocalCluster(tls=True, allow_hosts=["x"], promote_root=promote_root, etl=False) as started:
        yield started


@pytest.fixture(scope="session")
def cluster3_tls(promote_root: Path) -> Iterator[LocalCluster]:
    """A gateway with three targets that speak HTTPS."""
    with LocalCluster(tls=True, targets=3, allow_hosts=["x"], promote_root=promote_root, etl=False) as started:
        yield started


@pytest.fixture(scope="session")
def authn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthnServer]:
    """An AuthN server that shares its secret with clusters."""
    from guarding import AuthnServer

    server = AuthnServer(tmp_path_factory.mktemp("authn") / "data")
    assert server.url, server.said
    yield server
    server.stop()


def _guarded(url: str, targets: int) -> Iterator[Guarded]:
    from guarding import SECRET, Guarded, token

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIS_AUTHN_SECRET_KEY", SECRET)
        cluster = LocalCluster(targets=targets, authn=url, etl=False).start()
    try:
        with Client(cluster.url, token=token(admin=True)) as root:
            yield Guarded(cluster.url, root.cluster().get_uuid(), cluster.path)
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def guarded(authn: AuthnServer) -> Iterator[Guarded]:
    """One node that asks for tokens."""
    yield from _guarded(authn.url, 1)


@pytest.fixture(scope="session")
def guarded3(authn: AuthnServer) -> Iterator[Guarded]:
    """A gateway with three targets, which ask for tokens."""
    yield from _guarded(authn.url, 3)


@pytest.fixture(scope="module", params=["cluster", "cluster3"])
def where(request: pytest.FixtureRequest) -> LocalCluster:
    """One node, and a gateway with three targets."""
    found: LocalCluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of the one node."""
    with cluster.client() as made:
        yield made


@pytest.fixture
def bucket(client: Client, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """An empty bucket of this test."""
    # The node id tells tests apart; its hash keeps the name within what the protocol allows.
    made = client.bucket(f"test-{hash(request.node.nodeid) & 0xFFFFFFFF:08x}").create(exist_ok=False)
    yield made
    made.delete(missing_ok=True)


@pytest.fixture
def local_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's data folder for `local:` of this test, instead of the one of whoever runs it; its server ends with the test."""
    folder = tmp_path / "aistore"
    monkeypatch.setenv("AIS_LOCAL_DIR", str(folder))
    yield folder
    end_server(folder)


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts programs; ends them after the test."""
    started: list[Program] = []

    def start(code: str, *arguments: object) -> Program:
        started.append(Program(code, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object], str], None]:
    """Waits for a condition, with a deadline."""

    def wait(condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {DEADLINE:g} s"
            time.sleep(0.01)

    return wait


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where the system has one: for tests that have calls fail one after the other, each with several starts of a
    store that would wait for the disk, and that do not ask what the disk has.
    """
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK):
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            yield Path(folder)
    else:
        yield tmp_path


@pytest.fixture
def temp_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, as this test and its programs see it."""
    base = tmp_path / "tmp"
    base.mkdir()
    monkeypatch.setenv("TMPDIR", str(base))
    monkeypatch.setattr("tempfile.tempdir", None)
    return base
