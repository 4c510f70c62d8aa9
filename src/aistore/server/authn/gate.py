"""Who may do what: each request is checked before anything is touched (protocol/60 13, 15)."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

import msgspec

from aistore.http1.message import Reply
from aistore.server.api.messages import method_refused, reads_message
from aistore.server.api.registering import answered
from aistore.server.api.s3.errors import is_s3, not_built
from aistore.server.authn.extraction import SOURCES, token_of
from aistore.server.authn.known_keys import KnownKeys
from aistore.server.authn.permissions import PLAIN, Wanted, bits_of_object, is_open, wanted_of, with_system
from aistore.server.authn.revoked import Revoked
from aistore.server.authn.tokens import BadToken, Claims, UnknownKey, digest_of
from aistore.server.backends.registry import UnknownBucket
from aistore.server.settings import SettingsError
from aistore.wire import access, authn
from aistore.wire import params as param
from aistore.wire.authn import RevokedTokens
from aistore.wire.errors import ApiError, access_denied

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.server import Answer, Request, Result
    from aistore.server.authn.signing import Signer
    from aistore.server.authn.trust import Trust
    from aistore.server.node import Node
    from aistore.server.store.rows import Bucket
    from aistore.wire.names import BucketId

__all__ = ["REFUSALS", "Gate"]

REFUSALS: Final = ("no token", "bad token", "bad signature", "no right")
"""Reasons for which requests are refused: the last one 403, those before 401 (a redirect's signature 403)."""

_OBJECTS: Final = "/v1/objects/"
_BEHIND: Final = len(_OBJECTS)
_TOKENS: Final = f"/v1/{authn.TOKENS}"
_ACCESS_KEYS: Final = f"/v1/{authn.ACCESS_KEYS}"
_REVOKED_AT_ONCE: Final = 100  # in one turn: each is verified
_MESSAGE_MAX: Final = 32 << 20
_SESSIONS_MAX: Final = 4096
_GRANTED_MAX: Final = 1024
_EXPIRED: Final = "token expired"
_USUAL: Final = frozenset({"", "provider=ais"})  # queries of calls on native objects
_WHILE_ADMIN: Final = access.PATCH | access.SET_BUCKET_ACL


class Session:
    """A token that was found good, and what it was found to allow."""

    __slots__ = ("claims", "expires", "granted", "open")

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self.expires = claims.expires
        self.granted: dict[BucketId | None, int] = {}
        """Rights that were looked up before, by bucket; of the cluster under None."""
        self.open: dict[str, tuple[Bucket, int]] = {}
        """The same of native buckets by name, as far as their properties allow it, until they change."""


class Gate:
    """Lets requests through to their handlers: `handle` is what answers those that may."""

    def __init__(self, node: Node, trust: Trust, signer: Signer, handle: Callable[[Node, Request], Result]) -> None:
        self._node = node
        self._trust = trust
        self._signer = signer
        self._handle = handle
        self._sessions: dict[str, Session] = {}
        """By the value of `Authorization`, or the token of another header."""
        self._revoked = Revoked(node.store.catalog)
        self._keys = KnownKeys(node)
        self.refusals = dict.fromkeys(REFUSALS, 0)
        """How many requests were refused, by reason."""
        self._uuid = ""

    async def open(self) -> None:
        """Take over what was told before."""
        if not self._node.is_target:
            await self._revoked.take_over()
        self._keys.recall()
        await self._trust.learn()

    def forget(self) -> None:
        """Check signatures again: what was found good was so with keys that are not those of now."""
        self._sessions.clear()

    def user_of(self, request: Request) -> str:
        """Who sent a request that was let through; empty where its gateway knows."""
        if hasattr(request, "user"):
            return request.user
        session = self._sessions.get(_key(*token_of(request)))
        return session.claims.subject if session is not None else ""

    def _refused(self, reason: str, error: ApiError) -> ApiError:
        self.refusals[reason] += 1
        return error

    # -- requests --

    def answer(self, request: Request) -> Result:
        """Answer a request, if it may be. Raises `ApiError` 401, 403; over S3 always 403."""
        if request.query in _USUAL and (bits := PLAIN.get(request.method)) and request.path.startswith(_OBJECTS):
            # What was found before for most requests: the same rights on the same bucket. (A path without an object is refused by its handler.)
            session = self._sessions.get(request.headers.get("authorization", ""))
            if session is not None and session.expires > time.time():
                known = session.open.get(request.path[_BEHIND : request.path.find("/", _BEHIND)])
                if known is not None and known[1] & bits == bits and not known[0].stale and not self._node.shared:
                    return self._handle(self._node, request)
        try:
            return self._answer(request)
        except ApiError as error:
            raise _as_s3(request, error) from None

    def _answer(self, request: Request) -> Result:
        path = request.path
        if request.query and self._signer.is_signed(request):
            return self._signed(request)
        bucket: Bucket | None = None
        # By the parameters, as handlers see them: in a query their names may be encoded.
        is_plain = path.startswith(_OBJECTS) and request.method != "POST" and param.OBJECT_TO not in request.params
        if is_plain:  # a bucket that is not there is told to everybody, as the reference does (protocol/60 13.4)
            bucket = self._bucket_named(path[len(_OBJECTS) :].partition("/")[0], request)
        elif is_open(request):
            return self._handle(self._node, request)
        token, source = token_of(request)
        if not token:
            if is_s3(path):
                return self._of_key(request)
            raise self._refused("no token", ApiError(401, "token required"))
        session = self._session_of(token, source)
        if session is None:
            return self._after_learning(request, token, source)
        if bucket is not None:
            bits = bits_of_object(request)
            self._check_one(session, with_system(Wanted(bits, bucket.id)), bucket)
            self._note(session, request, bucket, bits)
            return self._handle(self._node, request)
        if path == _TOKENS:
            return self._tokens(request, session)
        if path == _ACCESS_KEYS and self._node.is_gateway:
            return self._access_keys(request, session)
        if request.content is None and reads_message(request.method, path):
            return self._after_reading(request)
        self._check(request, session)
        return self._handle(self._node, request)

    def _of_key(self, request: Request) -> Result:
        """A request of S3 that is signed with an access key: what that may do, its token says."""
        try:
            key = self._keys.of(request)
        except ApiError as error:
            raise self._refused("bad signature", error) from None
        if key is None:
            if request.method == "POST" and request.headers.get("content-type", "").startswith("multipart/form-data"):
                raise not_built("an upload by a form")
            raise self._refused("no token", ApiError(401, "token required"))
        try:
            session = self._session_of(key.token, "")
        except ApiError as error:
            code = "ExpiredToken" if _EXPIRED in error.message else "InvalidAccessKeyId"
            raise ApiError(403, f"the access key cannot be used: {error.message}", code) from None
        if session is None:
            return self._after_learning(request, key.token, "")
        request.user = session.claims.subject
        self._check(request, session)
        return self._handle(self._node, request)

    async def _after_learning(self, request: Request, token: str, source: str) -> Answer:
        with contextlib.suppress(SettingsError):  # the server signs with a secret now: no token of it is good here
            await self._trust.learn()
        try:
            self._new_session(token, source)
        except ApiError as error:
            raise _as_s3(request, error) from None
        return await answered(self.answer(request))

    async def _after_reading(self, request: Request) -> Answer:
        """The check of a request whose body says what is to be done, with all that counts when that has come: it may take hours."""
        await request.read(_MESSAGE_MAX)
        return await answered(self.answer(request))

    def _note(self, session: Session, request: Request, bucket: Bucket, bits: int) -> None:
        """Keep what was found, for the next request like this one."""
        if request.query in _USUAL:
            if len(session.open) >= _GRANTED_MAX:
                session.open.clear()
            known = session.open.get(bucket.id.name)
            before = known[1] if known is not None and known[0] is bucket else 0
            session.open[bucket.id.name] = bucket, before | bits

    def _bucket_named(self, name: str, request: Request) -> Bucket | None:
        """The bucket of a call on an object; None for a remote one that is not known yet, whose backend is not asked before it is known who asks."""
        try:
            return self._node.bucket(name, request) if name else None
        except UnknownBucket:
            return None

    def _session_of(self, token: str, source: str) -> Session | None:
        """What is known of a token that is good; None where keys have to be asked for first. Raises `ApiError` 401."""
        session = self._sessions.get(_key(token, source))
        if session is None:
            return None if self._trust.may_learn(token) else self._new_session(token, source)
        if session.expires <= time.time():
            del self._sessions[_key(token, source)]
            raise self._refused("bad token", _invalid(source, _EXPIRED))
        return session

    def _new_session(self, token: str, source: str) -> Session:
        try:
            claims = self._trust.verifier.verify(token)
        except BadToken as error:
            away = isinstance(error, UnknownKey) and self._trust.is_away
            why = f"{error} (the AuthN server, which has the keys, does not answer)" if away else str(error)
            raise self._refused("bad token", _invalid(source, why)) from None
        if self._revoked.holds(digest_of(token)):
            raise self._refused("bad token", _invalid(source, "token revoked"))
        # Another cluster was shown it; and that of an access key nobody shows: it counts with the key's signature.
        is_of_others = (claims.subject == authn.SERVICE or claims.is_of_key) and self._cluster not in claims.audience
        if is_of_others or (claims.is_of_key and source):
            raise self._refused("bad token", _invalid(source, "token has invalid audience"))
        if len(self._sessions) >= _SESSIONS_MAX:
            self._sessions.clear()
        session = self._sessions[_key(token, source)] = Session(claims)
        return session

    # -- signed by a gateway --

    def _signed(self, request: Request) -> Result:
        if reads_message(request.method, request.path):
            return self._signed_message(request)
        if not (self._signer.is_good(request) and self._signer.is_body(request, b"")):
            raise self._refused("bad signature", _not_signed())
        return self._handle(self._node, request)

    async def _signed_message(self, request: Request) -> Answer:
        if not (self._signer.is_good(request) and self._signer.is_body(request, await request.read(_MESSAGE_MAX))):
            raise self._refused("bad signature", _not_signed())
        if request.path == _TOKENS:
            return await self._change_tokens(request)
        return await answered(self._handle(self._node, request))

    # -- rights --

    def _check(self, request: Request, session: Session) -> None:
        for wanted in map(with_system, wanted_of(self._node, request)):
            self._check_one(session, wanted)

    def _check_one(self, session: Session, wanted: Wanted, bucket: Bucket | None = None) -> None:
        node = self._node
        bits, identity = wanted
        if identity is not None and bucket is None:
            try:
                bucket = node.find(identity)
                identity = bucket.id
            except UnknownBucket as unknown:
                identity = unknown.bucket
        if session.granted.get(identity, 0) & bits != bits:
            claims = session.claims
            if not claims.admin and not self._grants(claims, bits, identity):
                raise self._refused("no right", self._denied(claims, bits, identity))
            if len(session.granted) >= _GRANTED_MAX:
                session.granted.clear()
            session.granted[identity] = session.granted.get(identity, 0) | bits
        if bucket is not None:
            # The mask binds administrators too, but for what they need to change it (protocol/60 15.2).
            bound = bits & ~_WHILE_ADMIN if session.claims.admin else bits
            mask = node.props(bucket).access
            if mask & bound != bound:
                operation = access.NAMES[bound.bit_length() - 1] if bound.bit_count() == 1 else "<unknown access>"
                raise access_denied(bucket.id.cname, node.props(bucket).bid, operation, access.describe(mask))

    def _entries(self, claims: Claims, identity: BucketId | None) -> tuple[int | None, int | None]:
        """What a token grants on the cluster, and on a bucket; None where it has no entry."""
        uuid = self._cluster
        of_cluster = claims.clusters.get(uuid, claims.clusters.get(""))
        if identity is None or identity.uuid or identity.namespace:
            return of_cluster, None
        return of_cluster, claims.buckets.get((uuid, identity.provider, identity.name))

    def _grants(self, claims: Claims, bits: int, identity: BucketId | None) -> bool:
        """Whether a token grants rights: a bucket's own entry counts alone for what is done with it (protocol/60 15.1)."""
        of_cluster, of_bucket = self._entries(claims, identity)
        on_cluster, on_objects = bits & access.OF_CLUSTER, bits & ~access.OF_CLUSTER
        if on_cluster and (of_cluster or 0) & on_cluster != on_cluster:
            return False
        granted = (of_bucket if of_bucket is not None else of_cluster) or 0
        return granted & on_objects == on_objects

    def _denied(self, claims: Claims, bits: int, identity: BucketId | None) -> ApiError:
        of_cluster, of_bucket = self._entries(claims, identity)
        who = f"user {claims.subject}, token expires in {_duration(claims.expires - time.time())}"
        about_bucket = identity is not None and not bits & access.OF_CLUSTER and of_bucket is not None
        if about_bucket and identity is not None:
            said = f"{who}, bucket {identity.cname}, granted({access.describe(of_bucket or 0)})"
        elif of_cluster is not None:
            said = f"cluster {self._cluster}, {who}, granted({access.describe(of_cluster)})"
        else:
            said = f"{who}, granted(none)"
        return ApiError(403, f"user `{claims.subject}` has insufficient permissions: [{said}]")

    @property
    def _cluster(self) -> str:
        if not self._uuid:
            self._uuid = self._node.smap.uuid
        return self._uuid

    # -- tokens that are revoked --

    def _tokens(self, request: Request, session: Session) -> Result:
        """POST asks whether a token is accepted, DELETE says which ones are not any more (protocol/60 14)."""
        if request.method == "POST":
            return Reply(200)
        if request.method != "DELETE":
            return method_refused(request, "POST, DELETE")
        self._check_one(session, Wanted(access.ADMIN, None))
        return self._change_tokens(request)

    async def _access_keys(self, request: Request, session: Session) -> Reply:
        """PUT says which access keys are good from now on."""
        if request.method != "PUT":
            return method_refused(request, "PUT")
        self._check_one(session, Wanted(access.ADMIN, None))
        await self._keys.replace(request, await request.read(_MESSAGE_MAX))
        return Reply(200)

    async def _change_tokens(self, request: Request) -> Answer:
        body = await request.read(_MESSAGE_MAX)
        try:
            message = msgspec.json.decode(body, type=RevokedTokens)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError(400, f"{request.path}: failed to unmarshal [*tokenList] (DELETE), err: {error}") from None
        await self.revoke(message.tokens)
        await self._node.tell_targets(request, _TOKENS, body)
        return Reply(200)

    async def revoke(self, tokens: list[str]) -> None:
        """Refuse tokens from now on, also after a restart. Raises `StoreError` where that cannot be kept."""
        try:
            if self._node.is_gateway:
                await self._revoked.add(await self._ends_of(tokens))
        finally:
            for token in tokens:  # now, that whoever comes with one finds it refused
                for source in (*SOURCES, ""):
                    self._sessions.pop(_key(token, source), None)

    async def _ends_of(self, tokens: list[str]) -> dict[bytes, float]:
        """When each token that is not known to be revoked is good no more."""
        ends: dict[bytes, float] = {}
        for count, token in enumerate(tokens):
            if count % _REVOKED_AT_ONCE == _REVOKED_AT_ONCE - 1:
                await self._node.turns.next()
            digest = digest_of(token)
            if not self._revoked.keeps(digest):
                ends[digest] = self._end_of(token)
        return ends

    def _end_of(self, token: str) -> float:
        """When a token, if it is one, is good no more."""
        try:
            return self._trust.verifier.verify(token).expires
        except BadToken as error:
            if "expired" in str(error):
                return 0
            return time.time() + _UNKNOWN_SECONDS  # of a key that is not known here yet


_UNKNOWN_SECONDS: Final = 90 * 24 * 3600


def _not_signed() -> ApiError:
    return ApiError(403, "direct target access denied: the redirect is not one of this cluster, or too old")


def _key(token: str, source: str) -> str:
    # No value of `Authorization` begins like the other ones: those of S3, and (without a source) of access keys.
    return f"Bearer {token}" if source == SOURCES[0] else f"\0{source} {token}"


def _invalid(source: str, why: str) -> ApiError:
    return ApiError(401, f'invalid token from header "{source}": invalid token [err: {why}]')


def _as_s3(request: Request, error: ApiError) -> ApiError:
    return ApiError(403, error.message) if error.status == 401 and is_s3(request.path) else error


def _duration(seconds: float) -> str:
    """A duration as Go prints it: `24h0m0s`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"
