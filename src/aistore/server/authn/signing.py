"""What a gateway has checked it signs, so that its targets need not see the token: clients leave it out where a redirect leads elsewhere.

The signature covers method, path, parameters with the time, and the body where that says what is done. It lasts a minute.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Final

from aistore.http1.message import parse_params
from aistore.wire import params as param

if TYPE_CHECKING:
    from aistore.http1.server import Request

__all__ = ["Signer", "new_key"]

_VALID: Final = 60 * 1_000_000_000
_HEX: Final = 64
_AHEAD: Final = 5 * 1_000_000_000


def new_key() -> str:
    """A key for a cluster's processes."""
    return secrets.token_hex(32)


class Signer:
    """Signs and checks with the key that the processes of a cluster share."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def __repr__(self) -> str:
        return "<Signer>"

    @property
    def key(self) -> str:
        """The key, for the other processes."""
        return self._key.decode()

    def sign(self, method: str, path: str, query: str, body: bytes = b"") -> str:
        """The signature of a request, whose query has its time already: a digest of the body, and of all."""
        of_body = hashlib.sha256(body).hexdigest()
        return f"{of_body}{self._digest(method, path, dict(parse_params(query)), of_body)}"

    def is_signed(self, request: Request) -> bool:
        """Whether a request claims to be signed."""
        return param.SIGNATURE in request.query and bool(request.params.get(param.SIGNATURE))

    def is_good(self, request: Request) -> bool:
        """Whether a request has the signature of a gateway of this cluster, not older than a minute. Its body may be another one."""
        named = dict(request.params)
        signature = named.pop(param.SIGNATURE, "")
        try:
            age = time.time_ns() - int(named.get(param.REDIRECT_TIME, ""), 36)
        except ValueError:
            return False
        expected = self._digest(request.method, request.path, named, signature[:_HEX])
        given = signature[_HEX:].encode("utf-8", "replace")
        return hmac.compare_digest(given, expected.encode()) and -_AHEAD < age < _VALID

    def is_body(self, request: Request, body: bytes) -> bool:
        """Whether a body is the one that a good signature covers."""
        return request.params[param.SIGNATURE][:_HEX] == hashlib.sha256(body).hexdigest()

    def _digest(self, method: str, path: str, named: dict[str, str], of_body: str) -> str:
        said = json.dumps([method, path, sorted(named.items()), of_body])
        return hmac.digest(self._key, said.encode(), "sha256").hex()
