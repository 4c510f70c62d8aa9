"""How an AuthN server is told what to be."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aistore.server.folder import LOG
from aistore.server.limits import NodeLimits
from aistore.server.settings import SettingsError, TlsSettings, check_logs, is_loopback
from aistore.wire import environment

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AuthnSettings", "FirstAdministrator"]


@dataclass(frozen=True)
class FirstAdministrator:
    """Who may do everything in an AuthN server that has no users yet; an empty password is asked for, or refused."""

    name: str = "admin"
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class AuthnSettings(TlsSettings):
    """Everything that an AuthN server is started with. Checked on construction.

    `secret` is what tokens are signed with (HS256); without one, keys of its own are made (RS256). `external_url` is where clients and
    clusters reach it, by default the address that it binds.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = environment.AUTHN_PORT
    external_url: str = ""
    allow_remote: bool = False
    log_level: str = "info"
    log_format: str = "text"
    access_log: bool = False
    secret: str = field(default="", repr=False)
    first: FirstAdministrator = field(default_factory=FirstAdministrator)

    # What `server.process` wants to know.
    role = "authn"
    idle_exit = None
    temporary = False
    durability = "strict"
    # What `server.guard` wants to know.
    etl = False
    allow_etl = False

    @property
    def grace(self) -> float:
        """Seconds that requests may take which are under way when the server is told to stop."""
        return NodeLimits.grace

    @property
    def log_path(self) -> Path:
        """The log of the process."""
        return self.data_dir / LOG

    @property
    def allow_hosts(self) -> tuple[str, ...]:
        """No other names than that of the external URL."""
        return ()

    @property
    def public_host(self) -> str:
        """The name that clients know."""
        return urlsplit(self.external_url).hostname or ""

    def __post_init__(self) -> None:
        check_logs(self.log_level, self.log_format)
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"port {self.port} is not between 0 (any free port) and 65535")
        if self.external_url and urlsplit(self.external_url).scheme not in ("http", "https"):
            raise SettingsError(f"external URL {self.external_url!r} begins neither with http:// nor with https://")
        if not self.allow_remote and self.tls is None and not is_loopback(self.host):
            raise SettingsError(
                f"host {self.host!r} can be reached from other machines, and passwords and tokens come in plain text; "
                "use 127.0.0.1, or --tls-cert, or --allow-remote where nobody can listen on that network"
            )


def tls_of_environment() -> tuple[str, str]:
    """Certificate and key that the environment names, empty where it does not ask for HTTPS (protocol/60 20.3). Raises `SettingsError`."""
    if not environment.is_set(environment.USE_HTTPS):
        return "", ""
    cert, key = (os.environ.get(name, "") for name in (environment.SERVER_CERTIFICATE, environment.SERVER_KEY))
    if not cert or not key:
        raise SettingsError(
            f"{environment.USE_HTTPS} needs a certificate and its key: {environment.SERVER_CERTIFICATE} and {environment.SERVER_KEY}"
        )
    return cert, key


def first_administrator() -> FirstAdministrator:
    """As the environment says."""
    name = os.environ.get(environment.SU_NAME) or FirstAdministrator.name
    return FirstAdministrator(name, environment.take(environment.SU_PASS))
