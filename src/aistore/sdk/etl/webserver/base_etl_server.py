"""What all servers for transformers have in common."""

from __future__ import annotations

import logging
import os
import posixpath
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from aistore.sdk.etl.webserver._outbound import Outbound, is_true
from aistore.wire import etl
from aistore.wire.headers import OCTETS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping
    from pathlib import Path

    import requests

    from aistore.http1.payload import Body
    from aistore.sdk.etl.webserver._failures import Failure
    from aistore.sdk.etl.webserver._order import Order
    from aistore.sdk.etl.webserver._outbound import HopAnswer
    from aistore.sdk.etl.webserver._steps import Bytes, Result, Steps

__all__ = ["CountingIterator", "ETLServer", "Reader"]

LOG_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
DEFAULT_RETRIES = 3


class Reader(Protocol):
    """What `transform_stream` reads: a binary file that cannot seek."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, all with -1; empty at the end."""
        ...

    def close(self) -> None:
        """Give up the rest."""
        ...


class CountingIterator:
    """Passes pieces on; `bytes_sent` says how many bytes went by."""

    def __init__(self, inner: Iterable[Bytes]) -> None:
        self._inner = inner
        self.bytes_sent = 0

    def __iter__(self) -> Iterator[Bytes]:
        for piece in self._inner:
            self.bytes_sent += len(piece)
            yield piece


class ETLServer(ABC):
    """A transformer: what turns objects into other bytes, and the web server around it.

    Subclasses override `transform`, or `transform_stream` for objects that should not be held in memory; TypeError for those that do
    neither. When both are overridden, `transform` is used. A constructor must work without arguments: it runs in every worker process.

    The environment says where the objects are (`AIS_TARGET_URL`, OSError without it), and how transformers are called: with `ETL_DIRECT_FQN`
    `transform` gets the path of a file where the request names one; `AIS_DIRECT_PUT_RETRIES` (3) is how often a result that could not be
    handed on is sent again.
    """

    _waits_for_hops = False
    """Whether a hop that refuses connections is tried again; it may be starting."""

    def __init__(self) -> None:
        self.host_target = os.environ.get("AIS_TARGET_URL", "")
        if not self.host_target:
            raise OSError(
                "AIS_TARGET_URL is not set: a transformer runs in a cluster, or is given the URL of a target to try it out"
            )
        self.direct_put = is_true("DIRECT_PUT")
        self.direct_fqn = is_true("ETL_DIRECT_FQN")
        self.direct_put_retries = _count("AIS_DIRECT_PUT_RETRIES", DEFAULT_RETRIES)
        self.token = os.environ.get("AIS_AUTHN_TOKEN") or None
        self.logger = _logger(type(self).__name__)
        transforms = type(self).transform is not ETLServer.transform
        streams = type(self).transform_stream is not ETLServer.transform_stream
        if not transforms and not streams:
            raise TypeError(f"{type(self).__name__} must override transform() or transform_stream()")
        self.use_streaming = streams and not transforms
        self._secret_path = urlsplit(self.host_target).path
        self._outbound = Outbound(self.host_target, self.token)
        self._session: requests.Session | None = None
        _raise_file_limit()

    # -- what users override --

    def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
        """The transformed object.

        `data` is its content, or with `ETL_DIRECT_FQN` the path of a file with it. `path` is `bucket/object`, or as the form of communication
        has it (protocol/50 7.1); its last component is that of the object. `etl_args` are the arguments of the request, empty without any.
        """
        raise NotImplementedError(f"{type(self).__name__} does not override transform()")

    def transform_stream(self, reader: Reader, path: str, etl_args: str) -> Iterator[bytes]:
        """Pieces of the transformed object, made while `reader.read(size)` gives pieces of the original."""
        raise NotImplementedError(f"{type(self).__name__} does not override transform_stream()")

    def get_mime_type(self) -> str:
        """Content type of results."""
        return OCTETS

    @abstractmethod
    def start(self) -> None:
        """Serve until the process is told to end."""

    # -- handing results on --

    def client_put(
        self,
        url: str,
        data: Body,
        headers: Mapping[str, str],
        timeout: float | None = None,
    ) -> HopAnswer:
        """PUT a result to `url`; the answer has `status_code`, `content`, `headers` and `url`. Raises `requests` errors of the network."""
        return self._outbound.put(url, data, headers, timeout)

    def handle_direct_put_response(
        self, resp: HopAnswer | requests.Response, data: Bytes, data_length: int = -1
    ) -> tuple[int, bytes, int]:
        """Status and body of the own answer for that of a hop, and the number of bytes that were delivered (protocol/50 6.8).

        `data` is what was sent, `data_length` its length where it was a stream.
        """
        status, content = resp.status_code, resp.content or b""
        if status == 200:
            return (200, content, 0) if content else (204, b"", data_length if data_length >= 0 else len(data))
        if status == 204:
            length = resp.headers.get(etl.DIRECT_PUT_LENGTH, "")
            return 204, b"", int(length) if length.isascii() and length.isdigit() else 0
        self.logger.error(
            "Direct put failed to %s: HTTP %d - %r", resp.url.replace(self._secret_path, ""), status, content[:200]
        )
        return status, content, 0

    @staticmethod
    def make_direct_put_headers(direct_put_length: int) -> dict[str, str]:
        """Headers that tell the number of delivered bytes; none for 0."""
        return {etl.DIRECT_PUT_LENGTH: str(direct_put_length)} if direct_put_length > 0 else {}

    @property
    def session(self) -> requests.Session:
        """A `requests` session for code of users', with the token and the TLS settings of the environment."""
        if self._session is None:
            from aistore.sdk.etl.webserver._session import session_of_environment

            self._session = session_of_environment(self.token)
        return self._session

    @session.setter
    def session(self, session: requests.Session) -> None:
        self._session = session

    # -- files and readers --

    def sanitize_fqn(self, fqn: str) -> str:
        """Absolute path that `etl_fqn` means: unescaped once more, and normalised."""
        return posixpath.normpath("/" + unquote(fqn).lstrip("/"))

    @staticmethod
    def close_reader(reader: object) -> None:
        """Close a reader, if it can be closed; a failure of that is nobody's business any more."""
        close = getattr(reader, "close", None)
        if close is not None:
            with suppress(Exception):
                close()

    @staticmethod
    def iter_and_close(output_iter: Iterable[Bytes], reader: object) -> Generator[Bytes, None, None]:
        """Pass pieces on, and close `reader` at the end, however it comes."""
        try:
            yield from output_iter
        finally:
            ETLServer.close_reader(reader)

    # -- for the servers --

    def _failure(self, error: BaseException, path: str, order: Order | None) -> Failure:
        """The answer that an exception means, which is logged where it is the transformer's own."""
        from aistore.sdk.etl.webserver._failures import failure_of

        fqn = self.sanitize_fqn(order.fqn) if order is not None and order.fqn else ""
        failure = failure_of(error, path, fqn)
        failure = failure._replace(text=failure.text.replace(self._secret_path, ""))
        if failure.kind == "transform":
            self.logger.error("Error processing object %r: %s", path, failure.text, exc_info=error)
        elif failure.status >= 500:
            self.logger.error("Error processing object %r: %s", path, failure.text)
        return failure

    def _run(self, steps: Steps) -> Result:
        """Do what a transformation wants done, with blocking calls."""
        from aistore.sdk.etl.webserver._steps import Fetch, Pause, Put, ReadFile

        result: object = None
        error: Exception | None = None
        while True:
            try:
                step = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as end:
                final: Result = end.value
                return final
            result, error = None, None
            try:
                if isinstance(step, ReadFile):
                    result = _read(step.path)
                elif isinstance(step, Put):
                    result = self.client_put(step.url, step.data, step.headers)
                elif isinstance(step, Fetch):
                    result = self._outbound.fetch(step.url).content
                elif isinstance(step, Pause):
                    time.sleep(step.seconds)
            except Exception as failure:
                error = failure


def _read(path: str | Path) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  paths of targets are text
        return file.read()


def _count(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    return int(text) if text.isascii() and text.isdigit() else default


def _logger(name: str) -> logging.Logger:
    """A logger at INFO; to standard output, unless logging is configured already."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    if not logging.getLogger().handlers and not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        logger.addHandler(handler)
    return logger


def _raise_file_limit() -> None:
    """Let the process have as many connections as it may."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
