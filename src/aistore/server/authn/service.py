"""The AuthN service: its state, its start and stop, and the way of a request to its handler (protocol/60 2, 3)."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from aistore.http1.failures import BodyTooLong, MemoryFull
from aistore.http1.message import Reply
from aistore.http1.server import BrokenRequest, HttpServer, Limits
from aistore.server.authn.extraction import token_of
from aistore.server.authn.keys import AuthnMissing, check_secret, new_private_key, public_half
from aistore.server.authn.tokens import BadToken, Verifier, digest_of, sign
from aistore.server.guard import Guard
from aistore.server.listening import bind, bind_private, url_of
from aistore.server.requests_log import RequestsLog, request_id
from aistore.server.traffic import Traffic
from aistore.wire import authn, environment
from aistore.wire.authn import ADMIN_ROLE, SERVICE, Role
from aistore.wire.errors import ApiError, error_body, url_too_short
from aistore.wire.headers import JSON, REQUEST_ID, TEXT
from aistore.wire.values import SECOND, format_duration

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aistore.http1.server import Request, Result
    from aistore.server.authn.keys import PublicKey
    from aistore.server.authn.settings import AuthnSettings, FirstAdministrator
    from aistore.server.authn.tokens import Claims
    from aistore.server.tls import ServerTls
    from aistore.wire.authn import ClusterAcl

__all__ = ["KINDS", "AuthnError", "AuthnService", "Lifetimes", "OwnCluster", "SigningKeys", "read_message", "wrapped"]

logger = logging.getLogger("aistore.server.authn")

_MESSAGE_MAX: Final = 1 << 20
_CONNECTIONS: Final = 1000
MINUTE: Final = 60 * SECOND
_KEYS: Final = "keys"
_LOGIN: Final = "login"
_OTHER: Final = "other"
_RESOURCES: Final = {
    **{name: name for name in (authn.USERS, authn.ROLES, authn.CLUSTERS, authn.TOKENS)},
    "daemon": "daemon",
    "public-key": _KEYS,
    "rotate-key": _KEYS,
}
KINDS: Final = (*dict.fromkeys(_RESOURCES.values()), _LOGIN, _OTHER)
"""Kinds of requests to an AuthN server, in its metrics."""

T = TypeVar("T")


class AuthnError(RuntimeError):
    """An AuthN server that cannot be started; the message says what to do."""


class Lifetimes(msgspec.Struct):
    """How long tokens are valid, in nanoseconds."""

    default: int = 24 * 60 * MINUTE
    longest: int = 90 * 24 * 60 * MINUTE


class SigningKeys(NamedTuple):
    """What tokens are signed and checked with: a secret, or else pairs of keys, of which the last one signs.

    They are replaced together: whoever signs or checks meanwhile, in another thread, does so with what belongs together.
    """

    secret: str
    private: str
    public: tuple[PublicKey, ...]
    verifier: Verifier

    def __repr__(self) -> str:
        return f"<SigningKeys {self.verifier!r}>"

    def sign(self, claims: dict[str, object]) -> str:
        """A token with these claims."""
        if self.secret:
            return sign(claims, self.secret)
        return sign(claims, self.private, self.public[-1].kid)


class OwnCluster(NamedTuple):
    """The cluster that a server of its own belongs to, over TLS: which is asked through the socket in its data folder."""

    url: str
    data_dir: Path
    node: str


class AuthnService:
    """An AuthN server on a folder of its own; one of a node has that one's certificate, `tls`."""

    def __init__(self, settings: AuthnSettings, tls: ServerTls | None = None) -> None:
        try:
            import argon2  # noqa: F401  looked for before anything is made
            import cryptography  # noqa: F401
            import jwt  # noqa: F401
        except ImportError as error:
            raise AuthnMissing(error) from None
        self.settings = settings
        self.url = ""
        """Where it answers, set by `start`."""
        self.tls = tls
        """The certificate, where it speaks HTTPS."""
        self.own_cluster: OwnCluster | None = None
        self._watching: asyncio.Task[None] | None = None
        self.lifetimes = Lifetimes()
        self.log_level = "3"
        self.on_new_secret: Callable[[], None] = lambda: None
        """Called when tokens are signed with another secret than before."""
        self.keys: SigningKeys
        self.revoked: dict[bytes, str] = {}
        """Revoked tokens by digest."""
        self.traffic = Traffic(KINDS, kind_of)
        self._log = RequestsLog(logger, all_of_them=settings.access_log, user_of=self._user_of)
        self._guard = Guard(settings)
        self._thread = ThreadPoolExecutor(1, "authn")
        self.server = HttpServer(self, Limits(connections=_CONNECTIONS, max_body=_MESSAGE_MAX))

    def __repr__(self) -> str:
        return f"<AuthnService {self.url or self.settings.data_dir}>"

    # -- life --

    async def start(self) -> None:
        """Open the folder and serve. Raises `AuthnError` where there is no administrator yet and no password for one."""
        from aistore.server.authn.audit import Audit
        from aistore.server.authn.database import Database
        from aistore.server.authn.passwords import Passwords
        from aistore.server.authn.pushing import Pushing
        from aistore.server.authn.throttle import Throttle

        self.settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as undo:
            sock = bind(self.settings.host, self.settings.port)
            undo.callback(sock.close)
            self.database = await self.in_thread(lambda: Database(self.settings.data_dir))
            undo.callback(self.database.close)
            self.audit = Audit(self.settings.data_dir)
            undo.callback(self.audit.close)
            self.throttle = Throttle()
            await self.in_thread(lambda: _bootstrap(self))
            await self.in_thread(lambda: self._load(check_secret(self.settings.secret) if self.settings.secret else ""))
            self.passwords = Passwords()
            undo.callback(self.passwords.close)
            self.pushing = Pushing(self)
            await self._listen(sock)
            await self.pushing.start()
            undo.pop_all()

    async def _listen(self, sock: socket.socket) -> None:
        settings = self.settings
        if self.tls is None and settings.tls is not None:
            from aistore.server.tls import open_tls

            self.tls = open_tls(settings.tls, settings.data_dir, (settings.host, settings.public_host))
            self._watching = asyncio.create_task(self.tls.watch())
        self.url = url_of(*sock.getsockname()[:2], tls=self.tls is not None)
        if self.tls is not None and self._watching is None:  # for target processes, whatever the certificate is
            await self.server.listen(bind_private(settings.data_dir, SERVICE))
        await self.server.listen(sock, self.tls.context if self.tls is not None else None)

    async def stop(self, grace: float = 0.0) -> None:
        """Finish what is under way, within `grace` seconds, and close everything."""
        if self._watching is not None:
            self._watching.cancel()
        await self.server.stop(grace)
        await self.pushing.close()
        self.passwords.close()
        await self.in_thread(self.database.close)
        self._thread.shutdown()

    def kill(self) -> None:
        """No process belongs to it."""
        self.audit.close()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of work on the database; such work is done one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self, secret: str) -> None:
        """Read settings and keys; make a pair of keys where there is no secret."""
        database = self.database
        if (text := database.meta("lifetimes")) is not None:
            self.lifetimes = msgspec.json.decode(text, type=Lifetimes)
        self.log_level = database.meta("log_level") or self.log_level
        self.revoked = database.revoked()
        changed = database.meta("secret") or ""
        if secret and changed and not hmac.compare_digest(secret.encode(), changed.encode()):
            logger.warning(
                "the secret was changed while the server ran, and %s has another one: that one counts, "
                "and tokens that were signed with the other one are refused",
                environment.SECRET_KEY,
            )
        secret = secret or changed
        if secret:
            self.keys = SigningKeys(secret, "", (), Verifier(secret))
            return
        if pairs := database.private_keys():
            self._use_pairs(pairs)
        else:
            self.add_pair()

    def add_pair(self) -> None:
        """Sign with a new pair of keys from now on: what was signed before stays valid."""
        with self.database.change():
            self.database.add_private_key(new_private_key())
            pairs = self.database.private_keys()
        self._use_pairs(pairs)

    def _use_pairs(self, pairs: list[str]) -> None:
        public = tuple(public_half(one) for one in pairs)
        self.keys = SigningKeys("", pairs[-1], public, Verifier(public_keys=public))

    def use_secret(self, secret: str, settings: dict[str, str]) -> None:
        """Sign with another secret from now on, with other settings: what was signed before is not valid any more."""
        self.database.set_meta({**settings, "secret": check_secret(secret)})
        self.keys = SigningKeys(secret, "", (), Verifier(secret))

    async def register(self, cluster: ClusterAcl) -> None:
        """Register the cluster that this server belongs to: its URLs change with its port."""
        from aistore.server.authn.clusters import add

        def store() -> None:
            with self.database.change():
                known = self.database.cluster(cluster.id)
                if known is None:
                    add(self.database, cluster)
                else:
                    known.urls = cluster.urls
                    self.database.put_cluster(known)

        await self.in_thread(store)

    # -- tokens --

    @property
    def external_url(self) -> str:
        """Where clients and clusters reach it."""
        return self.settings.external_url or self.url

    def caller(self, request: Request) -> Claims:
        """Who asks. Raises `ApiError` 401."""
        token, _ = token_of(request)
        if not token:
            raise ApiError(401, "token required")
        if digest_of(token) in self.revoked:
            raise ApiError(401, "not authorized (invalid token: token revoked)")
        try:
            claims = self.keys.verifier.verify(token)
        except BadToken as error:
            raise ApiError(401, f"not authorized (invalid token [err: {error}])") from None
        if claims.subject == SERVICE or claims.is_of_key:  # clusters have seen it
            raise ApiError(401, "not authorized (invalid token [err: it is for clusters])")
        return claims

    def administrator(self, request: Request) -> str:
        """The name of the administrator who asks. Raises `ApiError` 401 for anybody else."""
        claims = self.caller(request)
        if not claims.admin:
            raise ApiError(401, f"not authorized: requires admin (user {claims.subject})")
        return claims.subject

    # -- requests --

    def handle(self, request: Request) -> Result:
        """Answer one request (called by the HTTP driver)."""
        request.began = perf_counter()
        self._guard.check(request)
        from aistore.server.authn.routes import route

        return route(self, request)

    def answered(self, request: Request, status: int, sent: int, *, whole: bool = True) -> None:
        """Count and log what was answered (called by the HTTP driver)."""
        self.traffic.answered(request, status, sent)
        self._log.answered(request, status, sent, whole=whole)

    def broke_off(self, request: Request, error: Exception) -> None:
        """Log why an answer was cut (called by the HTTP driver)."""
        self._log.failed(request, "broke off", error)

    def _user_of(self, request: Request) -> str:
        """Who shows a token that is signed well; it may have been refused for another reason."""
        try:
            return self.keys.verifier.verify(token_of(request)[0]).subject
        except BadToken:
            return ""

    def _as_api_error(self, request: Request, error: BaseException) -> ApiError:
        if isinstance(error, BodyTooLong):
            return ApiError(413, str(error))
        if isinstance(error, BrokenRequest):
            return ApiError(400, str(error))
        if isinstance(error, MemoryFull):
            return ApiError(503, str(error), headers={"Retry-After": "1"})
        self._log.failed(request, "failed", error)
        return ApiError(500, f"internal error: {type(error).__name__} (see the server's log)")

    def refuse(self, request: Request, error: BaseException) -> Reply:
        """The error document for an exception of a handler."""
        if not isinstance(error, ApiError):
            error = self._as_api_error(request, error)
        body = error_body(error, request.method, request.path, request.peer, "", "")
        named = [("Content-Type", JSON), ("X-Content-Type-Options", "nosniff"), (REQUEST_ID, request_id(request))]
        headers = [*named, *error.headers.items()]
        return Reply(error.status, headers, b"" if request.method == "HEAD" else body)


def kind_of(request: Request) -> str:
    """The kind of a request, by its path and method."""
    _, version, resource, *more = (*request.path.split("/"), "", "")
    if version == ".well-known":
        return _KEYS
    if version != "v1":
        return _OTHER
    if resource == authn.USERS and request.method == "POST" and more[:1] > [""]:
        return _LOGIN
    return _RESOURCES.get(resource, _OTHER)


def _bootstrap(service: AuthnService) -> None:
    """Make the first administrator of a new server."""
    from aistore.server.authn.passwords import hash_password

    database = service.database
    if database.users():
        return
    first: FirstAdministrator = service.settings.first
    if not first.password:
        raise AuthnError(
            f"{service.settings.data_dir} has no users yet: set {environment.SU_PASS} to the password of the first "
            f"administrator ({environment.SU_NAME} to its name, {first.name} by default)"
        )
    if first.name == SERVICE:  # whose tokens are for clusters: nobody could do anything with it
        raise AuthnError(f"{environment.SU_NAME} is {SERVICE!r}, which is the server itself: choose another name")
    hashed = hash_password(first.password)
    with database.change():
        database.put_role(Role(ADMIN_ROLE, "AuthN administrator"))
        database.put_user(first.name, hashed)
        database.set_roles(first.name, [ADMIN_ROLE])


# -- what handlers share --


async def read_message(request: Request, kind: type[T], go_type: str) -> T:
    """The message of a request. Raises `ApiError` 400."""
    body = await request.read(_MESSAGE_MAX)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail = str(error) if body else "EOF"
        text = f"{request.path}: failed to unmarshal [*authn.{go_type}] ({request.method}), err: {detail}"
        raise ApiError(400, text) from None


async def read_change(request: Request, kind: type[T]) -> T:
    """The message of a PUT. Raises `ApiError` 400."""
    try:
        return msgspec.json.decode(await request.read(_MESSAGE_MAX), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ApiError(400, "Invalid request") from None


def wrapped(action: str, what: str, cause: ApiError) -> ApiError:
    """A refusal as the reference shows most of them."""
    text = f"AuthN: failed to {action} {what}, err: {cause.message}"
    return ApiError(cause.status, text, "ErrFailedTo", cause.headers)


@contextlib.contextmanager
def wrapping(action: str, what: str) -> Iterator[None]:
    """Have refusals say what was to be done."""
    try:
        yield
    except ApiError as error:
        raise wrapped(action, what, error) from None


def json_answer(document: object) -> Reply:
    """A JSON answer."""
    return Reply(200, [("Content-Type", JSON)], msgspec.json.encode(document))


def named(request: Request, parts: list[str]) -> str:
    """The name behind a resource. Raises `ApiError` 400 where there is none."""
    if not parts:
        raise url_too_short(request.path.strip("/"), 3, 2)
    return parts[0]


def lifetime(service: AuthnService, asked: int | None) -> int:
    """Nanoseconds that a token is valid (protocol/60 6). Raises `ApiError` 400."""
    limits = service.lifetimes
    if asked is None:
        return limits.default
    if asked == 0:
        return limits.longest
    if asked < MINUTE:
        raise ApiError(400, "invalid requested expiry date: must be 0 or >= 1m")
    if asked > limits.longest:
        longest = format_duration(limits.longest)
        raise ApiError(400, f"invalid requested expiry date: cannot exceed configured max token age: {longest}")
    return asked


def not_found() -> Reply:
    """The answer for an unknown path."""
    return Reply(404, [("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")], b"404 page not found\n")
