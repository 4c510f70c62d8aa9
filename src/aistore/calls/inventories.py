"""Calls on inventories of buckets (protocol/10 21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.buckets import act
from aistore.wire import actions

if TYPE_CHECKING:
    from aistore.calls.bucket_ref import BucketRef
    from aistore.calls.steps import Steps
    from aistore.sdk.types import NBIInfo

__all__ = ["create_inventory", "destroy_inventory", "show_inventory"]


def create_inventory(
    ref: BucketRef, name: str, prefix: str, props: str, names_per_chunk: int, force: bool
) -> Steps[str]:
    """Have the bucket's names recorded; returns the id of the job that does."""
    from aistore.sdk.types import CreateNBIMsg

    message = CreateNBIMsg(name=name, prefix=prefix, props=props, names_per_chunk=names_per_chunk, force=force)
    return (yield from act(ref, "POST", actions.CREATE_INVENTORY, message.as_dict())).content.decode()


def show_inventory(ref: BucketRef, name: str) -> Steps[dict[str, NBIInfo]]:
    """Inventories of the bucket, by the names of the objects that they are stored as."""
    from pydantic import TypeAdapter

    from aistore.sdk.types import NBIInfo

    answer = yield from act(ref, "GET", actions.SHOW_INVENTORY, None, name)
    return TypeAdapter(dict[str, NBIInfo]).validate_json(answer.content)


def destroy_inventory(ref: BucketRef, name: str) -> Steps[None]:
    """Remove an inventory, or all of the bucket."""
    yield from act(ref, "DELETE", actions.DESTROY_INVENTORY, None, name)
