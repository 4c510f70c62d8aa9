"""How a server process is told what to be: options of a start, from a TOML file and the command line.

These are the settings of the process (folder, port, durability). What the cluster's own configuration document
holds (`what=cluster_config`, `set-config`) is `server/config.py`.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from aistore.server.folder import LOG
from aistore.server.limits import NodeLimits, instead_of, make_limits
from aistore.server.store.durability import DURABILITIES, Durability
from aistore.wire.values import parse_size as parse_wire_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Role = Literal["node", "target"]

PROMOTE_ROOT = "/var/lib/ais/promote"
"""Where the reference takes files from."""
LOCAL_AUTHN = "local"
"""An AuthN server of its own."""
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
MAX_TARGETS = 64
# Below this a catalog with its log does not fit.
MIN_CAPACITY = 1 << 20


class SettingsError(ValueError):
    """A setting that cannot be used; the message says which and what would do."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a server that speaks TLS; checked on construction, read when it starts.

    `cert` is its certificate, with those that lead to its CA, and `key` the private key, which may lie in the same file. Clients have to
    show a certificate that `client_ca` vouches for at level 4 of `client_auth`; at 3 only those that show one are checked, below nobody is
    asked (protocol/00 20). `self_signed` are files that the server makes and renews.
    """

    cert: str
    key: str
    client_ca: str = ""
    client_auth: int | None = None
    self_signed: bool = False

    def __post_init__(self) -> None:
        if not self.cert:
            raise SettingsError(
                "TLS with a key or with client certificates needs a certificate: tls_cert, or tls_self_signed"
            )
        level = self.client_auth
        if level is not None and not 0 <= level <= 4:
            raise SettingsError(
                f"tls_client_auth {level} is not between 0 (nobody is asked) and 4 (all need a certificate)"
            )
        if level == 2:
            raise SettingsError(
                "tls_client_auth 2 would accept any certificate without a check, which proves nothing: 4 checks it, 0 asks for none"
            )
        if level in (3, 4) and not self.client_ca:
            raise SettingsError(f"tls_client_auth {level} needs tls_client_ca: the CA that vouches for clients")
        if self.client_ca and level in (0, 1):
            raise SettingsError(
                f"tls_client_ca is not used at tls_client_auth {level}: use 3 or 4, or leave one of them out"
            )

    @property
    def asks_clients(self) -> bool:
        """Whether clients are asked for a certificate. Level 1 asks and looks at no answer, which is left out."""
        return bool(self.client_ca)

    @property
    def demands(self) -> bool:
        """Whether who has none is refused."""
        return bool(self.client_ca) and self.client_auth != 3


CA = "tls/ca.pem"
"""In a data folder: the CA that `tls_self_signed` makes, which clients have to trust."""
SERVED = "tls/served.pem"
"""In a data folder: the certificate that its server serves now, for clients on this machine."""
SELF_SIGNED = "tls/server.pem"
"""In a data folder: the certificate that `tls_self_signed` makes, with its key: one file, so that both change at once."""


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """What the settings of a server say of TLS, of which `TlsFiles` are made: nothing means plain HTTP."""

    data_dir: Path
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_client_auth: int | None = None
    tls_self_signed: bool = False

    @property
    def tls(self) -> TlsFiles | None:
        """The files of a server that speaks HTTPS. Raises `SettingsError` for what does not fit together."""
        if self.tls_self_signed:
            if self.tls_cert or self.tls_key:
                raise SettingsError(
                    "tls_self_signed makes certificate and key itself: leave out tls_cert and tls_key, or it"
                )
            pem = str(self.data_dir / SELF_SIGNED)
            return TlsFiles(pem, pem, self.tls_client_ca, self.tls_client_auth, self_signed=True)
        if not self.tls_cert and not self.tls_key and not self.tls_client_ca and self.tls_client_auth is None:
            return None
        return TlsFiles(self.tls_cert, self.tls_key or self.tls_cert, self.tls_client_ca, self.tls_client_auth)


@dataclass(frozen=True)
class ServerSettings(TlsSettings):
    """Everything a server process is started with. Checked on construction.

    `port` 0 takes a free one. `targets` 1 is one process that is gateway and target at once; N > 1 are N target
    processes behind one gateway. `capacity` is in bytes, `None` for the whole disk. `promote_root` is the folder that
    files may be promoted from. `idle_exit` is how many seconds a
    server that belongs to nobody stays after its last client. `allow_hosts` are further names in `Host` that are answered (`server/guard.py`). `etl` False makes it a cluster without ETL; `allow_etl` lets those who reach a server beyond loopback run code on it. `public_host`
    is the name or address that clients are sent to. `limits` are what clients may take (docs/limits.md). `access_log` has all requests logged, in a file of their own.
    `temporary` lets an orphaned server remove its folder.
    `authn` is the URL of the AuthN server whose tokens are asked for, or `local` for one of its own, which listens on `authn_port` (default 52001);
    `authn_secret` is what it shares with that server (or else its public key), `authn_first` name and password of the first administrator of
    one of its own; `redirect_key` is what processes of the cluster sign with. `authn_ca` is the CA of an AuthN server behind https; `authn_is_own` tells targets that it is the gateway's own.
    `role`, `node_id` and `gateway_url` belong to target processes.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    targets: int = 1
    durability: Durability = "strict"
    capacity: int | None = None
    promote_root: str = PROMOTE_ROOT
    backends: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)  # with keys and tokens
    allow_remote: bool = False
    allow_hosts: tuple[str, ...] = ()
    etl: bool = True
    allow_etl: bool = False
    authn: str = ""
    authn_port: int | None = None
    authn_ca: str = ""
    authn_is_own: bool = False
    authn_secret: str = field(default="", repr=False)
    authn_first: tuple[str, str] = field(default=("", ""), repr=False)
    redirect_key: str = field(default="", repr=False)
    public_host: str = ""
    limits: NodeLimits = field(default_factory=NodeLimits)
    idle_exit: float | None = None
    log_level: str = "info"
    log_format: str = "text"
    access_log: bool = False
    temporary: bool = False
    role: Role = "node"
    node_id: str = ""
    gateway_url: str = ""

    @property
    def grace(self) -> float:
        """Seconds that requests may take which are under way when the server is told to stop."""
        return self.limits.grace

    @property
    def log_path(self) -> Path:
        """The log of the process; target processes have one each."""
        return self.data_dir / (LOG if self.role == "node" else f"{self.node_id}.log")

    def __post_init__(self) -> None:
        self.tls  # noqa: B018  raises for what does not fit together
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"port {self.port} is not between 0 (any free port) and 65535")
        if not 1 <= self.targets <= MAX_TARGETS:
            raise SettingsError(f"targets {self.targets} is not between 1 and {MAX_TARGETS}")
        if self.durability not in DURABILITIES:
            raise SettingsError(f"durability {self.durability!r} is neither 'strict' nor 'relaxed'")
        if self.capacity is not None and self.capacity < MIN_CAPACITY:
            raise SettingsError(f"capacity {self.capacity} bytes is too small: at least {MIN_CAPACITY} (1MiB)")
        if not self.promote_root.startswith("/") or ".." in self.promote_root.split("/"):
            raise SettingsError(f"promote_root {self.promote_root!r} is not an absolute path")
        if self.idle_exit is not None and self.idle_exit < 0:
            raise SettingsError(f"idle_exit {self.idle_exit} is negative")
        for name in self.allow_hosts:
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
                raise SettingsError(f"allow_hosts: {name!r} is not the name of a host (without port and scheme)")
        if not re.fullmatch(r"[A-Za-z0-9._:-]*", self.public_host):
            raise SettingsError(
                f"public_host {self.public_host!r} is not a name or an address (without port and scheme)"
            )
        check_logs(self.log_level, self.log_format)
        if self.authn not in ("", LOCAL_AUTHN) and not self.authn.startswith(("http://", "https://")):
            raise SettingsError(f"authn {self.authn!r} is neither {LOCAL_AUTHN!r} nor the URL of an AuthN server")
        if self.authn_port is not None and not 0 <= self.authn_port <= 65535:
            raise SettingsError(f"authn_port {self.authn_port} is not between 0 (any free port) and 65535")
        if self.authn_port is not None and self.authn != LOCAL_AUTHN and not self.authn_is_own:
            raise SettingsError(
                f"authn_port is the port of an AuthN server of its own: it needs authn = {LOCAL_AUTHN!r} (--authn local)"
            )
        if self.authn_ca and not self.authn.startswith("https://"):
            raise SettingsError(
                "authn_ca vouches for an AuthN server behind https: it needs authn = 'https://...' (--authn https://...)"
            )
        if not self.allow_remote and not self.authn and not is_loopback(self.host):
            raise SettingsError(
                f"host {self.host!r} can be reached from other machines, and this server asks nobody for a password; "
                "use 127.0.0.1, or --authn, or --allow-remote where everyone on that network may read and delete"
            )

    def encode(self) -> bytes:
        """One line of JSON, for the standard input of a server process."""
        return json.dumps({**asdict(self), "data_dir": str(self.data_dir)}).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> ServerSettings:
        """The inverse of `encode`."""
        values = json.loads(line)
        for name in ("allow_hosts", "authn_first"):
            values[name] = tuple(values[name])
        values["limits"] = NodeLimits(**values["limits"])
        return cls(**{**values, "data_dir": Path(values["data_dir"])})


def check_logs(level: str, form: str) -> None:
    """Raises `SettingsError` for a level or a form of logs that there is not."""
    if level not in LOG_LEVELS:
        raise SettingsError(f"log_level {level!r} is none of {', '.join(LOG_LEVELS)}")
    if form not in LOG_FORMATS:
        raise SettingsError(f"log_format {form!r} is none of {', '.join(LOG_FORMATS)}")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that binds `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_size(text: str | int) -> int:
    """Bytes of `10GiB`, `1.5T`, `500 MB` or `4096`: with `i` in steps of 1024, without of 1000."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    try:
        if str(text).strip():
            return parse_wire_size(str(text), decimal=True)
    except ValueError:
        pass
    raise SettingsError(f"{text!r} is not a size; write for example 10GiB, 500MB or a number of bytes")


def parse_backends(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Tables of backends from `NAME` or `NAME=URL`, as `ais serve --backend` takes them; the URL is the table's `endpoint`."""
    tables: dict[str, dict[str, str]] = {}
    for text in texts:
        name, equals, url = text.partition("=")
        if not name or (equals and not url.startswith(("http://", "https://"))):
            raise SettingsError(f"{text!r} is not a backend; write for example aws, or aws=http://127.0.0.1:9000")
        if name == "ais" and not url:
            raise SettingsError("'ais' does not say which cluster; write for example ais=http://127.0.0.1:51080")
        tables[name] = {"endpoint": url} if url else {}
    return tables


def user_data_dir() -> Path:
    """The folder of `local:` and of a plain `ais serve`: `$AIS_LOCAL_DIR`, else where the system keeps a user's data."""
    if named := os.environ.get("AIS_LOCAL_DIR"):
        return Path(named).expanduser().absolute()
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/aistore").expanduser()
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path there is invalid and to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path("~/.local/share").expanduser()) / "aistore"


# What a configuration file may say; the rest of ServerSettings belongs to the process that starts the server.
_FILE_TYPES: dict[str, tuple[type, ...]] = {
    "data_dir": (str,),
    "host": (str,),
    "port": (int,),
    "targets": (int,),
    "durability": (str,),
    "capacity": (int, str),
    "promote_root": (str,),
    "backends": (dict,),
    "allow_remote": (bool,),
    "allow_hosts": (list,),
    "etl": (bool,),
    "allow_etl": (bool,),
    "authn": (str,),
    "authn_port": (int,),
    "authn_ca": (str,),
    "tls_cert": (str,),
    "tls_key": (str,),
    "tls_client_ca": (str,),
    "tls_client_auth": (int,),
    "tls_self_signed": (bool,),
    "public_host": (str,),
    "limits": (dict,),
    "log_level": (str,),
    "log_format": (str,),
    "access_log": (bool,),
}

_KINDS: dict[type, str] = {
    int: "a whole number",
    str: "text in quotes",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}

_FILES = ("authn_ca", "tls_cert", "tls_key", "tls_client_ca")


def read_settings_file(path: Path) -> dict[str, object]:
    """The settings in a TOML file, checked for names and types. Relative paths start at the file's folder."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    for name, value in values.items():
        if name not in _FILE_TYPES:
            raise SettingsError(f"{path}: there is no setting {name!r}{instead_of(name, _FILE_TYPES)}")
        wanted = _FILE_TYPES[name]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise SettingsError(f"{path}: {name} = {value!r} is not {' or '.join(_KINDS[kind] for kind in wanted)}")
    if "limits" in values:
        values["limits"] = limits_from(cast("dict[str, object]", values["limits"]), f"{path}: ")
    if "backends" in values:
        _check_backends(path, cast("dict[str, object]", values["backends"]))
    hosts = cast("list[object]", values.get("allow_hosts", []))
    if not all(isinstance(host, str) for host in hosts):
        raise SettingsError(f"{path}: allow_hosts has to be a list of names")
    if "capacity" in values:
        values["capacity"] = parse_size(cast("str | int", values["capacity"]))
    for name in _FILES:
        if name in values:
            values[name] = str(path.parent.absolute() / Path(str(values[name])).expanduser())
    if "data_dir" in values:
        values["data_dir"] = path.parent.absolute() / Path(str(values["data_dir"])).expanduser()
    return values


def limits_from(values: Mapping[str, object], where: str = "", base: NodeLimits | None = None) -> NodeLimits:
    """Limits from a table of some of them, over those of `base`. Raises `SettingsError`."""
    try:
        return make_limits(values, base)
    except ValueError as error:
        raise SettingsError(f"{where}limits.{error}") from error


def _check_backends(path: Path, backends: dict[str, object]) -> None:
    for name, options in backends.items():
        if not isinstance(options, dict) or not all(isinstance(v, str) for v in options.values()):
            raise SettingsError(f"{path}: backends.{name} has to be a table of strings")


def make_settings(file: Path | None, options: Mapping[str, object], default_port: int) -> ServerSettings:
    """Settings from a file, with `options` over it (those that are `None` were not given), with defaults below."""
    values: dict[str, object] = {"port": default_port, **(read_settings_file(file) if file else {})}
    tables = cast("Mapping[str, Mapping[str, str]]", values.get("backends", {}))
    values.update({name: value for name, value in options.items() if value is not None})
    if options.get("backends") is not None:
        given = cast("Mapping[str, Mapping[str, str]]", options["backends"])
        values["backends"] = {**tables, **{name: {**tables.get(name, {}), **table} for name, table in given.items()}}
    if (grace := values.pop("grace", None)) is not None:
        values["limits"] = limits_from({"grace": grace}, base=cast("NodeLimits | None", values.get("limits")))
    data_dir = Path(str(values.pop("data_dir", None) or user_data_dir())).expanduser().absolute()
    for name in _FILES:
        if name in values:
            values[name] = str(Path(str(values[name])).expanduser().absolute())
    values["allow_hosts"] = tuple(cast("list[str]", values.get("allow_hosts", ())))
    return ServerSettings(data_dir, **values)  # type: ignore[arg-type]  # names and types were checked above
