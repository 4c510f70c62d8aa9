"""Calls on buckets (protocol/10 3-13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.query import encode_query
from aistore.transport.request import Request
from aistore.wire import actions, params
from aistore.wire.messages import encode_action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Answer, Steps
    from aistore.sdk.provider import Provider
    from aistore.sdk.types import BucketModel

__all__ = ["act", "copy", "create", "destroy", "evict", "head", "list_buckets", "only_cloud", "only_own", "rename"]


def only_own(ref: BucketRef) -> None:
    """Raise `InvalidBckProvider` unless the bucket is one of the cluster's own: others are not made or destroyed from here."""
    if ref.provider != "ais":
        _refuse(ref, "buckets of this provider are not made, renamed or destroyed from here")


def only_cloud(ref: BucketRef) -> None:
    """Raise `InvalidBckProvider` unless the bucket's content lives outside of the cluster."""
    if ref.provider == "ais" and not ref.cluster:
        _refuse(ref, "only for buckets whose content lives outside of the cluster")


def _refuse(ref: BucketRef, advice: str) -> None:
    from aistore.sdk.errors import InvalidBckProvider
    from aistore.sdk.provider import Provider

    raise InvalidBckProvider(Provider.parse(ref.provider), advice)


def act(
    ref: BucketRef,
    method: str,
    action: str,
    value: object = None,
    name: str = "",
    parameters: Mapping[str, object] | None = None,
) -> Steps[Answer]:
    """Send an action message to the bucket; `parameters` replace the bucket's own query."""
    query = ref.query if parameters is None else encode_query(parameters)
    return (yield Request(method, ref.resource, query, body=encode_action(action, name, value)))


def create(ref: BucketRef, exist_ok: bool) -> Steps[None]:
    """Make the bucket."""
    only_own(ref)
    from aistore.sdk.errors import ErrBckAlreadyExists

    try:
        yield from act(ref, "POST", actions.CREATE_BUCKET)
    except ErrBckAlreadyExists as error:
        # The same class covers a bucket that is busy, which says nothing about its being there (protocol/10 26.2).
        if not exist_ok or error.tcode not in ("", "ErrBucketAlreadyExists"):
            raise


def destroy(ref: BucketRef, missing_ok: bool) -> Steps[None]:
    """Destroy the bucket with all that it holds."""
    only_own(ref)
    from aistore.sdk.errors import ErrBckNotFound

    try:
        yield from act(ref, "DELETE", actions.DESTROY_BUCKET)
    except ErrBckNotFound:
        if not missing_ok:
            raise


def evict(ref: BucketRef, keep_md: bool) -> Steps[None]:
    """Drop what the cluster holds of a remote bucket; its name and properties too, unless `keep_md`."""
    only_cloud(ref)
    parameters = {**ref.parameters, params.KEEP_BCK_MD: str(keep_md)}
    yield from act(ref, "DELETE", actions.EVICT_BUCKET, parameters=parameters)


def head(ref: BucketRef) -> Steps[Answer]:
    """Properties of the bucket, in headers."""
    return (yield Request("HEAD", ref.resource, ref.query))


def list_buckets(provider: str | Provider, namespace: str = "") -> Steps[list[BucketModel]]:
    """Buckets of a provider, or with an empty one of all; `namespace` is that of another cluster, `@@` stands for all of them."""
    from pydantic import TypeAdapter

    from aistore.sdk.provider import Provider
    from aistore.sdk.types import BucketModel

    found = {params.PROVIDER: Provider.parse(provider).value if provider else ""}
    query = encode_query({**found, params.NAMESPACE: namespace} if namespace else found)
    answer = yield Request("GET", "buckets", query, body=encode_action(actions.LIST))
    listed = TypeAdapter(list[BucketModel] | None).validate_json(answer.content)
    return listed or []


def copy(
    ref: BucketRef,
    to: BucketRef,
    prefix: str,
    prepend: str,
    ext: Mapping[str, str] | None,
    dry_run: bool,
    force: bool,
    latest: bool,
    sync: bool,
    num_workers: int,
) -> Steps[str]:
    """Copy the bucket's objects to another one; returns the id of the job that does."""
    value: dict[str, object] = {
        "prefix": prefix, "prepend": prepend, "dry_run": dry_run, "force": force, "latest-ver": latest, "synchronize": sync,
    }  # fmt: skip
    if ext:
        if isinstance(ext, str):
            raise TypeError(f"`ext` maps extensions to new ones, such as {{'jpeg': 'jpg'}}, and is not {ext!r}")
        value["ext"] = dict(ext)
    if num_workers:
        value["num-workers"] = num_workers
    answer = yield from act(
        ref, "POST", actions.COPY_BUCKET, value, parameters={**ref.parameters, params.BCK_TO: to.uname}
    )
    return answer.content.decode()


def rename(ref: BucketRef, new: BucketRef) -> Steps[str]:
    """Give the bucket another name; returns the id of the job that does."""
    only_own(ref)
    parameters = {**ref.parameters, params.BCK_TO: new.uname}
    return (yield from act(ref, "POST", actions.MOVE_BUCKET, parameters=parameters)).content.decode()
