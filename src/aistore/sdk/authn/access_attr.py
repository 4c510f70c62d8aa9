"""What a role lets its users do."""

from __future__ import annotations

from enum import IntFlag

from aistore.wire import access

__all__ = ["AccessAttr"]


class AccessAttr(IntFlag):
    """Rights on objects, buckets and the cluster, and usual sets of them (protocol/60 16). They combine with `|`."""

    GET = access.GET
    OBJ_HEAD = access.HEAD_OBJECT
    PUT = access.PUT
    APPEND = access.APPEND
    OBJ_DELETE = access.DELETE_OBJECT
    OBJ_MOVE = access.MOVE_OBJECT
    PROMOTE = access.PROMOTE
    OBJ_UPDATE = access.UPDATE_OBJECT
    BCK_HEAD = access.HEAD_BUCKET
    OBJ_LIST = access.LIST_OBJECTS
    PATCH = access.PATCH
    BCK_SET_ACL = access.SET_BUCKET_ACL
    LIST_BUCKETS = access.LIST_BUCKETS
    SHOW_CLUSTER = access.SHOW_CLUSTER
    CREATE_BUCKET = access.CREATE_BUCKET
    DESTROY_BUCKET = access.DESTROY_BUCKET
    MOVE_BUCKET = access.MOVE_BUCKET
    ADMIN = access.ADMIN

    ACCESS_RO = access.READ
    ACCESS_RW = access.WRITE
    CLUSTER_ACCESS_RO = access.CLUSTER_READ
    CLUSTER_ACCESS_RW = access.CLUSTER_WRITE
    ACCESS_BUCKET_ADMIN = access.BUCKET_ADMIN
    ACCESS_SU = (1 << 18) - 1

    @staticmethod
    def describe(perms: int) -> str:
        """Names of the single rights in `perms`, separated by commas; bits without a name are left out."""
        return ",".join(name for name, one in AccessAttr.__members__.items() if perms & one and one.bit_count() == 1)
