"""What requests need to know about a bucket."""

from __future__ import annotations

from aistore.calls.query import encode_query, quote_name
from aistore.wire import params

__all__ = ["BucketRef", "ref_of"]


class BucketRef:
    """Identity of a bucket, with the parts of paths and queries that all calls on it share made once.

    `namespace` is the uname of its namespace, `@uuid#name`, or None where none was given: that means the global one.
    """

    __slots__ = ("name", "namespace", "objects", "provider", "query", "resource")

    def __init__(self, name: str, provider: str, namespace: str | None = None) -> None:
        self.name = name
        self.provider = provider
        self.namespace = namespace
        quoted = quote_name(name)
        self.resource = f"buckets/{quoted}"
        """Path of the bucket."""
        self.objects = f"objects/{quoted}/"
        """What the paths of its objects begin with."""
        if namespace is None:
            # Sent with every request; providers are plain words (protocol/00 5.1).
            self.query = f"provider={provider}"
        else:
            self.query = encode_query({params.PROVIDER: provider, params.NAMESPACE: namespace})

    @property
    def uname(self) -> str:
        """Unique name, with its final slash: `ais/@#/data/` (protocol/00 6.3)."""
        return f"{self.provider}/{self.namespace or '@#'}/{self.name}/"

    @property
    def cluster(self) -> str:
        """Uuid or alias of the other cluster that the bucket lives in; empty if it lives in this one."""
        return (self.namespace or "").removeprefix("@").partition("#")[0]

    @property
    def parameters(self) -> dict[str, str]:
        """The query as a fresh mapping."""
        found = {params.PROVIDER: self.provider}
        if self.namespace is not None:
            found[params.NAMESPACE] = self.namespace
        return found

    @property
    def document(self) -> dict[str, object]:
        """The bucket inside of messages."""
        found: dict[str, object] = {"name": self.name, "provider": self.provider}
        if self.namespace is not None:
            uuid, _, name = self.namespace.removeprefix("@").partition("#")
            found["namespace"] = {"uuid": uuid, "name": name}
        return found

    def object_path(self, name: str) -> str:
        """Path of an object."""
        return self.objects + quote_name(name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BucketRef):
            return NotImplemented
        return (self.name, self.provider, self.namespace) == (other.name, other.provider, other.namespace)

    def __hash__(self) -> int:
        return hash((self.name, self.provider, self.namespace))

    def __reduce__(self) -> tuple[type[BucketRef], tuple[str, str, str | None]]:
        return BucketRef, (self.name, self.provider, self.namespace)

    def __str__(self) -> str:
        inner = f"{self.namespace}/" if self.namespace not in (None, "@#") else ""
        return f"{self.provider}://{inner}{self.name}"

    def __repr__(self) -> str:
        return f"<BucketRef {self}>"


def ref_of(bucket: object, argument: str) -> BucketRef:
    """The identity of a bucket that is an argument of a call. Raises TypeError for a name, or anything else that is none."""
    ref = getattr(bucket, "ref", None)
    if not isinstance(ref, BucketRef):
        raise TypeError(f"`{argument}` has to be a bucket such as client.bucket('name'), not {bucket!r}")
    return ref
