"""Messages of an AuthN server, and names that both sides know (protocol/60 2-9)."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from aistore.wire.errors import ApiError
from aistore.wire.names import PROVIDERS

USERS: Final = "users"
ROLES: Final = "roles"
CLUSTERS: Final = "clusters"
TOKENS: Final = "tokens"
ACCESS_KEYS: Final = "access-keys"
"""Ours: the keys that clients of S3 sign with. The reference does not have them."""
RESOURCES: Final = frozenset({USERS, ROLES, CLUSTERS, TOKENS, ACCESS_KEYS})

ADMIN_ROLE: Final = "Admin"
# The subject of tokens that an AuthN server shows to clusters.
SERVICE: Final = "AuthN"

MAX_NAME: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_MASK: Final = re.compile(r"[0-9]{1,20}")


class ClusterAcl(msgspec.Struct):
    """Rights on a cluster, as a mask in decimal digits; of a registered cluster, alias and URLs."""

    id: str = ""
    alias: str = ""
    urls: list[str] | None = None
    perm: str = "0"


class Namespace(msgspec.Struct):
    """`uuid` is the id of the cluster that the bucket of a role lies in."""

    uuid: str = ""
    name: str = ""


class AclBucket(msgspec.Struct):
    """The bucket of an entry of a role."""

    name: str = ""
    provider: str = ""
    namespace: Namespace = msgspec.field(default_factory=Namespace)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Which bucket it is: name, provider (whichever way that was written), cluster, namespace."""
        provider = PROVIDERS.get(self.provider, self.provider)
        return self.name, provider, self.namespace.uuid, self.namespace.name


class BucketAcl(msgspec.Struct):
    """Rights on one bucket."""

    bck: AclBucket = msgspec.field(default_factory=AclBucket)
    perm: str = "0"


class Role(msgspec.Struct):
    """What users of a role may do (protocol/60 4.3)."""

    name: str = ""
    desc: str | None = None
    clusters: list[ClusterAcl | None] | None = None
    buckets: list[BucketAcl | None] | None = None
    admin: bool = False


class RoleName(msgspec.Struct):
    """A role of a user in a request: only its name counts."""

    name: str = ""


class User(msgspec.Struct):
    """A user in a request."""

    id: str = ""
    password: str | None = msgspec.field(default=None, name="pass")
    roles: list[RoleName | None] | None = None


class Login(msgspec.Struct):
    """A login; `expires_in` in nanoseconds."""

    password: str = ""
    expires_in: int | None = None


class Token(msgspec.Struct):
    """A token, alone."""

    token: str = ""


class AccessKeyOrder(msgspec.Struct):
    """A key that is asked for: of the caller unless it names a user; `expires_in` in nanoseconds, by default as long as can be."""

    user: str = ""
    expires_in: int | None = None


class AccessKey(msgspec.Struct):
    """A key as clusters are told it: with its secret, and a token that says what may be done with it."""

    id: str
    secret: str
    token: str

    def __repr__(self) -> str:
        return f"<AccessKey {self.id}>"


class AccessKeys(msgspec.Struct):
    """All keys that a cluster is to accept."""

    keys: list[AccessKey]


class RevokedTokens(msgspec.Struct):
    """Tokens that a cluster is to refuse."""

    tokens: list[str] = []


def check_name(what: str, name: str) -> None:
    """Raise ApiError 400 unless `name` may name a user, a role or, as an alias, a cluster (protocol/60 2.3)."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        limits = "must be less than 32 characters and may only contain letters, numbers, dashes (-), underscores (_)"
        raise ApiError(400, f'{what} "{name[:100]}" is invalid: {limits}')


def parse_mask(perm: str) -> int:
    """The mask that an entry has. Raises ValueError for what is no number of 64 bits."""
    if not _MASK.fullmatch(perm) or (mask := int(perm)) >= 1 << 64:
        raise ValueError(f"perm {perm[:40]!r} is no number of 64 bits in decimal digits")
    return mask
