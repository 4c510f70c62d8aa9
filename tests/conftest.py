"""Clusters to test against: real ones, each xdist worker its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.sdk import Bucket, Client


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """One node, gateway and target at once."""
    with LocalCluster() as started:
        yield started


@pytest.fixture(scope="session")
def cluster3() -> Iterator[LocalCluster]:
    """A gateway that redirects to three target processes."""
    with LocalCluster(targets=3) as started:
        yield started


@pytest.fixture
def client(cluster: LocalCluster) -> Client:
    """A client of the one node."""
    return cluster.client()


@pytest.fixture
def bucket(client: Client, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """An empty bucket of this test."""
    # The node id tells tests apart; its hash keeps the name within what the protocol allows.
    made = client.bucket(f"test-{hash(request.node.nodeid) & 0xFFFFFFFF:08x}").create(exist_ok=False)
    yield made
    made.delete(missing_ok=True)


@pytest.fixture
def local_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's data folder for `local:` of this test, instead of the one of whoever runs it."""
    folder = tmp_path / "aistore"
    monkeypatch.setenv("AIS_LOCAL_DIR", str(folder))
    return folder
