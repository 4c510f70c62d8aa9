"""The cluster map: who is in the cluster in the box (protocol/00 12)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from aistore.wire.hrw import owner, placement_digest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from aistore.server.store.store import Store

__all__ = ["ClusterMap"]

_KEY = "smap"


class ClusterMap:
    """Gateway and targets with their URLs, and the map's version, which grows with each change.

    The gateway owns it and keeps it in the catalog, where its target processes read it.
    """

    def __init__(
        self, uuid: str, gateway: str, gateway_url: str, targets: Mapping[str, str], created: str, version: int
    ) -> None:
        self.uuid = uuid
        self.gateway = gateway
        self.gateway_url = gateway_url
        self.targets = dict(targets)
        """URL of each target that serves, by id."""
        self.created = created
        self.version = version
        self._digests = {node: placement_digest(node) for node in self.targets}

    @classmethod
    def of_gateway(cls, uuid: str, gateway: str, url: str, ids: Sequence[str]) -> ClusterMap:
        """The map of a cluster that starts; with one target, gateway and target are one process."""
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        targets = {ids[0]: url} if len(ids) == 1 else {}
        return cls(uuid, gateway, url, targets, created, 1)

    @classmethod
    def of_target(cls, store: Store, target: str) -> ClusterMap:
        """The map as the gateway last published it."""
        published = store.catalog.meta(_KEY)
        if published is None:
            return cls("", "", "", {target: ""}, "", 0)
        known = msgspec.json.decode(published)
        return cls(known["uuid"], known["gateway"], known["url"], known["targets"], known["created"], known["version"])

    def change_targets(self, targets: Mapping[str, str]) -> None:
        """Other targets serve now."""
        self.targets = dict(targets)
        self._digests = {node: placement_digest(node) for node in self.targets}
        self.version += 1

    def publish(self, store: Store) -> asyncio.Future[None]:
        """Keep the map where target processes read it."""
        value = msgspec.json.encode(
            {
                "uuid": self.uuid,
                "gateway": self.gateway,
                "url": self.gateway_url,
                "targets": self.targets,
                "created": self.created,
                "version": self.version,
            }
        ).decode()
        return store.catalog.set_meta({_KEY: value})

    def has_target(self, target: str) -> bool:
        """Whether a target of this id is in the map."""
        return target in self.targets

    def owner_url(self, uname: str) -> str | None:
        """Where the object of this unique name is served; None if no target serves."""
        return self.targets[owner(uname, self._digests)] if self._digests else None

    def locator(self, bucket_uname: str, mountpath: str) -> Callable[[str], str]:
        """A function from an object's name to its location (protocol/20 3.5)."""
        if len(self._digests) == 1:
            place = f"t[{next(iter(self._digests))}]:mp[{mountpath}, ]"
            return lambda _: place
        digests = dict(self._digests)
        return lambda name: f"t[{owner(bucket_uname + name, digests)}]:mp[{mountpath}, ]" if digests else ""

    def document(self) -> dict[str, object]:
        """The map as clients see it."""
        primary = self._node("proxy", self.gateway, self.gateway_url, 2)
        return {
            "pmap": {self.gateway: primary},
            "proxy_si": primary,
            "tmap": {node: self._node("target", node, url, 0) for node, url in sorted(self.targets.items())},
            "uuid": self.uuid,
            "creation_time": self.created,
            "version": str(self.version),
        }

    def node(self, node: str) -> dict[str, object]:
        """The entry of one node."""
        return (
            self._node("proxy", node, self.gateway_url, 2)
            if node == self.gateway
            else self._node("target", node, self.targets[node], 0)
        )

    def _node(self, kind: str, node: str, url: str, flags: int) -> dict[str, object]:
        parts = urlsplit(url)
        net = {"node_ip_addr": parts.hostname or "", "daemon_port": str(parts.port or ""), "direct_url": url}
        return {
            "public_net": net,
            "intra_data_net": net,
            "intra_control_net": net,
            "daemon_type": kind,
            "daemon_id": node,
            "flags": flags,
            "id_digest": placement_digest(node),
        }
