"""A streamed transformation, in a thread: pieces in, pieces out, whatever the object's size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aistore.sdk.etl.webserver._failures import HopFailed
from aistore.sdk.etl.webserver._steps import Attempts, Result, check_output, hop_headers, hop_url, result_of_hop
from aistore.sdk.etl.webserver.base_etl_server import CountingIterator, ETLServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk.etl.webserver._order import Order
    from aistore.sdk.etl.webserver._steps import Bytes
    from aistore.sdk.etl.webserver.base_etl_server import Reader

__all__ = ["streamed_transformation"]


def streamed_transformation(server: ETLServer, order: Order, body: Reader | None) -> Result:
    """Transform `body`, the file that the order names, or the object at its source.

    The result's body is made while it is iterated; its first piece is made here, so that a transformation that fails at once is answered
    as a failure. A result for a hop is sent here.
    """
    if not order.hop:
        reader = _open(server, order, body)
        pieces = server.iter_and_close(_checked(server, order, reader), reader)
        first = next(pieces, None)
        return Result(200, iter(()) if first is None else _again(first, pieces), {})
    url = hop_url(server, order)
    attempts = Attempts(server, order.hop)
    one_shot = body is not None and not order.fqn
    while True:
        reader = _open(server, order, body)
        pieces = server.iter_and_close(_checked(server, order, reader), reader)
        counted = CountingIterator(_marked(pieces))
        try:
            answer = server.client_put(url, iter(counted), hop_headers(order))
        except _SourceFailed as failed:
            raise failed.error from failed
        except OSError as error:
            time.sleep(attempts.after(error, one_shot))
        except ValueError as error:  # no URL
            raise HopFailed(500, str(error)) from error
        else:
            return result_of_hop(server, answer, b"", counted.bytes_sent)
        finally:
            pieces.close()


class _SourceFailed(Exception):
    """Making the pieces failed, and not sending them."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _marked(pieces: Iterator[Bytes]) -> Iterator[Bytes]:
    try:
        yield from pieces
    except Exception as error:
        raise _SourceFailed(error) from error


def _checked(server: ETLServer, order: Order, reader: Reader) -> Iterator[Bytes]:
    for piece in server.transform_stream(reader, order.path, order.args):
        if checked := check_output(piece):
            yield checked


def _again(first: Bytes, rest: Iterator[Bytes]) -> Iterator[Bytes]:
    try:
        yield first
        yield from rest
    finally:
        rest.close()  # type: ignore[attr-defined]  # it is a generator


def _open(server: ETLServer, order: Order, body: Reader | None) -> Reader:
    if order.fqn:
        return open(server.sanitize_fqn(order.fqn), "rb")  # noqa: PTH123  iter_and_close() closes it
    return body if body is not None else server._outbound.fetch(order.source)
