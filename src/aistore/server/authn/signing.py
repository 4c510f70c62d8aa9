"""What a gateway has checked it signs, so that its targets need not see the token: clients leave it out where a redirect leads elsewhere.

The signature covers method, path, parameters with the time, and the body where that says what is done. It lasts a minute: from when it was
made, whatever the client says of the time, and also if it is made anew for who shows one.
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
from aistore.wire.values import base36

if TYPE_CHECKING:
    from aistore.http1.message import Params
    from aistore.http1.server import Request

__all__ = ["Signer", "new_key"]

_VALID: Final = 60 * 1_000_000_000
_HEX: Final = 64
_AHEAD: Final = 5 * 1_000_000_000
_MARKS: Final = frozenset({param.PROXY_ID, param.REDIRECT_TIME, param.SIGNATURE})


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

    def marked(self, method: str, path: str, query: str, gateway: str, body: bytes = b"", since: str = "") -> str:
        """The query of a request to another node, with the marks of a redirect and a digest of the body and of all.

        Marks that it had before are taken away: whoever chose the time could keep a signature for later. `since` is the time of the
        signature that lets the request through, if one does.
        """
        if parse_params(query).keys() & _MARKS:
            query = "&".join(one for one in query.split("&") if not parse_params(one).keys() & _MARKS)
        query = f"{query}&" if query else ""
        query += f"{param.PROXY_ID}={gateway}&{param.REDIRECT_TIME}={since or base36(time.time_ns())}"
        of_body = hashlib.sha256(body).hexdigest()
        return f"{query}&{param.SIGNATURE}={of_body}{self._digest(method, path, parse_params(query), of_body)}"

    def since(self, request: Request) -> str:
        """The time of the signature that a request was let through with; empty if there is none."""
        return request.params[param.REDIRECT_TIME] if self.is_signed(request) else ""

    def is_signed(self, request: Request) -> bool:
        """Whether a request claims to be signed."""
        return param.SIGNATURE in request.query and bool(request.params.get(param.SIGNATURE))

    def is_good(self, request: Request) -> bool:
        """Whether a request has the signature of a gateway of this cluster, not older than a minute. Its body may be another one."""
        params = request.params
        signature = params.get(param.SIGNATURE, "")
        try:
            age = time.time_ns() - int(params.get(param.REDIRECT_TIME, ""), 36)
        except ValueError:
            return False
        expected = self._digest(request.method, request.path, params, signature[:_HEX])
        given = signature[_HEX:].encode("utf-8", "replace")
        return hmac.compare_digest(given, expected.encode()) and -_AHEAD < age < _VALID

    def is_body(self, request: Request, body: bytes) -> bool:
        """Whether a body is the one that a good signature covers."""
        return request.params[param.SIGNATURE][:_HEX] == hashlib.sha256(body).hexdigest()

    def _digest(self, method: str, path: str, params: Params, of_body: str) -> str:
        named = sorted(item for item in params.items() if item[0] != param.SIGNATURE)
        # Clients may encode a query in another way, but for the provider, which is read as it was sent.
        said = json.dumps([method, path, named, params.raw.get(param.PROVIDER, ""), of_body])
        return hmac.digest(self._key, said.encode(), "sha256").hex()
