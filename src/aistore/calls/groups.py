"""Calls on many objects (`protocol/10` 22, 23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.buckets import act
from aistore.wire import actions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Steps

__all__ = ["delete"]


def delete(ref: BucketRef, selection: Mapping[str, object]) -> Steps[str]:
    """Delete the selected objects; returns the id of the job that does."""
    answer = yield from act(ref, "DELETE", actions.DELETE_OBJECTS, dict(selection))
    return answer.content.decode()
