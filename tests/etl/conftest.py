"""Clusters with ETL, and transformers that the tests share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from bench import environments
from calling import Caller
from etl_rest import Etl, acting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def etl_one() -> Iterator[LocalCluster]:
    """One node with ETL."""
    with LocalCluster() as started:
        yield started


@pytest.fixture(scope="session")
def etl_three() -> Iterator[LocalCluster]:
    """A gateway with three target processes, with ETL."""
    with LocalCluster(targets=3) as started:
        yield started


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter of the official SDK and its framework, with the web servers."""
    environments.make(environments.FRAMEWORK)
    if reason := environments.why_missing(environments.FRAMEWORK):
        pytest.skip(reason)
    return str(environments.official_python(environments.FRAMEWORK))


@pytest.fixture(params=["one", "three"])
def etl_cluster(request: pytest.FixtureRequest) -> LocalCluster:
    """Both, one after the other."""
    found: LocalCluster = request.getfixturevalue(f"etl_{request.param}")
    return found


@pytest.fixture
def call(etl_cluster: LocalCluster) -> Iterator[Caller]:
    """Plain calls on the cluster."""
    with Caller(etl_cluster.url) as made:
        yield made


@pytest.fixture
def etl(call: Caller) -> Iterator[Etl]:
    """An ETL of this test, not defined yet; deleted afterwards."""
    with Etl(call) as made:
        yield made


@pytest.fixture(scope="session")
def _shared() -> dict[tuple[str, str, str], str]:
    return {}


@pytest.fixture
def shared(etl_cluster: LocalCluster, call: Caller, _shared: dict[tuple[str, str, str], str]) -> Callable[..., Etl]:
    """A running transformer of `etl_rest.acting`, by framework and communication; made once for each cluster."""

    def give(kind: str = "HTTPMultiThreadedServer", comm: str = "hpush") -> Etl:
        key = (etl_cluster.url, kind, comm)
        found = Etl(call, _shared.get(key, ""))
        if found.stage != "Running":
            found.ask("DELETE")
            found.started(acting(kind), comm, env={"NUM_WORKERS": "2"})
            _shared[key] = found.name
        return found

    return give


@pytest.fixture
def src(call: Caller, request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket with the objects `a.txt`, `b.txt` and `dir/c.txt`."""
    name = f"src-{os.getpid()}-{hash(request.node.nodeid) & 0xFFFFFF:06x}"
    call.make_bucket(name)
    for one in ("a.txt", "b.txt", "dir/c.txt"):
        assert call.put(name, one, f"content of {one}".encode()).status == 200
    yield name
    for bucket in (name, f"{name}-dst"):
        call.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck")
