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
LIST_BUCKETS = 1 << 12
SHOW_CLUSTER = 1 << 13
CREATE_BUCKET = 1 << 14
DESTROY_BUCKET = 1 << 15
MOVE_BUCKET = 1 << 16
ADMIN = 1 << 17

ALL = (1 << 64) - 1
# What reading, and reading and writing, takes (protocol/60 16.2).
READ = GET | HEAD_OBJECT | HEAD_BUCKET | LIST_OBJECTS
WRITE = READ | PUT | APPEND | DELETE_OBJECT | MOVE_OBJECT
CLUSTER_READ = LIST_BUCKETS | SHOW_CLUSTER
CLUSTER_WRITE = CLUSTER_READ | CREATE_BUCKET | DESTROY_BUCKET | MOVE_BUCKET
BUCKET_ADMIN = PATCH | SET_BUCKET_ACL | UPDATE_OBJECT
# What an entry for a whole cluster grants there; the other bits are about objects (protocol/60 15.1).
OF_CLUSTER = CLUSTER_WRITE | ADMIN

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
