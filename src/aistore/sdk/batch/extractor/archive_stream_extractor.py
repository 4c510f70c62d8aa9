"""What takes an archive of a batch apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from aistore.calls.batch_delivery import Delivery, Entry, Settings
from aistore.calls.batch_formats import Cut
from aistore.wire.batch import decode_opaque

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from aistore.calls.batch_delivery import Item
    from aistore.sdk.batch.types import MossReq, MossResp

__all__ = ["ArchiveStreamExtractor"]

_PIECE: Final = 65536
_GZIP: Final = b"\x1f\x8b"


class ArchiveStreamExtractor(ABC):
    """Takes archives of some formats apart, and pairs what is in them with what was asked for, by position."""

    @abstractmethod
    def get_supported_formats(self) -> tuple[str, ...]:
        """The formats, such as `.tar`."""

    def extract(
        self,
        response: object,
        data_stream: BinaryIO,
        moss_req: MossReq,
        moss_resp: MossResp | None = None,
    ) -> Iterator[Item]:
        """`(MossOut, bytes)` of each entry of the archive in `data_stream`; `response`, where it came from, is closed at the end.

        With `moss_resp` the records are those of the server. Raises `RuntimeError` for an archive that is damaged or lacks entries.
        """
        yield from self._extract(response, data_stream, moss_req, moss_resp, _PIECE)

    def _extract(
        self, response: object, data_stream: BinaryIO, moss_req: MossReq, moss_resp: MossResp | None, piece: int
    ) -> Iterator[Item]:
        first = data_stream.read(piece)
        mime = ".tgz" if first.startswith(_GZIP) else self.get_supported_formats()[0]
        delivery = Delivery(Settings("", "", "", "", mime, True, False, True, 0), _entries(moss_req))
        try:
            for info, content in _items(delivery, first, data_stream, piece):
                yield (moss_resp.out[delivery.delivered - 1] if moss_resp is not None else info), content
        except Cut as error:
            raise RuntimeError(str(delivery.incomplete(error))) from error
        finally:
            close = getattr(response, "close", None)
            if close is not None:
                close()


def _items(delivery: Delivery, first: bytes, stream: BinaryIO, piece: int) -> Iterator[Item]:
    delivery.begin(None)
    data = first
    while data:
        yield from delivery.feed(data)
        data = stream.read(piece)
    yield from delivery.end()


def _entries(request: MossReq) -> list[Entry | str]:
    return [
        Entry(
            one.obj_name,
            one.bck or "",
            one.provider or "",
            one.uname or "",
            decode_opaque(one.opaque) if one.opaque else None,
            one.archpath or "",
            one.start or 0,
            one.length or 0,
        )
        for one in request.moss_in
    ]
