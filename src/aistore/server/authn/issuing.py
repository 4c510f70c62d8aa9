"""What a token says: what the roles of its user grant together (protocol/60 6, 12.2)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aistore.server.authn.tokens import TOKEN_MAX
from aistore.wire.authn import ADMIN_ROLE, parse_mask
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.server.authn.database import Database, StoredKey, StoredUser
    from aistore.server.authn.service import AuthnService

__all__ = ["grants_of", "issue", "of_key"]


def grants_of(database: Database, user: StoredUser) -> dict[str, object]:
    """The claims about rights, and `aud`: the clusters that they are about."""
    clusters = database.clusters()
    if ADMIN_ROLE in user.roles:
        return {"clusters": None, "admin": True, "aud": [cluster.id for cluster in clusters]}
    ids = {cluster.alias: cluster.id for cluster in clusters if cluster.alias}
    ids.update({cluster.id: cluster.id for cluster in clusters})
    of_clusters: dict[str, int] = {}
    of_buckets: dict[tuple[str, str, str, str], int] = {}
    for name in user.roles:
        role = database.role(name)
        for cluster in (role and role.clusters) or ():
            assert cluster is not None
            uuid = ids.get(cluster.id, cluster.id)
            of_clusters[uuid] = of_clusters.get(uuid, 0) | parse_mask(cluster.perm)
        for bucket in (role and role.buckets) or ():
            assert bucket is not None
            of_buckets[bucket.bck.key] = of_buckets.get(bucket.bck.key, 0) | parse_mask(bucket.perm)
    claims: dict[str, object] = {
        "clusters": [{"id": uuid, "perm": str(mask)} for uuid, mask in of_clusters.items()] or None
    }
    if of_buckets:
        claims["buckets"] = [
            {
                "bck": {"name": key[0], "provider": key[1], "namespace": {"uuid": key[2], "name": key[3]}},
                "perm": str(mask),
            }
            for key, mask in of_buckets.items()
        ]
    audience = {*of_clusters, *(key[2] for key in of_buckets)} - {""}
    return {**claims, "admin": False, "aud": sorted(audience)}


def of_key(service: AuthnService, key: StoredKey, grants: dict[str, object], uuid: str) -> str:
    """The token that tells a cluster what an access key may there. It is no token of its user: the cluster could show that elsewhere."""
    clusters, buckets = (grants.get(name) or () for name in ("clusters", "buckets"))
    assert isinstance(clusters, (list, tuple))
    assert isinstance(buckets, (list, tuple))
    here = {
        "clusters": [one for one in clusters if one["id"] in ("", uuid)] or None,
        "buckets": [one for one in buckets if one["bck"]["namespace"]["uuid"] == uuid] or None,
        "admin": grants["admin"],
        "aud": [uuid],
        "access_key": key.id,
    }
    return issue(service, key.user, here, key.expires, key.id)


def issue(service: AuthnService, name: str, grants: dict[str, object], expires: int, number: str) -> str:
    """A token of a user until `expires` (Unix seconds); `number` tells it from others. Raises `ApiError` 400 if it were too long."""
    claims = {key: value for key, value in grants.items() if key != "aud" or value}
    times = {"exp": expires, "iat": int(time.time()), "jti": number}
    token = service.keys.sign({**claims, "iss": service.external_url, "sub": name, **times})
    if len(token) > TOKEN_MAX:
        raise ApiError(
            400,
            f"the roles of user {name} make a token of {len(token)} bytes, and clusters take {TOKEN_MAX}: "
            "give the user fewer roles, or one with rights on the whole cluster",
        )
    return token
