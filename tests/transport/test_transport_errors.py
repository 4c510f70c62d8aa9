"""The error tree: what the API document promises, pickling, and texts that help."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import socket
import ssl

import pytest
import requests

from aistore.http1.failures import BadBody, ConnectTimedOut, HeadCut, NoAnswer, ReadTimedOut, ShortBody, WriteTimedOut
from aistore.http1.head import BadHead
from aistore.transport import errors
from aistore.transport.errors import TransportError, from_failure

URL = "http://127.0.0.1:8080/v1/objects/b/o?provider=ais"


@pytest.mark.parametrize(
    ("failure", "ours", "documented"),
    [
        (socket.gaierror(-2, "Name or service not known"), errors.NameNotResolved, requests.ConnectionError),
        (ConnectionRefusedError(111, "Connection refused"), errors.ConnectionRefused, requests.ConnectionError),
        (ConnectTimedOut("x"), errors.ConnectTimeout, requests.ConnectTimeout),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), errors.ConnectionFailed, requests.ConnectionError),
        (ReadTimedOut("x"), errors.ReadTimeout, requests.ReadTimeout),
        (WriteTimedOut("x"), errors.ReadTimeout, requests.ConnectionError),
        (NoAnswer("x"), errors.ConnectionLost, requests.ConnectionError),
        (HeadCut("x"), errors.ConnectionLost, requests.ConnectionError),
        (ConnectionResetError(104, "reset"), errors.ConnectionLost, requests.ConnectionError),
        (OSError(errno.EHOSTUNREACH, "No route to host"), errors.ConnectionFailed, requests.ConnectionError),
        (ShortBody(3, 10), errors.IncompleteBody, requests.exceptions.ChunkedEncodingError),
        (BadBody("x"), errors.IncompleteBody, requests.exceptions.ChunkedEncodingError),
        (BadHead(502, "x"), errors.MalformedAnswer, requests.ConnectionError),
        (ssl.SSLError(1, "[SSL] record layer failure"), errors.TlsError, requests.exceptions.SSLError),
        (ssl.SSLCertVerificationError(1, "self-signed"), errors.TlsError, requests.exceptions.SSLError),
    ],
)
def test_each_failure_is_one_error_and_the_documented_one(
    failure: Exception, ours: type[TransportError], documented: type[Exception]
) -> None:
    error = from_failure(failure, "GET", URL)
    assert type(error) is ours
    assert isinstance(error, documented)
    assert isinstance(error, (TransportError, requests.RequestException))
    assert isinstance(error, OSError)


def test_what_is_no_failure_of_the_network_is_none() -> None:
    assert from_failure(ValueError("x"), "GET", URL) is None
    assert from_failure(MemoryError(), "GET", URL) is None


CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, TransportError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_survive_pickling_and_copying(kind: type[TransportError]) -> None:
    error = kind(503, "no room", "GET", URL, 3) if kind is errors.RetriesExhausted else kind("it failed", "GET", URL, 3)
    error.untrusted = True  # type: ignore[attr-defined]  # of one class; stands for anything that was set
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert (again.method, again.url, again.attempts, again.reason) == ("GET", URL, 3, error.reason)
        assert vars(again) == vars(error)


def test_the_page_shows_the_whole_tree() -> None:
    assert errors.__doc__ is not None
    assert all(kind.__name__ in errors.__doc__ for kind in CLASSES)
    assert {kind.__name__ for kind in CLASSES} <= set(errors.__all__)


def test_the_text_tells_what_where_and_what_to_do() -> None:
    error = from_failure(ConnectionRefusedError(111, "x"), "GET", URL)
    assert error is not None
    error.attempts = 7
    assert str(error) == (
        "no AIStore answers at http://127.0.0.1:8080 (connection refused): is the server running? Start one with `ais serve` "
        f"[GET {URL}, 7 attempts]"
    )
    assert "ais serve" not in str(from_failure(ConnectionRefusedError(111, "x"), "GET", "http://example.com/v1/x"))
    error = from_failure(ConnectionRefusedError(111, "x"), "POST", "http://127.0.0.1:52001/v1/users/admin")
    assert str(error).startswith("no AuthN server answers at http://127.0.0.1:52001 (connection refused): ")
    assert "Start one with `ais authn serve`" in str(error)
