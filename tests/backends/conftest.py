"""One cluster that caches, and the places that it caches from; every worker of the test run has its own."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from aistore.sdk.errors import AISError, ErrObjNotFound
from backends.places import CLOUDS, AisPlace, CloudPlace
from bench.peers import why_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore.sdk import BlobDownloadConfig, Bucket, Client
    from backends.places import Place

KINDS = ("ais", *CLOUDS)


@dataclass
class Remote:
    """A remote bucket: `here` in the cluster that caches it, `name` in its place."""

    place: Place
    name: str
    here: Bucket
    near: LocalCluster

    def put(self, name: str, content: bytes) -> None:
        self.place.put(self.name, name, content)

    def there(self, name: str) -> bytes | None:
        return self.place.get(self.name, name)

    def read(
        self,
        name: str,
        *,
        latest: bool = False,
        byte_range: str | None = None,
        blob_download_config: BlobDownloadConfig | None = None,
    ) -> bytes:
        """The object's content, through the cache."""
        reader = self.here.object(name).get_reader(
            blob_download_config=blob_download_config, latest=latest, byte_range=byte_range
        )
        return reader.read_all()

    @property
    def not_found(self) -> type[AISError]:
        """The error for a missing object; official SDKs do not know Azure's scheme (protocol/10 26.2)."""
        return AISError if self.place.provider == "azure" else ErrObjNotFound

    def cached(self) -> set[str]:
        """Names of what is in the cache."""
        return {entry.name for entry in self.here.list_all_objects(props="name,size,cached") if entry.is_cached()}


@pytest.fixture(scope="session")
def places() -> Iterator[dict[str, Place]]:
    """All that can be installed."""
    with contextlib.ExitStack() as ends:
        found: dict[str, Place] = {}
        for kind in KINDS:
            if kind != "ais" and why_missing(kind):
                continue
            found[kind] = AisPlace() if kind == "ais" else CloudPlace(CLOUDS[kind])
            ends.callback(found[kind].close)
        yield found


@pytest.fixture(scope="session")
def near(places: dict[str, Place], promote_root: Path) -> Iterator[LocalCluster]:
    """The cluster that caches."""
    backends = {place.provider: place.options for place in places.values()}
    with LocalCluster(backends=backends, promote_root=promote_root) as started:
        yield started


@pytest.fixture
def near_client(near: LocalCluster) -> Iterator[Client]:
    with near.client() as made:
        yield made


@contextlib.contextmanager
def remote_bucket(kind: str, places: dict[str, Place], near: LocalCluster, client: Client) -> Iterator[Remote]:
    """An empty bucket in one kind of place, seen from a cluster; skips the test where the place is missing."""
    if kind not in places:
        pytest.skip(why_missing(kind) or "")
    place = places[kind]
    name = place.new_bucket()
    yield Remote(place, name, place.seen_from(client, name), near)
    place.relay.restore()


@pytest.fixture(params=KINDS)
def remote(
    request: pytest.FixtureRequest, places: dict[str, Place], near: LocalCluster, near_client: Client
) -> Iterator[Remote]:
    """An empty remote bucket, in every kind of place."""
    with remote_bucket(request.param, places, near, near_client) as made:
        yield made
