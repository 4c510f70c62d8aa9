"""Access bits of buckets and roles (protocol/60 16)."""

from __future__ import annotations

GET = 1 << 0
HEAD_OBJECT = 1 << 1
PUT = 1 << 2
APPEND = 1 << 3
DELETE_OBJECT = 1 << 4
MOVE_OBJECT = 1 << 5
PROMOTE = 1 << 6
UPDATE_OBJECT = 1 << 7
HEAD_BUCKET = 1 << 8
LIST_OBJECTS = 1 << 9
PATCH = 1 << 10
SET_BUCKET_ACL = 1 << 11
DESTROY_BUCKET = 1 << 15
MOVE_BUCKET = 1 << 16

ALL = (1 << 64) - 1

NAMES = (
    "GET",
    "HEAD-OBJECT",
    "PUT",
    "APPEND",
    "DELETE-OBJECT",
    "MOVE-OBJECT",
    "PROMOTE",
    "UPDATE-OBJECT",
    "HEAD-BUCKET",
    "LIST-OBJECTS",
    "PATCH",
    "SET-BUCKET-ACL",
    "LIST-BUCKETS",
    "SHOW-CLUSTER",
    "CREATE-BUCKET",
    "DESTROY-BUCKET",
    "MOVE-BUCKET",
    "ADMIN",
)


def describe(mask: int) -> str:
    """Names of the bits that are set as error texts show them: the first four, `none` for no bit."""
    names = [name for bit, name in enumerate(NAMES) if mask >> bit & 1]
    return ",".join(names[:4]) + (", ..." if len(names) > 4 else "") if names else "none"
