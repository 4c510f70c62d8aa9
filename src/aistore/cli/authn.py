"""`ais authn serve`."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aistore.cli.serve import certificate_lines, warn
from aistore.server.authn.settings import (
    AuthnSettings,
    FirstAdministrator,
    first_administrator,
    tls_of_environment,
)
from aistore.server.folder import AUTHN_DATABASE, LOG
from aistore.server.settings import CA, user_data_dir
from aistore.version import __version__
from aistore.wire import environment

if TYPE_CHECKING:
    import argparse

_HERE = "authn"


def serve(asked: argparse.Namespace) -> int:
    """Serve an AuthN folder in the foreground."""
    from aistore.server.authn.service import AuthnService
    from aistore.server.process import run_service

    folder = (
        Path(asked.data_dir).expanduser().absolute() if asked.data_dir else user_data_dir().with_name("aistore-authn")
    )
    cert, key = ("", "") if asked.tls_cert or asked.tls_self_signed else tls_of_environment()
    settings = AuthnSettings(
        folder,
        host=asked.host or AuthnSettings.host,
        port=environment.AUTHN_PORT if asked.port is None else asked.port,
        external_url=asked.external_url or "",
        allow_remote=bool(asked.allow_remote),
        tls_cert=_absolute(asked.tls_cert) or cert,
        tls_key=_absolute(asked.tls_key) or key,
        tls_client_ca=_absolute(asked.tls_client_ca),
        tls_client_auth=asked.tls_client_auth,
        tls_self_signed=bool(asked.tls_self_signed),
        log_level=asked.log_level or AuthnSettings.log_level,
        log_format=asked.log_format or AuthnSettings.log_format,
        access_log=asked.access_log,
        secret=environment.take(environment.SECRET_KEY),
        first=administrator(is_new=not (folder / AUTHN_DATABASE).exists()),
    )
    warn(settings.host, f"tokens and passwords pass {settings.host} in plain text: see that nobody can listen there")
    service = AuthnService(settings)
    run_service(settings, lambda: service, lambda url: _banner(service, url))
    print("stopped")
    return 0


def _absolute(path: str | None) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def administrator(*, is_new: bool) -> FirstAdministrator:
    """The first administrator, as the environment says; on a terminal, the password of a new server is asked for."""
    first = first_administrator()
    if first.password or not is_new or not sys.stdin.isatty():
        return first
    while True:
        password = getpass.getpass(f"Password for the first administrator, {first.name}: ")
        if password and password == getpass.getpass("Once more: "):
            return FirstAdministrator(first.name, password)
        print("That was empty, or not the same twice.", file=sys.stderr)


def _banner(service: object, url: str) -> None:
    from aistore.server.authn.service import AuthnService

    assert isinstance(service, AuthnService)
    how = "HS256, with the secret that clusters share" if service.keys.secret else "RS256, with keys of its own"
    folder = service.settings.data_dir
    files = service.settings.tls
    trust = f" --authn-ca {folder / CA}" if files is not None and files.self_signed else ""
    print(
        f"AuthN {__version__} serves {folder}\n"
        f"  url         {url}\n"
        f"  tokens      {how}\n"
        f"{certificate_lines(service.tls)}"
        f"  log         {folder / LOG}\n"
        f"Use it:   ais serve --authn {url}{trust}\n"
        f"Stop it:  Ctrl-C, or ais stop {folder}",
        flush=True,
    )
