"""What can go wrong in file-like readers, besides failures of the network and refusals of the cluster."""

from __future__ import annotations

__all__ = ["ObjectFileReaderMaxResumeError", "ObjectFileReaderStreamError", "ObjectFileReaderUnexpectedEOF"]


class ObjectFileReaderStreamError(Exception):
    """The stream cannot go on: the object was overwritten while it was read, or its content is not what its checksum says."""

    def __init__(self, err: Exception | str) -> None:
        super().__init__(f"ObjectFileReader stream failed: {err}")
        self.original_error = err

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.original_error,)


class ObjectFileReaderMaxResumeError(Exception):
    """The stream broke more often than it was allowed to; `original_error` is what broke it last."""

    def __init__(self, err: Exception, max_retries: int) -> None:
        super().__init__(f"ObjectFileReader exceeded max number of stream resumptions: {max_retries} ({err})")
        self.original_error = err
        self.max_retries = max_retries

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.original_error, self.max_retries)


class ObjectFileReaderUnexpectedEOF(Exception):
    """The stream ended, without an error, before the end of the object; both are positions in bytes."""

    def __init__(self, actual: int, expected: int) -> None:
        super().__init__(f"the stream ended at byte {actual} of {expected}")
        self.actual = actual
        self.expected = expected

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.actual, self.expected)
