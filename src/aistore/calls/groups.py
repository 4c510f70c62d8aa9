"""Calls on many objects (`protocol/10` 22, 23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.buckets import act, only_cloud
from aistore.wire import actions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Steps

__all__ = ["delete", "evict", "prefetch"]


def delete(ref: BucketRef, selection: Mapping[str, object]) -> Steps[str]:
    """Delete the selected objects; returns the id of the job that does."""
    answer = yield from act(ref, "DELETE", actions.DELETE_OBJECTS, dict(selection))
    return answer.content.decode()


def evict(ref: BucketRef, selection: Mapping[str, object]) -> Steps[str]:
    """Drop the selected objects of a remote bucket from the cluster; returns the id of the job that does."""
    only_cloud(ref)
    answer = yield from act(ref, "DELETE", actions.EVICT_OBJECTS, dict(selection))
    return answer.content.decode()


def prefetch(
    ref: BucketRef,
    selection: Mapping[str, object],
    blob_threshold: int | None,
    num_workers: int | None,
    latest: bool,
    continue_on_error: bool,
) -> Steps[str]:
    """Bring the selected objects of a remote bucket into the cluster; returns the id of the job that does."""
    only_cloud(ref)
    value: dict[str, object] = {**selection, "coer": continue_on_error, "latest-ver": latest}
    if blob_threshold:
        value["blob-threshold"] = blob_threshold
    if num_workers:
        value["num-workers"] = num_workers
    answer = yield from act(ref, "POST", actions.PREFETCH_OBJECTS, value)
    return answer.content.decode()
