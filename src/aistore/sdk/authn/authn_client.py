"""Where a program that manages users and logs in starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.calls import authn
from aistore.sdk.authn.access_key_manager import AccessKeyManager
from aistore.sdk.authn.cluster_manager import ClusterManager
from aistore.sdk.authn.response_handler import AuthNResponseHandler
from aistore.sdk.authn.role_manager import RoleManager
from aistore.sdk.authn.token_manager import TokenManager
from aistore.sdk.authn.user_manager import UserManager
from aistore.sdk.request_client import RequestClient
from aistore.sdk.session_manager import SessionManager
from aistore.transport.request import Timeout

if TYPE_CHECKING:
    import urllib3

__all__ = ["AuthNClient"]


class AuthNClient:
    """A client of an AuthN server.

    `endpoint`: its URL. `skip_verify`, `ca_cert`: TLS, as for a `Client`. `timeout`: seconds, one number or a pair (connect, read); None
    waits for ever. `retry`: a `urllib3.Retry`, for `client.session_manager.session`. `token`: for who has one already.

    >>> AuthNClient("http://localhost:52001")
    <AuthNClient http://localhost:52001>
    """

    __slots__ = ("_client",)

    def __init__(
        self,
        endpoint: str,
        skip_verify: bool = False,
        ca_cert: str | None = None,
        timeout: float | tuple[float, float] | None = None,
        retry: urllib3.Retry | None = None,
        token: str | None = None,
    ) -> None:
        self._client = RequestClient(
            endpoint=endpoint,
            session_manager=SessionManager(retry=retry, ca_cert=ca_cert, skip_verify=skip_verify),
            timeout=timeout,
            token=token,
            response_handler=AuthNResponseHandler(),
        )
        if timeout is None:
            self._client.transport.timeout = Timeout(None, None)

    @property
    def client(self) -> RequestClient:
        """Client that makes the requests, shared by all managers; it has the token."""
        return self._client

    def login(self, username: str, password: str, expires_in: float | None = None) -> str:
        """Log in, and use the token that this gives from now on; `expires_in` seconds, None for the server's default, 0 for its maximum.

        Raises ValueError for an empty password, `ErrUserInvalidCredentials`.
        """
        token = self._client.run(authn.login(username, password, expires_in))
        self._client.token = token
        return token

    def logout(self) -> None:
        """Have the own token refused from now on, and forget it. Raises ValueError without one."""
        token = self._client.token
        if not token:
            raise ValueError("Must be logged in first (no token)")
        self._client.run(authn.revoke(token))
        self._client.token = None

    def cluster_manager(self) -> ClusterManager:
        """Registered clusters."""
        return ClusterManager(self._client)

    def role_manager(self) -> RoleManager:
        """Roles."""
        return RoleManager(self._client)

    def user_manager(self) -> UserManager:
        """Users."""
        return UserManager(self._client)

    def token_manager(self) -> TokenManager:
        """Tokens."""
        return TokenManager(self._client)

    def access_key_manager(self) -> AccessKeyManager:
        """What clients of S3 sign with."""
        return AccessKeyManager(self._client)

    def __repr__(self) -> str:
        return f"<AuthNClient {self._client.endpoint}>"
