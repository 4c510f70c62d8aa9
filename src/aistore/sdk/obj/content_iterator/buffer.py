"""Memory for content that many threads fill at once."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ParallelBuffer"]


class ParallelBuffer:
    """The content of an object, in memory of its own: `buf` is a view of it, which is gone after `close()`.

    Use it as a context manager, or leave it to the garbage collector; `tobytes()` makes a copy.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = mmap.mmap(-1, size) if size else None
        self._view: memoryview | None = memoryview(self._memory) if self._memory is not None else memoryview(b"")

    @property
    def buf(self) -> memoryview:
        """The content. Raises ValueError after `close()`."""
        if self._view is None:
            raise ValueError("the buffer is closed")
        return self._view

    def tobytes(self) -> bytes:
        """A copy of the content."""
        return self.buf.tobytes()

    def close(self) -> None:
        """Release the memory, unless views of `buf` are still in use: then it goes with the last of them."""
        view, self._view = self._view, None
        if view is None:
            return
        try:
            view.release()
            if self._memory is not None:
                self._memory.close()
        except BufferError:  # a slice lives on; it keeps the memory
            self._memory = None

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[object, ...]:
        """A copy of the content travels, as from the workers of a `DataLoader`."""
        return _filled, (self.tobytes(),)

    def __enter__(self) -> ParallelBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ParallelBuffer {self._size} bytes{', closed' if self._view is None else ''}>"


def _filled(content: bytes) -> ParallelBuffer:
    buffer = ParallelBuffer(len(content))
    if content:
        buffer.buf[:] = content
    return buffer
