"""Calls on many objects (protocol/10 22, 23)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aistore.calls.buckets import act, only_cloud
from aistore.wire import actions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Steps

__all__ = ["archive", "copy", "delete", "evict", "prefetch"]

logger = logging.getLogger("aistore.sdk.multiobj.object_group")


def copy(
    ref: BucketRef,
    selection: Mapping[str, object],
    to: BucketRef,
    prepend: str,
    continue_on_error: bool,
    dry_run: bool,
    force: bool,
    latest: bool,
    sync: bool,
    num_workers: int | None,
) -> Steps[list[str]]:
    """Copy the selected objects to a bucket; returns the ids of the jobs that do."""
    if dry_run:
        logger.info("Copy dry-run. Running with dry_run=False will copy %s from %s to %s", selection, ref, to)
    value: dict[str, object] = {
        **selection, "tobck": to.document, "prepend": prepend, "dry_run": dry_run, "force": force, "latest-ver": latest,
        "synchronize": sync, "coer": continue_on_error,
    }  # fmt: skip
    if num_workers:
        value["num-workers"] = num_workers
    answer = yield from act(ref, "POST", actions.COPY_OBJECTS, value)
    return answer.content.decode().split(",")


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


def archive(
    ref: BucketRef,
    selection: Mapping[str, object],
    archive_name: str,
    mime: str,
    to: BucketRef,
    include_source_name: bool,
    allow_append: bool,
    continue_on_err: bool,
) -> Steps[list[str]]:
    """Put the selected objects into an archive; returns the ids of the jobs that do, nearly always one."""
    value: dict[str, object] = {
        **selection,
        "archname": archive_name,
        "tobck": to.document,
        "isbn": include_source_name,
        "aate": allow_append,
        "coer": continue_on_err,
    }
    if mime:
        value["mime"] = mime
    answer = yield from act(ref, "PUT", actions.ARCHIVE, value)
    return answer.content.decode().split(",")
