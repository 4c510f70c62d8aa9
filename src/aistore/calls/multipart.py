"""Uploads of one object in parts (protocol/20 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls.query import encode_query, extend
from aistore.transport.request import Request
from aistore.wire import actions, params
from aistore.wire.messages import encode_action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.calls.steps import Answer, Steps

__all__ = ["MultipartState"]


class MultipartState:
    """What an upload knows, in both faces: its id, and the numbers of its parts in the order in which they were added."""

    __slots__ = ("_parts", "_path", "_query", "_upload_id")

    def __init__(self, object_path: str, query_params: Mapping[str, str] | str | None) -> None:
        self._path = object_path
        self._query = query_params if isinstance(query_params, str) else encode_query(query_params)
        self._upload_id: str | None = None
        self._parts: list[int] = []

    @property
    def upload_id(self) -> str | None:
        """Id of the upload in the cluster; None before `create`."""
        return self._upload_id

    @property
    def parts(self) -> list[int]:
        """Numbers of its parts, in the order in which they were added."""
        return self._parts

    def _create(self) -> Steps[None]:
        answer = yield Request("POST", self._path, self._query, body=encode_action(actions.MULTIPART_UPLOAD))
        self._upload_id = answer.content.decode().strip('"')

    def _part_query(self, part_number: int) -> str:
        """Query of the PUT of a part, which is noted. Raises ValueError."""
        if not self._upload_id:
            raise ValueError("Multipart upload not created")
        if type(part_number) is not int or part_number < 1:
            raise ValueError("Part number must be a positive integer")
        self._parts.append(part_number)
        return extend(self._query, **{params.UPLOAD_ID: self._upload_id, params.PART_NUMBER: part_number})

    def _complete(self) -> Steps[Answer]:
        value = [{"part-number": number, "etag": ""} for number in self._parts]
        return (yield self._request("POST", actions.MULTIPART_COMPLETE, value))

    def _abort(self) -> Steps[Answer]:
        return (yield self._request("DELETE", actions.MULTIPART_ABORT, None))

    def _request(self, method: str, action: str, value: object) -> Request:
        if not self._upload_id:
            raise ValueError("Multipart upload not created")
        query = extend(self._query, **{params.UPLOAD_ID: self._upload_id})
        return Request(method, self._path, query, body=encode_action(action, "", value))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._upload_id or 'not created'} of {self._path}, {len(self._parts)} parts>"
