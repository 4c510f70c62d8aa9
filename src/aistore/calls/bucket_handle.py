"""What a bucket knows without asking the cluster, in both faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.bucket_ref import BucketRef
from aistore.sdk.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aistore.calls.listing import Listing
    from aistore.sdk.list_object_flag import ListObjectFlag
    from aistore.sdk.namespace import Namespace
    from aistore.sdk.types import BucketModel

__all__ = ["BucketHandle"]


class BucketHandle:
    """Name, provider and namespace of a bucket."""

    __slots__ = ("_namespace", "_ref")

    def __init__(self, name: str, provider: Provider | str, namespace: Namespace | None) -> None:
        known = provider if type(provider) is Provider else Provider.parse(provider)
        self._namespace = namespace
        self._ref = BucketRef(name, known.value, None if namespace is None else namespace.get_path())

    @property
    def ref(self) -> BucketRef:
        """Its identity, as calls want it."""
        return self._ref

    @property
    def qparam(self) -> dict[str, str]:
        """Query parameters that all its requests have."""
        return self._ref.parameters

    @property
    def provider(self) -> Provider:
        """Where its content lives."""
        return Provider.parse(self._ref.provider)

    @property
    def name(self) -> str:
        """Its name."""
        return self._ref.name

    @property
    def namespace(self) -> Namespace | None:
        """Its namespace; None for the global one."""
        return self._namespace

    def get_path(self) -> str:
        """Its unique name: `ais/@#/data/`."""
        return self._ref.uname

    def as_model(self) -> BucketModel:
        """The bucket as messages name it."""
        from aistore.sdk.types import BucketModel

        return BucketModel(name=self._ref.name, provider=self._ref.provider, namespace=self._namespace)

    def verify_cloud_bucket(self) -> None:
        """Raise `InvalidBckProvider` unless its content lives outside of the cluster."""
        from aistore.calls.buckets import only_cloud

        only_cloud(self._ref)

    def _renamed(self, name: str) -> BucketRef:
        """Its identity with another name."""
        return BucketRef(name, self._ref.provider, self._ref.namespace)

    def _listing(
        self,
        prefix: str,
        props: str,
        page_size: int,
        flags: Iterable[ListObjectFlag] | None,
        target: str,
        inventory_name: str,
        start_after: str,
    ) -> Listing:
        from aistore.calls.listing import Listing

        return Listing(self._ref, prefix, props, page_size, flags, target, inventory_name, start_after)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._ref}>"
