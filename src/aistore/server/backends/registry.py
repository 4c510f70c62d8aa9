"""Which backend a bucket has: configured clouds, attached clusters, and what is on its way from them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from aistore.server.backends.claims import Claims
from aistore.server.backends.download import Blob, Download
from aistore.server.backends.errors import object_missing
from aistore.server.backends.options import (
    ClusterAccess,
    check_backends,
    cluster_access,
    configured_clouds,
    configured_clusters,
)
from aistore.server.backends.space import Space
from aistore.server.backends.unfinished import Unfinished
from aistore.server.settings import SettingsError
from aistore.wire.errors import ApiError, backend_missing, remote_cluster_missing
from aistore.wire.names import BACKENDS, BucketId, check_object_name
from aistore.wire.props import pack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from aistore.server.backends.ais import RemoteCluster
    from aistore.server.backends.base import Backend
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket, ObjectRow
    from aistore.wire.props import Extra

__all__ = ["DEFUNCT", "Attached", "Backends", "UnknownBucket"]

logger = logging.getLogger(__name__)

_KEY: Final = "remotes"
DEFUNCT: Final = "defunct"
"""What stands for the uuid of a cluster that never answered (protocol/00 15.2)."""


_SHOWN: Final = 256


def _is_name(name: str) -> bool:
    try:
        return check_object_name(name) == name
    except ApiError:
        return False


class UnknownBucket(Exception):
    """A remote bucket that the cluster has not been asked for before: register it, and try again."""

    def __init__(self, bucket: BucketId) -> None:
        super().__init__(bucket)
        self.bucket = bucket


class Attached(NamedTuple):
    """Another cluster, by the name that it was attached under."""

    alias: str
    uuid: str
    url: str


class Backends:
    """All backends of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tables = node.settings.backends
        check_backends(self._tables)
        self.clouds = configured_clouds(self._tables)
        """Cloud providers that are configured."""
        self.space = Space(node)
        self._attached: dict[str, Attached] = {}
        self._read: str | None = None
        self._made: dict[tuple[str, bytes], Backend] = {}
        self._downloads: dict[tuple[int, str], Download] = {}
        self._locks: dict[tuple[int, str], asyncio.Lock] = {}
        self._claims: Claims | None = None
        self._unfinished: Unfinished

    async def start(self) -> None:
        """Attach the clusters of the configuration."""
        node = self._node
        self._unfinished = Unfinished(node.settings.data_dir / "remote-writes", node.target_id or node.gateway_id)
        await self._unfinished.recover(node.store, everybody=node.is_gateway)
        node.store.relief = self.space.free
        self._load()
        for alias, url in configured_clusters(self._tables).items():
            known = self._attached.get(alias)
            if known is None or known.url != url or known.uuid == DEFUNCT:
                await self.attach(alias, url)
        if self._node.is_gateway:
            self.space.start()

    async def close(self) -> None:
        """Give up what is under way and close all connections."""
        await self.space.close()
        downloads = list(self._downloads.values())
        for download in downloads:
            download.cancel()
        for download in downloads:
            await download.ended()
        for backend in self._made.values():
            await backend.close()
        if self._claims is not None:
            self._claims.close()

    # -- attached clusters -------------------------------------------------------------------------------------

    @property
    def attached(self) -> list[Attached]:
        """Attached clusters, by alias."""
        self._load()
        return [self._attached[alias] for alias in sorted(self._attached)]

    def _load(self) -> None:
        """Read what is attached; the gateway writes it, target processes follow."""
        if self._read is not None and not self._node.shared:
            return
        text = self._node.store.catalog.meta(_KEY) or "[]"
        if text != self._read:
            self._read = text
            found = msgspec.json.decode(text, type=list[Attached])
            self._attached = {one.alias: one for one in found}
            self._node.forget_buckets()

    async def attach(self, alias: str, url: str) -> None:
        """Attach a cluster, which may be one that does not answer yet."""
        from aistore.server.backends.ais import ask_map

        smap = await ask_map(url, self._access(alias, url))
        uuid = str(smap["uuid"]) if smap else DEFUNCT
        if uuid == self._node.smap.uuid:
            raise ApiError(400, f"cannot attach cluster {uuid} ({url}) to itself")
        if smap is None:
            logger.warning("attached cluster %s at %s does not answer; it is asked again when it is needed", alias, url)
        await self._keep({**self._attached, alias: Attached(alias, uuid, url)})

    async def detach(self, alias: str) -> bool:
        """Detach a cluster, by alias or uuid; False if there was none."""
        self._load()
        left = {name: one for name, one in self._attached.items() if alias not in (name, one.uuid)}
        if len(left) == len(self._attached):
            return False
        await self._keep(left)
        return True

    async def _keep(self, attached: dict[str, Attached]) -> None:
        text = msgspec.json.encode(list(attached.values())).decode()
        await self._node.store.catalog.set_meta({_KEY: text})
        gone = {one.uuid for one in self._attached.values()} - {one.uuid for one in attached.values()}
        self._attached, self._read = attached, text
        self._node.forget_buckets()
        for key in [key for key in self._made if key[0] in gone or key[0] == DEFUNCT]:
            await self._made.pop(key).close()

    def resolve(self, bucket: BucketId) -> BucketId:
        """The bucket with its cluster's uuid where that was named by alias."""
        self._load()
        one = self._attached.get(bucket.uuid)
        return bucket._replace(uuid=one.uuid) if one is not None and one.uuid != DEFUNCT else bucket

    def cluster(self, uuid: str) -> Attached | None:
        """The attached cluster of this uuid or alias."""
        self._load()
        found = self._attached.get(uuid)
        return found or next((one for one in self._attached.values() if one.uuid == uuid), None)

    async def revive(self, bucket: BucketId) -> BucketId:
        """`resolve`, after asking a cluster that has not answered so far once more."""
        one = self._attached.get(bucket.uuid)
        if one is not None and one.uuid == DEFUNCT and self._node.is_gateway:
            await self.attach(one.alias, one.url)
        return self.resolve(bucket)

    # -- backends ----------------------------------------------------------------------------------------------

    def missing(self, bucket: BucketId) -> ApiError | None:
        """Why a remote bucket cannot be reached, if its backend is not configured or its cluster not attached."""
        if bucket.provider in BACKENDS:
            if bucket.provider not in self.clouds:
                return backend_missing(self._node.gateway_name, bucket.cname, BACKENDS[bucket.provider])
        elif bucket.uuid and self.cluster(bucket.uuid) is None:
            return remote_cluster_missing(self._node.gateway_name, bucket.cname, bucket.uuid, bucket.name)
        return None

    def of(self, bucket: Bucket) -> Backend:
        """The backend of a registered bucket. Raises `ApiError` if it is not configured or attached."""
        remote = self._node.remote_of(bucket)
        assert remote is not None
        return self.at(remote, bucket)

    def at(self, remote: BucketId, bucket: Bucket | None = None) -> Backend:
        """The backend of a remote bucket, with the `extra` properties of `bucket`."""
        props = self._node.props(bucket) if bucket is not None else self._node.control.config.current.bucket_props()
        return self.with_extra(remote, props.extra)

    def with_extra(self, remote: BucketId, extra: Extra) -> Backend:
        """The backend of a remote bucket, with these `extra` properties."""
        missing = self.missing(remote)
        if missing is not None:
            raise missing
        if remote.uuid:
            return self.cluster_backend(remote.uuid)
        from aistore.server.backends.cloud import CloudBackend

        key = remote.provider, pack(extra)
        backend = self._made.get(key)
        if backend is None:
            backend = self._made[key] = CloudBackend(remote.provider, self._tables.get(remote.provider, {}), extra)
        return backend

    def _access(self, alias: str, url: str) -> ClusterAccess:
        """How a cluster is talked to. Raises `ApiError` 400 where what is configured cannot be used."""
        try:
            return cluster_access(self._tables, alias, url)
        except SettingsError as error:
            raise ApiError(400, str(error)) from error

    async def map_of(self, one: Attached) -> dict[str, object] | None:
        """The map of an attached cluster; None if it does not answer."""
        from aistore.server.backends.ais import ask_map

        return await ask_map(one.url, self._access(one.alias, one.url))

    def cluster_backend(self, uuid: str) -> RemoteCluster:
        """The backend of an attached cluster."""
        from aistore.server.backends.ais import RemoteCluster

        one = self.cluster(uuid)
        if one is None:
            raise ApiError(404, f'remote cluster "{uuid}" does not exist', "ErrNotFound")
        backend = self._made.get((one.uuid, one.url.encode()))
        if not isinstance(backend, RemoteCluster):
            backend = self._made[one.uuid, one.url.encode()] = RemoteCluster(
                one.uuid, one.alias, one.url, self._access(one.alias, one.url)
            )
        return backend

    def caches_ranges(self, remote: BucketId) -> bool:
        """Whether reading a range of an object that is not cached brings the whole object into the cache."""
        return self._tables.get(remote.provider, {}).get("ranges") == "cache"

    # -- objects -----------------------------------------------------------------------------------------------

    def download(self, bucket: Bucket, name: str, before: ObjectRow | None, blob: Blob | None = None) -> Download:
        """The download of an object that is cached as `before`, or not: the one under way, or a new one.

        Raises `RemoteError` for a name that no object has here: a backend may list any.
        """
        if not _is_name(name):
            logger.warning(
                "%s is not taken into the cache: no object has such a name", bucket.id.object_cname(name[:_SHOWN])
            )
            raise object_missing(self._node.name, bucket.id.object_cname(name[:_SHOWN]))
        key = bucket.bid, name
        download = self._downloads.get(key)
        if download is None or download.dropped:
            remote = self._node.remote_of(bucket)
            assert remote is not None
            download = Download(self._node, bucket, remote, name, before, blob)
            self._downloads[key] = download
            download.done.add_done_callback(lambda _: self._forget(key, download))
        return download

    def _forget(self, key: tuple[int, str], download: Download) -> None:
        if self._downloads.get(key) is download:
            del self._downloads[key]

    def under_way(self, bucket: Bucket, name: str) -> Download | None:
        """The download of an object that is running."""
        return self._downloads.get((bucket.bid, name))

    def drop(self, bucket: Bucket, name: str) -> None:
        """The object is being written or evicted: what is on its way is not to be kept."""
        download = self._downloads.get((bucket.bid, name))
        if download is not None:
            download.dropped = True

    @asynccontextmanager
    async def writing(self, bucket: Bucket, name: str) -> AsyncIterator[None]:
        """Hold off other writers of the object: the backend and the cache have to see changes in the same order."""
        key = bucket.bid, name
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        try:
            async with lock, self.claimed(bucket, name):
                self.drop(bucket, name)
                yield
        finally:
            if not lock.locked() and self._locks.get(key) is lock:
                del self._locks[key]

    @asynccontextmanager
    async def changing(self, bucket: Bucket, name: str) -> AsyncIterator[None]:
        """As `writing`, for a change of the object in its backend: a cached version does not outlive a crash before it is changed, too."""
        async with self.writing(bucket, name):
            if self._node.store.lookup(bucket, name) is None:
                yield
                return
            async with self._unfinished.change(self._node.store, bucket, name):
                yield

    def claimed(self, bucket: Bucket, name: str) -> AbstractAsyncContextManager[None]:
        """Hold off the other processes of the data folder, if there are any, from downloading and writing the object."""
        if not self._node.shared:
            return nullcontext()
        if self._claims is None:
            self._claims = Claims(self._node.settings.data_dir / "remote.lock")
        return self._claims.held(bucket.bid, name)
