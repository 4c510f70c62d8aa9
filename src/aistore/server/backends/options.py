"""How a cloud backend is configured: what is set nearest to the bucket counts (docs/howto/remote.md).

1. the bucket's properties `extra.aws`, `extra.gcp`;
2. the table `[backends.<provider>]` of the configuration file, and `ais serve --backend`;
3. the provider's usual environment variables, and for S3 the profile in `~/.aws`.
"""

from __future__ import annotations

import configparser
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.settings import SettingsError
from aistore.transport.tls import TlsConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aistore.wire.props import Extra

__all__ = [
    "CLOUDS",
    "ClusterAccess",
    "check_backends",
    "client_options",
    "cloud_config",
    "cluster_access",
    "configured_clouds",
    "configured_clusters",
]

CLOUDS: Final = ("aws", "gcp", "azure")

# Any of these in the environment means that the user works with the provider.
_SIGNS: Final = {
    "aws": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    "gcp": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "STORAGE_EMULATOR_HOST"),
    "azure": (
        "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_USE_EMULATOR",
    ),
}  # fmt: skip
# Options of a table beside those of obstore, and what they stand for.
_RENAMED: Final = {
    "gcp": {"endpoint": "base_url", "application_creds": "application_credentials"},
    "azure": {"account": "account_name", "key": "account_key"},
}
# What only this server reads.
OWN: Final = frozenset({"ranges", "skip_verify", "ca"})
_CREDENTIALS_MAX: Final = 64 << 10
_CLUSTER: Final = "ais."
_with_user: Final = re.compile(r"[A-Za-z]+://[^/?#]*@").match
_CLUSTER_OPTIONS: Final = ("endpoint", "token", "token_file", "skip_verify", "ca")
_DEFAULT_ALIAS: Final = "remais"
_PROFILE_KEYS: Final = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}


def check_backends(backends: Mapping[str, Mapping[str, str]]) -> None:
    """Raise `SettingsError` for a backend that there is not, or one that lacks what it needs."""
    for name, options in backends.items():
        if name == "ais":
            for alias, url in options.items():
                _check_cluster_url(f"backends.ais.{alias}", url)
        elif name.startswith(_CLUSTER):
            _check_cluster(name, options)
        elif name not in CLOUDS:
            raise SettingsError(
                f"there is no backend {name!r}: supported are ais (other AIStore clusters), {', '.join(CLOUDS)}"
            )
        elif options.get("ranges", "pass") not in ("pass", "cache"):
            raise SettingsError(f"backends.{name}.ranges = {options['ranges']!r} is neither 'pass' nor 'cache'")
        else:
            _skips_verify(name, options)
            for option in ("endpoint", "base_url"):
                _check_without_password(f"backends.{name}.{option}", options.get(option, ""))
    known = configured_clusters(backends)
    for name, options in backends.items():
        has_token = name.startswith(_CLUSTER) and ("token" in options or "token_file" in options)
        if has_token and name.removeprefix(_CLUSTER) not in known:
            raise SettingsError(f'backends."{name}" has a token, and no endpoint that it is for')


def _check_cluster(name: str, options: Mapping[str, str]) -> None:
    for option, value in options.items():
        if option not in _CLUSTER_OPTIONS:
            known = ", ".join(_CLUSTER_OPTIONS)
            raise SettingsError(f'backends."{name}" has no option {option!r}: there are {known}')
        if option == "endpoint":
            _check_cluster_url(f'backends."{name}".endpoint', value)
    _skips_verify(name, options)


def _check_without_password(option: str, url: str) -> None:
    """Refuse a URL with user and password: endpoints are named in errors and in the log."""
    if _with_user(url):
        raise SettingsError(f"{option} has a user or a password in it: the other options are for those")


def _check_cluster_url(option: str, url: str) -> None:
    _check_without_password(option, url)
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"{option} = {url!r} is not the URL of a cluster")


def _skips_verify(name: str, options: Mapping[str, str]) -> bool:
    """Whether the certificate of an HTTPS endpoint counts for nothing."""
    value = options.get("skip_verify", "false")
    if value not in ("true", "false"):
        raise SettingsError(f"backends.{name}.skip_verify = {value!r} is neither 'true' nor 'false'")
    return value == "true"


def configured_clusters(backends: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """URLs of the clusters to attach, by alias."""
    found = {_DEFAULT_ALIAS if alias == "endpoint" else alias: url for alias, url in backends.get("ais", {}).items()}
    for name, options in backends.items():
        if name.startswith(_CLUSTER) and "endpoint" in options:
            found[name.removeprefix(_CLUSTER)] = options["endpoint"]
    return found


class ClusterAccess(NamedTuple):
    """How an attached cluster is talked to."""

    token: str | None = None
    tls: TlsConfig | None = None


def cluster_access(backends: Mapping[str, Mapping[str, str]], alias: str, url: str) -> ClusterAccess:
    """What the table `[backends."ais.ALIAS"]` says of a cluster. Raises `SettingsError` for a token file that cannot be read.

    Its token is only for the endpoint that the configuration names: whoever reaches the server may attach any other by that alias.
    """
    options = backends.get(_CLUSTER + alias, {})
    token: str | None = None
    if url.rstrip("/") == configured_clusters(backends).get(alias, "").rstrip("/"):
        token = options.get("token")
        if path := options.get("token_file"):
            try:
                token = Path(path).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f'backends."{_CLUSTER}{alias}".token_file = {path!r}: {error}') from error
    verify = not _skips_verify(_CLUSTER + alias, options)
    tls = TlsConfig(ca=options.get("ca"), verify=verify) if "ca" in options or not verify else None
    return ClusterAccess(token, tls)


def client_options(table: Mapping[str, str]) -> dict[str, object]:
    """What a cloud's table says of the connections to it. Raises `SettingsError` for a certificate that cannot be read."""
    found: dict[str, object] = {"allow_invalid_certificates": True} if _skips_verify("", table) else {}
    if path := table.get("ca"):
        try:
            found["root_certificate"] = Path(path).expanduser().read_bytes()
        except OSError as error:
            raise SettingsError(f"ca = {path!r}: {error}") from error
    return found


def configured_clouds(backends: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The cloud providers that are configured, by table or environment."""
    return [name for name in CLOUDS if name in backends or any(os.environ.get(sign) for sign in _SIGNS[name])]


def cloud_config(provider: str, table: Mapping[str, str], extra: Extra) -> dict[str, str]:
    """Options for obstore; it reads the environment by itself for what they leave open."""
    renamed = _RENAMED.get(provider, {})
    config = {renamed.get(key, key): value for key, value in table.items() if key not in OWN}
    if provider == "aws":
        return _aws(config, extra)
    if provider == "gcp":
        if extra.gcp.application_creds:
            config["application_credentials"] = _named_credentials(extra.gcp.application_creds)
        host = os.environ.get("STORAGE_EMULATOR_HOST", "")
        if "base_url" not in config and host:  # what Google's own clients read
            config["base_url"] = host if "://" in host else f"http://{host}"
    elif "connection_string" in config or (
        os.environ.get("AZURE_STORAGE_CONNECTION_STRING") and not {"account_name", "endpoint"} & config.keys()
    ):
        text = config.pop("connection_string", "") or os.environ["AZURE_STORAGE_CONNECTION_STRING"]
        config = {**_of_connection_string(text), **config}
    return config


def _named_credentials(path: str) -> str:
    """`path`, if it is a file with credentials. A client has named it: what else it may be, or hold, is not its business."""
    kind = None
    try:
        if Path(path).is_file():  # no pipe, on which all others would wait, too
            with Path(path).open("rb") as file:
                kind = json.loads(file.read(_CREDENTIALS_MAX))["type"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass  # it is none
    if kind not in ("service_account", "authorized_user"):
        raise SettingsError(
            "extra.gcp.application_creds does not name a file with credentials that this server can read"
        )
    return path


def _aws(config: dict[str, str], extra: Extra) -> dict[str, str]:
    own = extra.aws
    config.pop("region", None) if own.cloud_region else None
    profile = own.profile or config.pop("profile", "")
    # Keys in the environment come before a profile there, as in the provider's own tools; one that is named comes before both.
    if not profile and not os.environ.get("AWS_ACCESS_KEY_ID") and "access_key_id" not in config:
        profile = os.environ.get("AWS_PROFILE", "")
    found = _of_profile(profile) if profile else {}
    config = {**found, **{key: value for key, value in config.items() if key != "profile"}}
    if own.profile:
        config.update(found)
    if own.endpoint:
        config["endpoint"] = own.endpoint
    if own.cloud_region:
        config["region"] = own.cloud_region
    if "region" not in config and not os.environ.get("AWS_REGION"):
        config["region"] = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    return config


def _of_profile(profile: str) -> dict[str, str]:
    """What the shared credentials and configuration files of AWS say of a profile."""
    places = (
        (Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config"), f"profile {profile}"),
        (Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"), profile),
    )
    found: dict[str, str] = {}
    for path, section in places:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path.expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            # Not what it says of the line: that may be a key, and a client that named the profile is told.
            raise SettingsError(f"{path} is not a file of profiles ({type(error).__name__})") from error
        name = section if parser.has_section(section) else profile
        if parser.has_section(name):
            found.update(
                {ours: value for key, ours in _PROFILE_KEYS.items() if (value := parser.get(name, key, fallback=""))}
            )
    if not found:
        raise SettingsError(f"profile {profile!r} is in neither {places[0][0]} nor {places[1][0]}")
    return found


def _of_connection_string(text: str) -> dict[str, str]:
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    names = {"AccountName": "account_name", "AccountKey": "account_key", "BlobEndpoint": "endpoint"}
    return {ours: parts[theirs] for theirs, ours in names.items() if theirs in parts}
