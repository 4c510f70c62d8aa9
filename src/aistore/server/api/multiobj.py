"""Calls that act on many objects of a bucket (protocol/10 22, 23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from aistore.server.api.messages import job_reply
from aistore.server.jobs.objects import delete_names, delete_prefix
from aistore.wire import access, actions
from aistore.wire.errors import ApiError
from aistore.wire.messages import ListRange, decode_value
from aistore.wire.names import check_object_name
from aistore.wire.template import Template, parse_template

if TYPE_CHECKING:
    from aistore.http1.message import Reply
    from aistore.server.jobs.registry import Job
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket

__all__ = ["Selected", "delete_objects", "select"]

M = TypeVar("M", bound=ListRange)


@dataclass(frozen=True)
class Selected(Generic[M]):
    """A message, and the objects that it selects: `names`, or if there are none those of the template."""

    message: M
    names: list[str]
    template: Template
    control: str
    """How the job's snapshots show the selection."""


def select(node: Node, value: object, kind: type[M], action: str) -> Selected[M]:
    """Read the value of an action on many objects. Raises ApiError 400."""
    try:
        message = decode_value(value, kind, action, node.name)
        _check_workers(message)
        names = [check_object_name(name) for name in message.objnames]
        template = Template(("",)) if names else parse_template(message.template)
    except ApiError as error:
        text = f'{node.name} failed to "{action}" List/Range: {error.message}'
        raise ApiError(error.status, text, error.tcode) from None
    control = (
        f"list:[{' '.join(names[:8])}{' ...' if len(names) > 8 else ''}]"
        if names
        else f"template:[{message.template[:256]}]"
    )
    return Selected(message, names, template, control)


async def delete_objects(node: Node, bucket: Bucket, value: object) -> Reply:
    """Start a job that deletes the selected objects; the answer is its id."""
    node.check_access(bucket, access.DELETE_OBJECT, "DELETE-OBJECT")
    selected = select(node, value, ListRange, actions.DELETE_OBJECTS)
    store, scanner = node.store, node.control.scanner
    names, template = selected.names, selected.template

    async def work(job: Job) -> None:
        if names:
            await delete_names(job, store, bucket, names, f"{node.name}: {{}} does not exist")
        elif template.prefix is None:
            await delete_names(job, store, bucket, map(check_object_name, template.names()), "")
        else:
            recursive = not selected.message.non_recurs
            await delete_prefix(job, store, scanner, bucket, template.prefix, recursive=recursive)

    job = node.control.jobs.start(actions.DELETE_OBJECTS, work, bucket=bucket.id, control=selected.control, names=names)
    return await job_reply(job)


def _check_workers(selection: ListRange) -> None:
    # Fewer than "none" (-1) crashes the reference's request handler.
    if selection.num_workers < -1:
        raise ApiError(400, f"invalid num-workers {selection.num_workers} (expected -1 or more)")
