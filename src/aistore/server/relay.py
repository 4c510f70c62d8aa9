"""Asking another node of the cluster on behalf of a client: relay, not redirect (protocol/00 13.3)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from aistore.http1.chunked import ChunkedDecoder
from aistore.http1.failures import BadBody
from aistore.http1.head import CHUNKED, NO_LENGTH, BadHead, find_head_end, parse_response, response_framing
from aistore.http1.message import Reply
from aistore.server.listening import private_address

if TYPE_CHECKING:
    import ssl
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    _Streams: TypeAlias = tuple[StreamReader, StreamWriter]

__all__ = ["ask", "ask_privately"]

_PATIENCE: Final = 15.0
_ANSWER_MAX: Final = 64 << 20  # logs are the largest
_PASSED_ON: Final = frozenset({"content-type", "x-content-type-options", "allow"})


async def ask(
    url: str,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
    context: ssl.SSLContext | None = None,
) -> Reply:
    """The node's answer to one request; 502 with an empty body when it cannot be had. `context` says whom to trust behind https."""
    return await _ask(partial(_connect, url, context), url, method, target, body, headers)


async def ask_privately(
    data_dir: Path,
    node_id: str,
    url: str,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
) -> Reply:
    """The answer of another process of this user through its socket in a data folder; 502 as `ask`."""
    return await _ask(partial(_connect_privately, data_dir, node_id), url, method, target, body, headers)


async def _ask(
    connect: Callable[[], Awaitable[_Streams]],
    url: str,
    method: str,
    target: str,
    body: bytes,
    headers: Sequence[tuple[str, str]],
) -> Reply:
    async def exchange() -> Reply:
        reader, writer = await connect()
        try:
            return await _converse(reader, writer, urlsplit(url).netloc, method, target, body, headers)
        finally:
            writer.close()

    try:
        return await asyncio.wait_for(exchange(), _PATIENCE)
    except (OSError, EOFError, BadHead, BadBody, ValueError, asyncio.TimeoutError):
        return Reply(502)


async def _connect(url: str, context: ssl.SSLContext | None) -> _Streams:
    parts = urlsplit(url)
    if parts.scheme != "https":
        context = None
    elif context is None:
        import ssl

        context = ssl.create_default_context()
    port = parts.port or (443 if context is not None else 80)
    return await asyncio.open_connection(parts.hostname, port, ssl=context)


async def _connect_privately(data_dir: Path, node_id: str) -> _Streams:
    with private_address(data_dir, node_id) as address:
        return await asyncio.open_unix_connection(address)


async def _converse(
    reader: StreamReader,
    writer: StreamWriter,
    host: str,
    method: str,
    target: str,
    body: bytes,
    headers: Sequence[tuple[str, str]],
) -> Reply:
    more = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = bytearray()
    while piece := await reader.read(1 << 16):
        answer += piece
        if len(answer) > _ANSWER_MAX:
            raise ValueError("answer is too long")
    end = find_head_end(bytes(answer), 0)
    if end < 0:
        raise EOFError("the node closed the connection without an answer")
    parsed = parse_response(bytes(answer[:end]))
    content = bytes(answer[end:])
    length = response_framing(parsed, method)
    if length == CHUNKED:
        decoder = ChunkedDecoder()
        content = b"".join(decoder.feed(content))
        is_whole = decoder.done
    else:
        is_whole = length in (NO_LENGTH, len(content))
    if not is_whole:
        raise EOFError("the node's answer was cut off")
    passed = [(name.title(), value) for name, value in parsed.headers.items() if name in _PASSED_ON]
    return Reply(parsed.status, passed, content)
