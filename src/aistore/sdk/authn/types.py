"""Messages and records of an AuthN server."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Union

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from aistore.sdk.authn.access_attr import AccessAttr
from aistore.sdk.types import BucketModel  # noqa: TC001  pydantic evaluates it

if TYPE_CHECKING:
    import builtins
    from collections.abc import ItemsView, Iterator

__all__ = [
    "AccessKeyInfo",
    "BucketPermission",
    "ClusterInfo",
    "ClusterList",
    "ClusterPermission",
    "LoginMsg",
    "RoleInfo",
    "RolesList",
    "TokenMsg",
    "UserInfo",
    "UserMap",
    "UsersList",
]

_NANOSECONDS = 1_000_000_000


def nanoseconds(seconds: float | None) -> int | None:
    """A lifetime as messages have it."""
    return None if seconds is None else int(seconds * _NANOSECONDS)


class TokenMsg(BaseModel):
    """A token, as login gives and revoking takes it."""

    token: str = Field(repr=False)


class LoginMsg(BaseModel):
    """A login: `expires_in` is in seconds, None for what the server gives, 0 for the longest."""

    password: str = Field(repr=False)
    expires_in: Union[int, float, None] = None  # noqa: UP007  pydantic evaluates it on Python 3.10, too

    def as_dict(self) -> dict[str, object]:
        """The document; there, times are in nanoseconds."""
        return {"password": self.password, "expires_in": nanoseconds(self.expires_in)}


class AccessKeyInfo(BaseModel):
    """An access key of a user: what clients of S3 call by these names, and times in Unix seconds. The secret is told once, when it is made."""

    id: str
    user: str
    created: int
    expires: int
    secret: Union[str, None] = Field(default=None, repr=False)  # noqa: UP007  as above


class ClusterInfo(BaseModel):
    """A registered cluster."""

    id: str
    alias: str | None = None
    urls: list[str] = []


class ClusterList(BaseModel):
    """The registered clusters, by id."""

    clusters: dict[str, ClusterInfo] = {}


class _Permission(BaseModel):
    """`perm` is the mask of rights as a decimal number."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    perm: str

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """Servers leave out a mask without any right."""
        return {"perm": "0", **values} if isinstance(values, dict) and "id" in values else values

    def describe(self) -> str:
        """Names of the rights, separated by commas."""
        return AccessAttr.describe(int(self.perm))


class ClusterPermission(_Permission):
    """Rights on a cluster, and on those of its buckets that have no rights of their own in the role."""

    id: str
    perm: str

    def __str__(self) -> str:
        return f"ClusterPermission(id={self.id}, perm={self.describe()})"


class BucketPermission(_Permission):
    """Rights on one bucket; `bck.namespace.uuid` is the id of its cluster."""

    bck: BucketModel
    perm: str

    def __str__(self) -> str:
        return f"BucketPermission(bck={self.bck}, perm={self.describe()})"


class RoleInfo(BaseModel):
    """A role: what its users may do."""

    name: str
    desc: str
    clusters: list[ClusterPermission] | None = None
    buckets: list[BucketPermission] | None = None
    admin: bool = False

    def __str__(self) -> str:
        clusters = "None" if self.clusters is None else ", ".join(map(str, self.clusters))
        buckets = "None" if self.buckets is None else ", ".join(map(str, self.buckets))
        return (
            f"RoleInfo(name={self.name}, desc={self.desc}, clusters=[{clusters}], "
            f"buckets=[{buckets}], admin={self.admin})"
        )


class RolesList(RootModel[list[RoleInfo]]):
    """Roles, in no order."""

    @property
    def roles(self) -> list[RoleInfo]:
        """The roles."""
        return self.root

    def __iter__(self) -> Iterator[RoleInfo]:  # type: ignore[override]  # pydantic's iterates over fields
        return iter(self.root)

    def __getitem__(self, item: int) -> RoleInfo:
        return self.root[item]

    def __len__(self) -> int:
        return len(self.root)

    def __str__(self) -> str:
        return "\n".join(map(str, self.root))


class UserInfo(BaseModel):
    """A user. The server never tells a password."""

    id: str
    password: str | None = Field(default=None, repr=False)
    roles: RolesList

    def dict(self, **kwargs: Any) -> builtins.dict[str, Any]:
        """The document that servers take: a password that is set is called `pass` there."""
        document = self.model_dump(**kwargs)
        if document.get("password"):
            document["pass"] = document.pop("password")
        return document


class UserMap(RootModel[dict[str, UserInfo]]):
    """Users by name. Iterating gives names; `in` takes names and users."""

    @property
    def users(self) -> dict[str, UserInfo]:
        """The users by name."""
        return self.root

    def items(self) -> ItemsView[str, UserInfo]:
        """Names and users."""
        return self.root.items()

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # pydantic's iterates over fields
        return iter(self.root)

    def __getitem__(self, item: str) -> UserInfo:
        return self.root[item]

    def __contains__(self, item: object) -> bool:
        return item in self.root if isinstance(item, str) else item in self.root.values()

    def __len__(self) -> int:
        return len(self.root)

    def __str__(self) -> str:
        return "\n".join(map(str, self.root.values()))


class UsersList(UserMap):
    """Deprecated: `UserMap`. Iterating gives users."""

    def __init__(self, root: dict[str, UserInfo]) -> None:
        warnings.warn("UsersList is deprecated: use UserMap", DeprecationWarning, stacklevel=2)
        super().__init__(root)

    def __iter__(self) -> Iterator[UserInfo]:  # type: ignore[override]  # as above
        return iter(self.root.values())

    def __str__(self) -> str:
        return "\n".join(self.root)
