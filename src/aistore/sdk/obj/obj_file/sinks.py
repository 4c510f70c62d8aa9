"""Where the buffers of object files empty into."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from aistore.calls.file_writing import FileWriting
    from aistore.sdk.request_client import RequestClient

__all__ = ["Sink"]


class Sink(io.RawIOBase):
    """Where a file writer's buffer empties into; making one is what opening the file does."""

    def __init__(self, writing: FileWriting, client: RequestClient) -> None:
        self._writing = writing
        self._run = client.run
        self._run(writing.begin())

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data)
        self._run(self._writing.take(view))
        return len(view)

    def commit(self) -> None:
        """Make visible what was taken."""
        self._run(self._writing.commit())

    def forget(self) -> None:
        """Drop what was not committed, without a word to the cluster."""
        self._writing.forget()

    def discard(self) -> None:
        """Drop what was not committed, and what opening the file did."""
        self._run(self._writing.discard())
