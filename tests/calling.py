"""Plain HTTP calls on a cluster: redirects are followed, nothing is ever repeated."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType


class Got(NamedTuple):
    """An answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def error(self) -> dict[str, object]:
        """The error body."""
        document: dict[str, object] = json.loads(self.body)
        assert document["status"] == self.status
        return document


class Caller:
    """Keep-alive connections to a cluster, one for each node; for one thread."""

    def __init__(self, url: str, timeout: float = 60) -> None:
        self._base = urlsplit(url).netloc
        self._timeout = timeout
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections.values():
            connection.close()

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Got:
        where = self._base
        for _ in range(3):
            connection = self._connections.get(where)
            if connection is None:
                connection = self._connections[where] = http.client.HTTPConnection(where, timeout=self._timeout)
            try:
                connection.request(method, path, body, dict(headers or {}))
                response = connection.getresponse()
                got = Got(response.status, response.headers, response.read())
            except BaseException:
                connection.close()
                raise
            if got.status not in (301, 307):
                return got
            location = urlsplit(got.headers["Location"])
            where, path = location.netloc, f"{location.path}?{location.query}"
        raise AssertionError(f"{method} {path} is redirected without end")

    def redirected(self, method: str, path: str) -> str:
        """The URL at which a call is executed in the end."""
        connection = http.client.HTTPConnection(self._base, timeout=self._timeout)
        try:
            connection.request(method, path)
            location = connection.getresponse().headers["Location"]
        finally:
            connection.close()
        return location or f"http://{self._base}{path}"

    def action(self, method: str, path: str, action: str, value: object = None) -> Got:
        """A call with an action message."""
        return self(method, path, json.dumps({"action": action, "name": "", "value": value}).encode())

    def make_bucket(self, name: str) -> None:
        assert self.action("POST", f"/v1/buckets/{name}", "create-bck").status == 200

    def names(self, bucket: str) -> list[str]:
        """Names of all objects, by the listing."""
        got = self.action("GET", f"/v1/buckets/{bucket}", "list", {"props": "name", "pagesize": 0})
        assert got.status == 200, got.body
        return [entry["name"] for entry in json.loads(got.body)["entries"] or []]

    def put(self, bucket: str, name: str, body: bytes, headers: Mapping[str, str] | None = None) -> Got:
        return self("PUT", where(bucket, name), body, headers)

    def get(self, bucket: str, name: str, headers: Mapping[str, str] | None = None) -> Got:
        return self("GET", where(bucket, name), None, headers)

    def delete(self, bucket: str, name: str) -> Got:
        return self("DELETE", where(bucket, name))


def where(bucket: str, name: str) -> str:
    return f"/v1/objects/{bucket}/{quote(name)}"
