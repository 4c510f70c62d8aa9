"""Where the remote buckets of the tests live: each place puts and looks at objects without the cluster that caches them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from aistore import LocalCluster
from aistore.sdk import Namespace
from aistore.sdk.errors import ErrObjNotFound
from backends.relay import Relay
from bench.peers import S3, Azure, Peer

if TYPE_CHECKING:
    from aistore.sdk import Bucket, Client

__all__ = ["AisPlace", "CloudPlace", "Place"]


class Place:
    """A backend behind a relay."""

    provider = ""
    options: dict[str, str]
    relay: Relay

    def new_bucket(self) -> str:
        """An empty bucket; its name."""
        raise NotImplementedError

    def put(self, bucket: str, name: str, content: bytes) -> None:
        raise NotImplementedError

    def get(self, bucket: str, name: str) -> bytes | None:
        raise NotImplementedError

    def delete(self, bucket: str, name: str) -> None:
        raise NotImplementedError

    def seen_from(self, near: Client, name: str) -> Bucket:
        """The bucket as a client of the caching cluster names it."""
        return near.bucket(name, self.provider)

    def close(self) -> None:
        self.relay.__exit__()


class AisPlace(Place):
    """Another cluster."""

    provider = "ais"

    def __init__(self) -> None:
        self._far = LocalCluster().start()
        self._client = self._far.client()
        self.relay = Relay(self._far.url.removeprefix("http://")).__enter__()
        self.options = {"far": self.relay.url}

    def new_bucket(self) -> str:
        name = f"b{uuid.uuid4().hex[:12]}"
        self._client.bucket(name).create()
        return name

    def put(self, bucket: str, name: str, content: bytes) -> None:
        self._client.bucket(bucket).object(name).get_writer().put_content(content)

    def get(self, bucket: str, name: str) -> bytes | None:
        try:
            return self._client.bucket(bucket).object(name).get_reader().read_all()
        except ErrObjNotFound:
            return None

    def delete(self, bucket: str, name: str) -> None:
        self._client.bucket(bucket).object(name).delete()

    def seen_from(self, near: Client, name: str) -> Bucket:
        return near.bucket(name, "ais", Namespace(uuid="far"))

    def close(self) -> None:
        super().close()
        self._client.close()
        self._far.stop()


class CloudPlace(Place):
    """A cloud provider's server."""

    def __init__(self, kind: type[Peer]) -> None:
        self.peer = kind().__enter__()
        self.provider = kind.provider
        self.relay = Relay(self.peer.address).__enter__()
        self.options = {
            **self.peer.options,
            "endpoint": self.peer.options["endpoint"].replace(self.peer.url, self.relay.url),
        }

    def _store(self, bucket: str) -> Any:
        from obstore.store import AzureStore, S3Store

        make: Any = S3Store if self.peer.kind == "s3" else AzureStore
        return make(bucket, config=self.peer.options, client_options={"allow_http": True})

    def new_bucket(self) -> str:
        name = f"b{uuid.uuid4().hex[:12]}"
        self.peer.make_bucket(name)
        return name

    def put(self, bucket: str, name: str, content: bytes) -> None:
        import obstore

        obstore.put(self._store(bucket), name, content)

    def get(self, bucket: str, name: str) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._store(bucket), name).bytes())
        except FileNotFoundError:
            return None

    def delete(self, bucket: str, name: str) -> None:
        import obstore

        obstore.delete(self._store(bucket), name)

    def close(self) -> None:
        super().close()
        self.peer.__exit__(None, None, None)


CLOUDS: dict[str, type[Peer]] = {"s3": S3, "azure": Azure}
