"""Errors of the datasets."""

from __future__ import annotations

from tarfile import ReadError
from typing import TYPE_CHECKING

from aistore.sdk.errors import ErrObjNotFound

if TYPE_CHECKING:
    import requests

__all__ = ["SampleNotFound", "ShardError"]


class SampleNotFound(ErrObjNotFound):
    """An object of the dataset is gone; also `FileNotFoundError`.

    One argument makes it, which is how a `DataLoader` raises in the main process what happened in a worker: other errors of calls
    become a `RuntimeError` there, whose text has all of it.
    """

    def __init__(
        self, message: str, status_code: int = 404, req_url: str = "", req: requests.PreparedRequest | None = None
    ) -> None:
        super().__init__(status_code, message, req_url, req)

    @classmethod
    def of(cls, error: ErrObjNotFound) -> SampleNotFound:
        """The same, of a dataset."""
        return cls(str(error), error.status_code, error.req_url, error.req)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.status_code, self.req_url)


class ShardError(ReadError):
    """A shard is damaged, cut short, no archive, or has one sample in two places; the samples given out before are good.

    Also `tarfile.TarError`, as in the official SDK.
    """
