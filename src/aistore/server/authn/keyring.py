"""Keys and settings of the AuthN service (protocol/60 10, 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from aistore.http1.message import Reply
from aistore.server.authn.extraction import address_of
from aistore.server.authn.keys import RSA_BITS, KeyRefused
from aistore.server.authn.service import MINUTE, Lifetimes, json_answer, read_change
from aistore.server.folder import AUTHN_DATABASE
from aistore.wire import authn
from aistore.wire.errors import ApiError
from aistore.wire.headers import JSON
from aistore.wire.values import format_duration, parse_duration

if TYPE_CHECKING:
    from aistore.http1.server import Request
    from aistore.server.authn.service import AuthnService

__all__ = ["configuration", "configure", "discovery", "jwks", "public_key", "rotate"]

_HIDDEN: Final = "**********"


async def discovery(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """Where keys and users are (OpenID Connect Discovery)."""
    base = service.external_url
    return json_answer(
        {
            "issuer": base,
            "token_endpoint": f"{base}/v1/{authn.TOKENS}",
            "userinfo_endpoint": f"{base}/v1/{authn.USERS}",
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "id_token_signing_alg_values_supported": ["HS256", "RS256"],
        }
    )


async def jwks(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """All public keys, so that tokens outlive a rotation."""
    public = service.keys.public
    if not public:
        raise ApiError(400, "JWKS not available for current signing method")
    body = msgspec.json.encode({"keys": [key.jwk for key in public]})
    return Reply(200, [("Content-Type", JSON), ("Cache-Control", "max-age=86400, public")], body)


async def public_key(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """The public key that tokens are signed for now."""
    public = service.keys.public
    if not public:
        raise ApiError(400, "current signing method does not have a public key")
    return json_answer({"public_key": public[-1].pem})


async def rotate(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """Sign with a new pair of keys from now on."""
    actor = service.administrator(request)

    def make() -> str:
        if service.keys.secret:
            raise ApiError(400, "rotation not supported for current signing method")
        service.add_pair()
        return service.keys.public[-1].kid

    kid = await service.in_thread(make)
    service.audit.note(actor, address_of(request), "rotate key", kid)
    return Reply(200)


# -- settings --


class _Auth(msgspec.Struct):
    secret: str | None = None
    expiration_time: str | None = None
    max_token_age: str | None = None


class _Log(msgspec.Struct):
    level: str | None = None


class _Change(msgspec.Struct):
    auth: _Auth | None = None
    log: _Log | None = None


async def configuration(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """The settings, without the secret."""
    service.administrator(request)
    settings, lifetimes, keys, tls = service.settings, service.lifetimes, service.keys, service.tls
    return json_answer(
        {
            "auth": {
                "secret": _HIDDEN if keys.secret else "",
                "expiration_time": format_duration(lifetimes.default),
                "max_token_age": format_duration(lifetimes.longest),
                "public_key": keys.public[-1].pem if keys.public else None,
                "signing_key": {"bits": RSA_BITS},
                "db": {"type": "sqlite", "filepath": str(settings.data_dir / AUTHN_DATABASE)},
            },
            "log": {
                "dir": str(settings.data_dir),
                "level": service.log_level,
                "max_size": "4MiB",
                "max_total": "16MiB",
                "flush_interval": "0s",
            },
            "net": {
                "external_url": settings.external_url,
                "http": {
                    "server_crt": tls.files.cert if tls is not None else "",
                    "server_key": tls.files.key if tls is not None else "",
                    "port": settings.port,
                    "use_https": tls is not None,
                },
            },
            "timeout": {"default_timeout": "30s"},
        }
    )


async def configure(service: AuthnService, request: Request, parts: list[str]) -> Reply:  # noqa: ARG001  as all handlers
    """Change settings. A new secret ends the validity of all tokens at once."""
    change = await read_change(request, _Change)
    actor = service.administrator(request)
    if change.auth is None and change.log is None:
        raise ApiError(400, "invalid config update: configuration is empty")
    auth = change.auth or _Auth()
    lifetimes = _lifetimes(service.lifetimes, auth)
    level = change.log.level if change.log is not None else None
    if level is not None and level not in ("0", "1", "2", "3", "4", "5"):
        raise ApiError(400, f"invalid configuration: invalid log.level={level[:20]!r}, expected 0 to 5")
    if auth.secret == "":
        raise ApiError(400, "invalid configuration: auth.secret is empty")

    def store() -> None:
        values = {"lifetimes": msgspec.json.encode(lifetimes).decode(), "log_level": level or service.log_level}
        if auth.secret is None:
            service.database.set_meta(values)
        else:
            service.use_secret(auth.secret, values)

    try:
        await service.in_thread(store)
    except KeyRefused as error:
        raise ApiError(400, f"invalid configuration: {error}") from None
    service.lifetimes, service.log_level = lifetimes, level or service.log_level
    if auth.secret is not None:
        service.on_new_secret()
        await service.pushing.tell_access_keys()
    changed = [
        name for name, value in (("secret", auth.secret), ("times", auth.expiration_time), ("log", level)) if value
    ]
    service.audit.note(actor, address_of(request), "configure", " ".join(changed))
    return Reply(200)


def _lifetimes(now: Lifetimes, auth: _Auth) -> Lifetimes:
    longest = _duration("max_token_age", auth.max_token_age, now.longest)
    if longest < MINUTE:
        raise ApiError(400, f"invalid configuration: invalid auth.max_token_age={auth.max_token_age}, expected >= 1m")
    default = _duration("expiration_time", auth.expiration_time, now.default) or Lifetimes().default
    if default < MINUTE:
        text = f"invalid auth.expiration_time={auth.expiration_time}, expected 0 (default 24h) or >= 1m"
        raise ApiError(400, f"invalid configuration: {text}")
    if default > longest:
        raise ApiError(400, "invalid configuration: auth.expiration_time is longer than auth.max_token_age")
    return Lifetimes(default, longest)


def _duration(name: str, text: str | None, now: int) -> int:
    if text is None:
        return now
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ApiError(400, f"invalid configuration: invalid auth.{name}: {error}") from None
