"""`ais serve`, `ais stop` and `ais status`."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from aistore.server.folder import AUTHN_DATABASE, LOG, RunningServer, find_server
from aistore.server.settings import (
    CA,
    LOCAL_AUTHN,
    ServerSettings,
    is_loopback,
    make_settings,
    parse_backends,
    parse_size,
    user_data_dir,
)
from aistore.version import __version__

if TYPE_CHECKING:
    import argparse

    from aistore.server.node import Node
    from aistore.server.settings import TlsFiles
    from aistore.server.tls import ServerTls

# What clients of the reference use when nothing is said.
DEFAULT_PORT = 8080

_STOP_SECONDS = 30.0  # beyond what the server gives to what runs

_SURVIVES = {
    "strict": "what was acknowledged survives power loss",
    "relaxed": "what was acknowledged survives kill -9, not power loss",
}


def serve(asked: argparse.Namespace) -> int:
    """Serve a data folder in the foreground."""
    from aistore.server.node import Node
    from aistore.server.process import run_service, with_secrets

    options: dict[str, object] = {
        "data_dir": asked.data_dir,
        "host": asked.host,
        "port": asked.port,
        "targets": asked.targets,
        "durability": asked.durability,
        "promote_root": None if asked.promote_root is None else str(Path(asked.promote_root).expanduser().absolute()),
        "capacity": None if asked.capacity is None else parse_size(asked.capacity),
        "backends": parse_backends(asked.backends) if asked.backends else None,
        "allow_remote": asked.allow_remote,
        "allow_hosts": asked.allow_hosts,
        "etl": asked.etl,
        "allow_etl": asked.allow_etl,
        "authn": asked.authn,
        "authn_port": asked.authn_port,
        "authn_ca": asked.authn_ca,
        "tls_cert": asked.tls_cert,
        "tls_key": asked.tls_key,
        "tls_client_ca": asked.tls_client_ca,
        "tls_client_auth": asked.tls_client_auth,
        "tls_self_signed": asked.tls_self_signed,
        "public_host": asked.public_host,
        "grace": asked.grace,
        "log_level": asked.log_level,
        "log_format": asked.log_format,
        "access_log": asked.access_log or None,
    }
    settings = make_settings(Path(asked.config) if asked.config else None, options, default_port=DEFAULT_PORT)
    settings = with_secrets(_with_administrator(settings))
    node = Node(settings)
    if not settings.authn:
        warn(
            settings.host,
            f"everybody who reaches {settings.host} may read and delete all data (--authn asks for tokens)",
        )
    elif settings.tls is None:
        warn(settings.host, f"tokens and passwords pass {settings.host} in plain text (--tls-cert, --tls-self-signed)")
    run_service(settings, lambda: node, lambda url: _banner(node, url))
    print("stopped")
    return 0


def warn(host: str, what: str) -> None:
    """Say what others can do to a server that binds this address, if there are any."""
    if not is_loopback(host):
        print(f"ais: warning: {what}", file=sys.stderr)


def _with_administrator(settings: ServerSettings) -> ServerSettings:
    """With the password of the first administrator, which is asked for on a terminal."""
    if settings.authn != LOCAL_AUTHN:
        return settings
    from aistore.cli.authn import administrator
    from aistore.server.authn.attach import FOLDER

    first = administrator(is_new=not (settings.data_dir / FOLDER / AUTHN_DATABASE).exists())
    return replace(settings, authn_first=(first.name, first.password))


def _banner(node: Node, url: str) -> None:
    settings = node.settings
    targets = f"{settings.targets} target processes behind one gateway" if settings.targets > 1 else "one process"
    capacity = f"{settings.capacity:,} bytes" if settings.capacity else "what the disk holds"
    print(
        f"AIStore {__version__} serves {settings.data_dir}\n"
        f"  url         {url}\n"
        f"  processes   {targets}\n"
        f"  durability  {settings.durability}: {_SURVIVES[settings.durability]}\n"
        f"  capacity    {capacity}\n"
        f"  tokens      {_tokens(node)}\n"
        f"{certificate_lines(node.tls)}"
        f"  log         {settings.data_dir / LOG}\n"
        f"Use it:   export AIS_ENDPOINT={url}\n{trust_lines(settings.tls, settings.data_dir)}{_login_lines(node)}"
        f"Stop it:  Ctrl-C, or ais stop {settings.data_dir}",
        flush=True,
    )


def certificate_lines(tls: ServerTls | None) -> str:
    """What a server's banner says of its certificate."""
    if tls is None:
        return ""
    asked = "" if not tls.files.asks_clients else f"; clients show one of {tls.files.client_ca}"
    return f"  certificate {tls.files.cert}, for {', '.join(tls.certificate.names) or tls.certificate.subject}{asked}\n"


def trust_lines(files: TlsFiles | None, data_dir: Path) -> str:
    """What clients need, to trust a CA that the server has made, and to be trusted."""
    if files is None:
        return ""
    trusted = f"          export AIS_CLIENT_CA={data_dir / CA}\n" if files.self_signed else ""
    shown = "          export AIS_CRT=CERTIFICATE.pem AIS_CRT_KEY=KEY.pem    # yours\n" if files.asks_clients else ""
    return trusted + shown


def _tokens(node: Node) -> str:
    if node.guarded is None:
        return "nobody is asked for one"
    service = node.guarded.service
    return f"of its own AuthN server, {service.url}" if service is not None else f"of {node.settings.authn}"


def _login_lines(node: Node) -> str:
    if node.guarded is None or node.guarded.service is None:
        return ""
    return f"          export AIS_AUTHN_URL={node.guarded.service.url}    # then: ais authn login NAME\n"


def stop(asked: argparse.Namespace) -> int:
    """Stop the server of a data folder and wait until it is gone."""
    data_dir = data_dir_of(asked)
    patience = _STOP_SECONDS
    began = time.monotonic()
    told: int | None = None
    while (running := find_server(data_dir)) is not None:
        if running.pid and running.pid != told:
            os.kill(running.pid, signal.SIGTERM)
            told = running.pid
            patience = running.grace + _STOP_SECONDS
        if time.monotonic() - began > patience:
            who = f"process {told}" if told else "the process that holds it"
            print(f"ais: {who} still serves {data_dir} after {patience:g} s (see {data_dir / LOG})", file=sys.stderr)
            return 1
        time.sleep(0.02)
    print(f"stopped process {told}" if told else f"nothing serves {data_dir}")
    return 0


def status(asked: argparse.Namespace) -> int:
    """What serves a data folder. Exit status 1 where nothing does."""
    data_dir = data_dir_of(asked)
    running = find_server(data_dir)
    if running is None:
        print(f"{data_dir}\n  not served")
        return 1
    print(f"{data_dir}\n  process     {running.pid or '?'}\n  url         {running.url or 'starting or stopping'}")
    if running.url:
        _print_contents(running, data_dir)
    return 0


def _print_contents(running: RunningServer, data_dir: Path) -> None:
    from aistore.cli.words import explained
    from aistore.sdk import Client
    from aistore.sdk.errors import AISError
    from aistore.transport.errors import TlsError

    client = Client(running.url) if running.url.startswith("http:") else Client(f"local://{quote(str(data_dir))}")
    try:
        smap = client.cluster().get_info()
    except AISError as error:
        if error.status_code not in (401, 403):
            raise
        print(f"  contents    for who has a token that says so (AIS_AUTHN_TOKEN): {error.detail}")
        return
    except TlsError as error:  # it asks for a certificate
        print(f"  contents    not shown: {explained(error)}")
        return
    print(f"  targets     {len(smap.tmap)}\n  cluster     {smap.uuid}, map version {smap.version}")
    for bucket in client.cluster().list_buckets():
        print(f"  bucket      {bucket.provider}://{bucket.name}")


def data_dir_of(asked: argparse.Namespace) -> Path:
    """The data folder that a command is about."""
    return Path(asked.data_dir).expanduser().absolute() if asked.data_dir else user_data_dir()
