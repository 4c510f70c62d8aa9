"""What goes wrong with a backend, told apart: missing, forbidden, throttled, unreachable, broken off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from aistore.wire.errors import ApiError
from aistore.wire.names import BACKENDS

if TYPE_CHECKING:
    from aistore.wire.names import BucketId

__all__ = [
    "RemoteError",
    "RemoteKind",
    "broken",
    "bucket_missing",
    "changed",
    "forbidden",
    "object_missing",
    "refused",
    "throttled",
    "unreachable",
    "without_ranges",
]

_RETRY_AFTER: Final = "1"
"""Seconds that a client is asked to wait; the server has waited, too."""

RemoteKind = Literal["object", "bucket", "forbidden", "throttled", "unreachable", "changed", "refused", "failed"]


class RemoteError(ApiError):
    """A backend refused or did not answer; it is the protocol's refusal at the same time.

    `kind` is `object` or `bucket` for what does not exist there, `forbidden`, `throttled`, `unreachable`, `changed` for an object that is
    another one than a moment ago, `refused` for what it says is wrong with a request, else `failed`.
    """

    def __init__(
        self, kind: RemoteKind, status: int, message: str, tcode: str = "", call: tuple[str, str] | None = None
    ) -> None:
        headers = {"Retry-After": _RETRY_AFTER} if kind == "throttled" else {}
        super().__init__(status, message, tcode, headers=headers, call=call)
        self.kind: RemoteKind = kind

    @property
    def passes(self) -> bool:
        """Whether another attempt may do better."""
        return self.kind in ("throttled", "unreachable", "failed")


def object_missing(node: str, cname: str) -> RemoteError:
    return RemoteError("object", 404, f"{node}: {cname} does not exist", "ErrNotFound")


def bucket_missing(bucket: BucketId, endpoint: str = "") -> RemoteError:
    """protocol/10 26.1: the canonical provider's name comes first."""
    what = f"{bucket.provider} bucket" if bucket.provider in BACKENDS else "remote bucket"
    hint = f" at {endpoint} (check its name and the endpoint, or create it there)" if endpoint else ""
    return RemoteError("bucket", 404, f'{what} "{bucket.cname}" does not exist{hint}', "ErrRemoteBckNotFound")


def forbidden(bucket: BucketId, endpoint: str, detail: str) -> RemoteError:
    return RemoteError(
        "forbidden",
        403,
        f'access to bucket "{bucket.cname}" at {endpoint} is denied: {detail} (check the credentials of the {bucket.provider} backend)',
    )


def throttled(bucket: BucketId, endpoint: str, detail: str) -> RemoteError:
    return RemoteError(
        "throttled",
        429,
        f'bucket "{bucket.cname}" at {endpoint} is throttled: {detail} (ask again later, or with fewer workers)',
        "ErrTooManyRequests",
    )


def unreachable(bucket: BucketId, endpoint: str, detail: str) -> RemoteError:
    """What is cached is still served (protocol/10 26.1)."""
    return RemoteError(
        "unreachable",
        410,
        f'bucket "{bucket.cname}" is currently unreachable: {endpoint}: {detail} (check the endpoint and the network)',
        "ErrRemoteBucketOffline",
    )


def changed(cname: str, endpoint: str) -> RemoteError:
    return RemoteError("changed", 409, f"{cname} was changed at {endpoint} while it was read, please try again")


def refused(cname: str, endpoint: str, status: int, detail: str) -> RemoteError:
    return RemoteError("refused", status, f"{cname}: {endpoint} refuses: {detail}")


def without_ranges(cname: str, endpoint: str, provider: str) -> RemoteError:
    """The backend answers a range with status 200, as `rclone serve s3` does; asking again would not change that."""
    detail = f'it answers ranges with status 200 (set ranges = "cache" in [backends.{provider}] to read them; blob downloads cannot do without)'
    return RemoteError("refused", 501, f"{cname}: {endpoint}: {detail}")


def broken(cname: str, endpoint: str, detail: str) -> RemoteError:
    return RemoteError("failed", 502, f"{cname}: {endpoint}: {detail} (try again; if it stays so, look at the backend)")
