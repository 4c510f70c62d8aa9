"""Files of this machine into a bucket of an embedded cluster, which takes them from where they lie."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from aistore.calls.steps import local
from aistore.calls.sync_kinds import FolderToBucket
from aistore.transport.request import Request
from aistore.wire import actions, params, whats
from aistore.wire.messages import encode_action

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from aistore.calls.bucket_end import BucketEnd
    from aistore.calls.file_uploads import Together
    from aistore.calls.steps import Steps
    from aistore.calls.syncing import Choice
    from aistore.calls.transfers import Cursor, Entry

__all__ = ["ImportFolder"]


class Shown(Protocol):
    """What shows a server that its client is the same user."""

    @property
    def name(self) -> str:
        """What the server is told."""
        ...

    def withdraw(self) -> None:
        """Nobody needs it any more."""
        ...


class ImportFolder(FolderToBucket):
    """Files of a folder become objects, taken by the server from where they lie."""

    title = "import"

    def __init__(
        self,
        folder: str | PathLike[str],
        to: BucketEnd,
        choice: Choice,
        together: Together,
        link: bool,
        prove: Callable[[str, str], Shown | None],
    ) -> None:
        super().__init__(folder, to, choice, together)
        self._link = link
        self._prove = prove
        self._shown: Shown | None = None

    def _cursors(self) -> Steps[tuple[Cursor, Cursor]]:
        found = yield from super()._cursors()
        answer = yield Request("GET", "daemon", f"{params.WHAT}={whats.CONFIG}")
        try:
            folder = json.loads(answer.content).get("confdir", "")
        except (ValueError, AttributeError):
            folder = ""
        self._shown = yield from local(self._prove, str(folder), self._to.bucket.client.base_url)
        if self._shown is None:
            raise ValueError(
                f"{self._to.ref} is in no embedded cluster of this user on this machine, which could take files from where they lie: "
                "use bucket.sync(source=...) or bucket.put_files(...)"
            )
        return found

    def _move(self, name: str, source: Entry, *, replaces: bool) -> Steps[tuple[str, int]]:  # noqa: ARG002  the interface's
        end, path = self._to, f"{self._tree.root}/{name}"
        assert self._shown is not None  # planned first
        value = {
            "src": path,
            "obj": end.prefix + name,
            "ovw": True,
            "imp": "link" if self._link else "reflink",
            "proof": self._shown.name,
        }
        body = encode_action(actions.PROMOTE, path, value)
        answer = yield Request("POST", end.ref.objects.rstrip("/"), end.ref.query, body=body)
        done = json.loads(answer.content)
        return str(done["how"]), int(done["size"])

    def _how(self, source: Entry) -> str:  # noqa: ARG002  the interface's
        return "import"

    def abandon(self) -> None:
        super().abandon()
        self._withdraw()

    def close(self) -> None:
        super().close()
        self._withdraw()

    def _withdraw(self) -> None:
        if self._shown is not None:
            self._shown.withdraw()
