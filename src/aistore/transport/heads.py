"""The header lines of requests: those that every request to an origin repeats are encoded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.http1.encode import encode_headers
from aistore.version import __version__
from aistore.wire import headers as header

if TYPE_CHECKING:
    from aistore.http1.payload import Payload
    from aistore.transport.request import Request
    from aistore.transport.token import TokenFile
    from aistore.transport.url import Origin

__all__ = ["HeadBlocks"]

# Lines that decide where a message ends, or belong to the connection: only the transport knows them.
_FRAMING = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer")
)
_WITH_BODY = frozenset(("PUT", "POST", "PATCH"))


class HeadBlocks:
    """Everything of a request head behind its first line."""

    def __init__(self, token: str | TokenFile | None) -> None:
        self.use(token)

    def use(self, token: str | TokenFile | None) -> None:
        """Go on with another token."""
        # Another dictionary: a thread may be about to put a head with the old token into the one that there was.
        self._blocks: dict[tuple[Origin, bool], bytes] = {}
        self._file: TokenFile | None = None
        self._token: str | None = None
        if token is None or isinstance(token, str):
            # Read from a file, it ends with a line feed more often than not.
            self._token = (token or "").strip()
        else:
            self._file = token

    @property
    def token(self) -> str:
        """What goes into `Authorization`; empty for nothing."""
        if self._token is None:
            self._token = self._file.read() if self._file is not None else ""
        return self._token

    @property
    def may_renew(self) -> bool:
        """Whether the token comes from a file."""
        return self._file is not None

    def renew(self) -> bool:
        """Read the file again; whether it has another token than before."""
        found = self._file.read() if self._file is not None else ""
        if not found or found == self._token:
            return False
        self._token, self._blocks = found, {}
        return True

    def get(
        self, origin: Origin, request: Request, payload: Payload | None, expect: bool, authorized: bool = True
    ) -> bytes:
        """Header lines of `request` to `origin`, blank line included; `authorized` says whether the token may be shown there."""
        blocks = self._blocks
        block = blocks.get((origin, authorized))
        if block is None:
            block = blocks[origin, authorized] = encode_headers(self._constant(origin, authorized))
        if request.headers:
            block = self._with(request.headers, origin, authorized, block)
        if payload is None:
            return block + (b"Content-Length: 0\r\n\r\n" if request.method in _WITH_BODY else b"\r\n")
        if payload.length is None:
            return block + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        return block + b"Content-Length: %d\r\n%s\r\n" % (
            payload.length,
            b"Expect: 100-continue\r\n" if expect else b"",
        )

    def lines(self, origin: Origin, request: Request, authorized: bool) -> list[tuple[str, str]]:
        """The header lines of `request` apart, without those of framing: for a proxy, which is spoken to by another library."""
        block = self.get(origin, request, None, False, authorized).decode()
        lines = [line.partition(": ") for line in block.split("\r\n") if line]
        return [(name, value) for name, _, value in lines if name != "Content-Length"]

    def _constant(self, origin: Origin, authorized: bool) -> list[tuple[str, str]]:
        lines = [
            ("Host", origin.authority),
            ("User-Agent", f"ais/python/{__version__}"),
            ("Accept", "*/*"),
            ("Content-Type", header.JSON),
        ]
        if authorized and (token := self.token):
            lines.append(("Authorization", f"Bearer {token}"))
        return lines

    def _with(self, headers: tuple[tuple[str, str], ...], origin: Origin, authorized: bool, block: bytes) -> bytes:
        names = {name.lower() for name, _ in headers}
        if refused := names & _FRAMING:
            raise ValueError(f"header {', '.join(sorted(refused))} is the transport's own")
        if not authorized and "authorization" in names:
            headers = tuple(line for line in headers if line[0].lower() != "authorization")
        constant = self._constant(origin, authorized)
        if any(name.lower() in names for name, _ in constant):
            block = encode_headers([line for line in constant if line[0].lower() not in names])
        return block + encode_headers(headers)
