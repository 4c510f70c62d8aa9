"""Whom a client trusts, as whom it appears, and how many connections it keeps."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from aistore.transport.tls import TlsConfig
from aistore.wire.values import parse_bool

if TYPE_CHECKING:
    import requests
    import urllib3

__all__ = ["SessionManager", "resolve_ssl_config"]

DEFAULT_POOL_SIZE = 10


def resolve_ssl_config(
    skip_verify: bool = False,
    ca_cert: str | None = None,
    client_cert: str | tuple[str, str] | None = None,
) -> tuple[bool | str, str | tuple[str, str] | None]:
    """`verify` and `cert` as `requests` takes them, from arguments and environment (protocol/00 20)."""
    skip = os.environ.get("AIS_SKIP_VERIFY_CRT")
    if skip is None:
        skip = os.environ.get("AIS_SKIP_VERIFY", "")
    if client_cert is None:
        cert, key = os.environ.get("AIS_CRT"), os.environ.get("AIS_CRT_KEY")
        client_cert = (cert, key) if cert and key else None
    if skip_verify or parse_bool(skip.strip().lower()):
        return False, client_cert
    return ca_cert or os.environ.get("AIS_CLIENT_CA") or True, client_cert


class SessionManager:
    """TLS settings and pool size of a client.

    `retry` (a `urllib3.Retry`) and `session` are for programs that send requests of their own with the client's settings; the client
    itself has its own transport.
    """

    __slots__ = ("_ca_cert", "_client_cert", "_max_pool_size", "_retry", "_sessions", "_skip_verify")

    def __init__(
        self,
        retry: urllib3.Retry | None = None,
        ca_cert: str | None = None,
        skip_verify: bool = False,
        client_cert: str | tuple[str, str] | None = None,
        max_pool_size: int = DEFAULT_POOL_SIZE,
    ) -> None:
        verify, self._client_cert = resolve_ssl_config(skip_verify, ca_cert, client_cert)
        self._skip_verify = verify is False
        self._ca_cert = verify if isinstance(verify, str) else None
        self._retry = retry
        self._max_pool_size = max_pool_size
        self._sessions: dict[int, requests.Session] = {}
        if self._skip_verify:
            warnings.warn(
                "Skipping SSL certificate verification is insecure. Use a valid SSL certificate instead.",
                UserWarning,
                stacklevel=3,
            )

    @property
    def retry(self) -> urllib3.Retry | None:
        """Status retries of `session`."""
        return self._retry

    @property
    def ca_cert(self) -> str | None:
        """Path of the certificates that verify servers; None for the system's."""
        return self._ca_cert

    @property
    def skip_verify(self) -> bool:
        """Whether servers are trusted unverified."""
        return self._skip_verify

    @property
    def client_cert(self) -> str | tuple[str, str] | None:
        """Path of the client's certificate with its key, or of both."""
        return self._client_cert

    @property
    def max_pool_size(self) -> int:
        """Idle connections kept for each host."""
        return self._max_pool_size

    @property
    def tls(self) -> TlsConfig:
        """The same settings for the transport."""
        cert, key = self._client_cert if isinstance(self._client_cert, tuple) else (self._client_cert, None)
        return TlsConfig(self._ca_cert, cert, key, not self._skip_verify)

    @property
    def session(self) -> requests.Session:
        """A `requests` session with these settings, one in each process."""
        import requests

        session = self._sessions.get(os.getpid())
        if session is None:
            session = requests.Session()
            adapter = requests.adapters.HTTPAdapter(
                pool_maxsize=self._max_pool_size, max_retries=0 if self._retry is None else self._retry
            )
            for scheme in ("http://", "https://"):
                session.mount(scheme, adapter)
            session.verify = self._ca_cert or not self._skip_verify
            session.cert = self._client_cert
            self._sessions = {os.getpid(): session}
        return session

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickle, (self._retry, self._ca_cert, self._skip_verify, self._client_cert, self._max_pool_size)


def _unpickle(
    retry: urllib3.Retry | None,
    ca_cert: str | None,
    skip_verify: bool,
    client_cert: str | tuple[str, str] | None,
    max_pool_size: int,
) -> SessionManager:
    with warnings.catch_warnings():  # given by the process that made the original
        warnings.simplefilter("ignore", UserWarning)
        return SessionManager(retry, ca_cert, skip_verify, client_cert, max_pool_size)
