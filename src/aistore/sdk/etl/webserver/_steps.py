"""A buffered transformation as a generator without I/O: it yields what it wants done, and is sent the result.

The servers with threads run it with blocking calls, the asyncio one awaits what it yields; `transform` itself runs where the generator does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aistore.sdk.etl.webserver._failures import HopFailed
from aistore.sdk.etl.webserver.utils import compose_etl_direct_put_url
from aistore.wire import etl

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any, TypeAlias

    from aistore.sdk.etl.webserver._order import Order
    from aistore.sdk.etl.webserver._outbound import HopAnswer
    from aistore.sdk.etl.webserver.base_etl_server import ETLServer

    Bytes: TypeAlias = "bytes | bytearray | memoryview"
    Steps: TypeAlias = "Generator[Fetch | ReadFile | Put | Pause, Any, Result]"

__all__ = [
    "Attempts",
    "Fetch",
    "Pause",
    "Put",
    "ReadFile",
    "Result",
    "check_output",
    "hop_headers",
    "hop_url",
    "result_of_hop",
    "transformation",
]


class Fetch(NamedTuple):
    """Wanted: the object at a URL, as bytes."""

    url: str


class ReadFile(NamedTuple):
    """Wanted: the content of a file, as bytes."""

    path: str


class Put(NamedTuple):
    """Wanted: the answer of a hop, a `HopAnswer`."""

    url: str
    data: Bytes
    headers: dict[str, str]


class Pause(NamedTuple):
    """Wanted: nothing, for some seconds."""

    seconds: float


class Result(NamedTuple):
    """A good answer, or what a hop answered."""

    status: int
    body: Bytes | Iterator[Bytes]
    headers: dict[str, str]
    from_hop: bool = False


def transformation(server: ETLServer, order: Order, body: bytes | None) -> Steps:
    """Transform what came with the request (`body`), the file that it names, or the object at its source."""
    content: bytes | str
    if order.fqn:
        path = server.sanitize_fqn(order.fqn)
        content = path if server.direct_fqn else (yield ReadFile(path))
    elif body is None:
        content = yield Fetch(order.source)
    else:
        content = body
    output = check_output(server.transform(content, order.path, order.args))
    if not order.hop:
        return Result(200, output, {})
    url, headers = hop_url(server, order), hop_headers(order)
    failures = Attempts(server, order.hop)
    while True:
        try:
            answer: HopAnswer = yield Put(url, output, headers)
        except OSError as error:  # of the network; those of requests and of our own transport are OSErrors
            yield Pause(failures.after(error))
        except ValueError as error:  # no URL
            raise HopFailed(500, str(error)) from error
        else:
            return result_of_hop(server, answer, output, len(output))


def check_output(output: object) -> Bytes:
    """What `transform` returned. Raises TypeError unless it is bytes."""
    if not isinstance(output, (bytes, bytearray, memoryview)):
        raise TypeError(f"transform() returned {type(output).__name__}, not bytes")
    return output.cast("B") if isinstance(output, memoryview) else output


def hop_url(server: ETLServer, order: Order) -> str:
    """Where the result goes."""
    return compose_etl_direct_put_url(order.hop, server.host_target, order.hop_path, order.args)


def hop_headers(order: Order) -> dict[str, str]:
    """Headers for the next hop."""
    return {etl.NODE_URL: order.more} if order.more else {}


def result_of_hop(server: ETLServer, answer: HopAnswer, data: Bytes, length: int) -> Result:
    """The own answer for that of a hop."""
    status, body, sent = server.handle_direct_put_response(answer, data, length)
    return Result(status, body, server.make_direct_put_headers(sent), from_hop=True)


class Attempts:
    """Counts failures of a hop, shown as it came: the URL that the result goes to has a secret in it. `after` says how long to wait for the next attempt, or raises `HopFailed`."""

    def __init__(self, server: ETLServer, hop: str) -> None:
        self._server = server
        self._hop = hop
        self._failures = 0

    def after(self, error: OSError, one_shot: bool = False) -> float:
        """Seconds to wait after `error`. With `one_shot` what was sent cannot be made again: whoever asked has to send it anew."""
        from aistore.sdk.errors import ETLDirectPutTransientError

        if getattr(error, "before_sending", False) and not self._server._waits_for_hops:
            raise HopFailed(502, f"direct_put to '{self._hop}' failed: {type(error).__name__}: {error}") from error
        transient = ETLDirectPutTransientError(self._hop, error, one_shot)
        if one_shot:
            raise HopFailed(503, f"Direct put bailed (one-shot body): {transient}", transient=True) from error
        if self._failures >= self._server.direct_put_retries:
            raise HopFailed(502, f"Direct put failed after retries: {transient}") from error
        self._failures += 1
        return float(min(2 ** (self._failures - 1), 30))
