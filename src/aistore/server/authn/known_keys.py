"""The access keys that a cluster was told: whose signatures over S3 it accepts. It asks nobody, and keeps them over a restart."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.server.api.s3.signature import signature_of
from aistore.wire.authn import AccessKey, AccessKeys
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.node import Node

__all__ = ["KnownKeys"]

_META: Final = "access keys"


class KnownKeys:
    """Access keys by their ids."""

    __slots__ = ("_keys", "_node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._keys: dict[str, AccessKey] = {}

    def __repr__(self) -> str:
        return f"<KnownKeys {len(self._keys)}>"

    def recall(self) -> None:
        """Take over those that were told before."""
        known = self._node.store.catalog.meta(_META)
        if known is not None and self._node.is_gateway:  # which answers over S3
            self._take(msgspec.json.decode(known, type=AccessKeys))

    async def replace(self, request: Request, message: bytes) -> None:
        """Know these from now on, and no others. Raises `ApiError` 400."""
        try:
            told = msgspec.json.decode(message, type=AccessKeys)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ApiError(400, f"{request.path}: failed to unmarshal access keys, err: {error}") from None
        self._take(told)
        await self._node.store.catalog.set_meta({_META: msgspec.json.encode(told).decode()})

    def _take(self, told: AccessKeys) -> None:
        self._keys = {key.id: key for key in told.keys}

    def of(self, request: Request) -> AccessKey | None:
        """The key that a request is signed with; None if it is not signed. Raises `ApiError` 400, 403 for a signature that is not good."""
        signature = signature_of(request, time.time())
        if signature is None:
            return None
        key = self._keys.get(signature.key_id)
        if key is None:
            raise ApiError(403, "there is no such access key here, or it was deleted", "InvalidAccessKeyId")
        signature.check(request, key.secret)
        return key
