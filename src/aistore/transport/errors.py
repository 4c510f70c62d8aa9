"""What can go wrong between a call and its answer; each class is also the `requests` class that the API document promises.

    TransportError                    requests.RequestException
    ├── ConnectionFailed              requests.ConnectionError
    │   ├── NameNotResolved           no such host
    │   ├── ConnectionRefused         nobody listens there
    │   ├── ConnectTimeout            requests.ConnectTimeout
    │   ├── ConnectionLost            reset or closed before the answer
    │   ├── ReadTimeout               requests.ReadTimeout: no answer, or a body that stalled
    │   ├── TlsError                  requests.exceptions.SSLError
    │   └── MalformedAnswer           what came back is not HTTP
    ├── IncompleteBody                requests.exceptions.ChunkedEncodingError: the body was cut
    ├── RetriesExhausted              requests.exceptions.RetryError: the last answer was still an error
    ├── TooManyRedirects              requests.TooManyRedirects
    └── BodyNotReplayable             requests.exceptions.UnrewindableBodyError

Every error tells method, URL and number of attempts, and pickles. Importing this module imports `requests`, so it is imported only
when something fails.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import requests

from aistore.http1.failures import BadBody, ConnectTimedOut, NoAnswer, ReadTimedOut, ShortBody, WriteTimedOut
from aistore.http1.head import BadHead
from aistore.transport.url import Origin, split_url
from aistore.wire import authn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BodyNotReplayable",
    "ConnectTimeout",
    "ConnectionFailed",
    "ConnectionLost",
    "ConnectionRefused",
    "IncompleteBody",
    "MalformedAnswer",
    "NameNotResolved",
    "ReadTimeout",
    "RetriesExhausted",
    "TlsError",
    "TooManyRedirects",
    "TransportError",
    "from_failure",
    "needs_tls",
]


class TransportError(requests.RequestException):
    """A request that got no usable answer.

    `reason` says what happened and what to do, without method and URL; `attempts` counts how often the request was sent.
    """

    before_sending = False
    """True when the request cannot have reached the server."""

    def __init__(self, reason: str, method: str, url: str, attempts: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.method = method
        self.url = url
        self.attempts = attempts

    def __str__(self) -> str:
        tried = f", {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.reason} [{self.method} {self.url}{tried}]"

    def __reduce__(self) -> tuple[type[TransportError], tuple[object, ...], dict[str, object]]:
        return type(self), (self.reason, self.method, self.url, self.attempts), vars(self)


class ConnectionFailed(TransportError, requests.ConnectionError):
    """No connection, or one that broke before the answer."""


class NameNotResolved(ConnectionFailed):
    """The host's name has no address; `temporary` when the name service says that it may have one later."""

    before_sending = True
    temporary = False


class ConnectionRefused(ConnectionFailed):
    """The host is there, but nobody listens on the port."""

    before_sending = True


class ConnectTimeout(ConnectionFailed, requests.ConnectTimeout):
    """No connection within the connect timeout."""

    before_sending = True


class ConnectionLost(ConnectionFailed):
    """The connection ended between the request and the end of the answer's head."""


class ReadTimeout(ConnectionFailed, requests.ReadTimeout):
    """Nothing came from the server, or nothing was taken by it, for as long as the read timeout."""


class TlsError(ConnectionFailed, requests.exceptions.SSLError):
    """The TLS handshake or a TLS record failed; `untrusted` when a certificate, ours or the server's, is missing or did not verify, or the
    server does not speak TLS, or only that: what no retry heals.
    """

    untrusted = False


class MalformedAnswer(ConnectionFailed):
    """The answer breaks the rules of HTTP/1.1."""


class IncompleteBody(TransportError, requests.exceptions.ChunkedEncodingError):
    """The body was cut short, or its chunks are malformed."""


class RetriesExhausted(TransportError, requests.exceptions.RetryError):
    """The server still answered with error `status` after the last retry; `message` is what it said."""

    def __init__(self, status: int, message: str, method: str, url: str, attempts: int = 1) -> None:
        said = f": {message}" if message else ""
        super().__init__(f"too many {status} error responses{said}", method, url, attempts)
        self.status = status
        self.message = message

    def __reduce__(self) -> tuple[type[TransportError], tuple[object, ...], dict[str, object]]:
        return type(self), (self.status, self.message, self.method, self.url, self.attempts), vars(self)


class TooManyRedirects(TransportError, requests.TooManyRedirects):
    """The servers redirected to each other without end."""


class BodyNotReplayable(TransportError, requests.exceptions.UnrewindableBodyError):
    """The body would have to be sent again, but it can be read only once."""


def from_failure(failure: BaseException, method: str, url: str) -> TransportError | None:
    """The error of this module that `failure` of a connection means; None if it is no failure of the network."""
    for kinds, translate in _TRANSLATIONS:
        if isinstance(failure, kinds):
            return translate(failure, method, url)
    if type(failure).__module__ == "ssl":
        return _tls(failure, method, url)
    if isinstance(failure, OSError):
        return ConnectionFailed(f"the connection to {_origin(url)} failed: {failure}", method, url)
    return None


def _origin(url: str) -> Origin:
    return split_url(url)[0]


def _refused(_: BaseException, method: str, url: str) -> TransportError:
    origin, target = split_url(url)
    is_authn = not authn.RESOURCES.isdisjoint(target.partition("?")[0].split("/")[2:3])
    who, command = ("AuthN server", "ais authn serve") if is_authn else ("AIStore", "ais serve")
    advice = (
        f"is the server running? Start one with `{command}`"
        if origin.is_loopback
        else "is the endpoint right, and the server running?"
    )
    return ConnectionRefused(f"no {who} answers at {origin} (connection refused): {advice}", method, url)


def _unresolved(failure: BaseException, method: str, url: str) -> TransportError:
    reason = failure.args[-1] if failure.args else failure
    error = NameNotResolved(
        f"host {_origin(url).host!r} has no address ({reason}): check the endpoint and the network", method, url
    )
    error.temporary = failure.args[:1] == (socket.EAI_AGAIN,)
    return error


def _connect_timeout(_: BaseException, method: str, url: str) -> TransportError:
    return ConnectTimeout(
        f"no connection to {_origin(url)} within the connect timeout: check the endpoint, or raise `timeout`",
        method,
        url,
    )


def _read_timeout(failure: BaseException, method: str, url: str) -> TransportError:
    return ReadTimeout(
        f"{_origin(url)} did not answer within the read timeout ({failure}): raise `timeout` if the call may take longer",
        method,
        url,
    )


def _lost(failure: BaseException, method: str, url: str) -> TransportError:
    return ConnectionLost(f"the connection to {_origin(url)} was lost before the answer ({failure})", method, url)


def _short(failure: BaseException, method: str, url: str) -> TransportError:
    return IncompleteBody(f"the answer of {_origin(url)} is incomplete: {failure}", method, url)


def _malformed(failure: BaseException, method: str, url: str) -> TransportError:
    return MalformedAnswer(
        f"what answers at {_origin(url)} does not speak HTTP as AIStore does ({failure}): check scheme and port",
        method,
        url,
    )


def _tls(failure: BaseException, method: str, url: str) -> TransportError:
    """By OpenSSL's code of what did not verify (`X509_V_ERR_...`), or its name for the failure."""
    origin = _origin(url)
    reason = str(getattr(failure, "reason", None) or failure)
    code = getattr(failure, "verify_code", None)
    if code is not None:
        text = _UNVERIFIED.get(code, _NOT_TRUSTED)
        said = getattr(failure, "verify_message", "") or reason
        return _hopeless(f"the certificate of {origin} does not verify ({said.rstrip('.')}): {text}", method, url)
    for reasons, text in _BROKEN_OFF:
        if reason in reasons:
            return _hopeless(f"{origin} {text}", method, url)
    return TlsError(
        f"no TLS connection to {origin} ({reason}): check the endpoint, `ca_cert` and `client_cert`", method, url
    )


def _hopeless(text: str, method: str, url: str) -> TlsError:
    error = TlsError(text, method, url)
    error.untrusted = True
    return error


def needs_tls(method: str, url: str) -> TlsError:
    """The error for a server that answers plain HTTP by saying that it speaks HTTPS."""
    return _hopeless(f"{_origin(url)} speaks HTTPS: use https:// in the endpoint", method, url)


_NOT_TRUSTED = "name the CA that vouches for it as `ca_cert`, or in AIS_CLIENT_CA (`ais serve --tls-self-signed` prints which; `skip_verify` trusts anybody)"
_OTHER_NAME = "use a name that it is for in the endpoint, or have the server called by one (`ais serve --public-host`)"
_UNVERIFIED = {
    9: "it is not valid yet; check the clock of this machine",
    10: "it has to be renewed on the server; check the clock of this machine, too",
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
_NO_TLS = "does not speak TLS, but plain HTTP perhaps: use http:// in the endpoint, or check the port"
_WANTS_CERTIFICATE = "asks for a client certificate: name yours as `client_cert`, or in AIS_CRT and AIS_CRT_KEY (both; one file may hold both)"
_REFUSES_CERTIFICATE = (
    "does not accept the client certificate: check `client_cert`, or AIS_CRT and AIS_CRT_KEY, and who signed and when"
)
_BROKEN_OFF = (
    (("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"), _NO_TLS),
    # The second is all that a server of TLS 1.2 says.
    (("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"), _WANTS_CERTIFICATE),
    (
        ("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
         "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED"),
        _REFUSES_CERTIFICATE,
    ),
)  # fmt: skip

_TRANSLATIONS: tuple[
    tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[BaseException, str, str], TransportError]],
    ...,
] = (
    (ConnectTimedOut, _connect_timeout),
    ((ReadTimedOut, WriteTimedOut), _read_timeout),
    (socket.gaierror, _unresolved),
    (ConnectionRefusedError, _refused),
    ((ShortBody, BadBody), _short),
    (BadHead, _malformed),
    ((NoAnswer, ConnectionError), _lost),
)
