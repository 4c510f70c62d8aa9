"""The answer to a batch becomes its entries, in order; where it breaks off, the rest is asked for again. No I/O."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from aistore.calls.batch_formats import Cut, Multipart, TarDecoder, new_decoder
from aistore.sdk.batch.errors import BatchIncomplete, MultipartDecodeError
from aistore.sdk.batch.types import MossOut
from aistore.transport.request import Request
from aistore.wire.batch import MISSING, name_in_archive
from aistore.wire.headers import JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from aistore.calls.batch_formats import Decoder, Member
    from aistore.calls.steps import Answer

    Item: TypeAlias = tuple[MossOut, bytes]

__all__ = ["Delivery", "Entry", "Settings"]

_FRUITLESS_MAX: Final = 3  # requests one after another that bring nothing new
_FAILED: Final = "Batch entry failed on the server"
_known: Final = MossOut.known
_HEADERS: Final = (("Content-Type", JSON),)


class Entry(NamedTuple):
    """One entry; empty, None and 0 for what is not given. One that is only a name of the batch's bucket is kept as that name."""

    name: str
    bucket: str = ""
    provider: str = ""
    uname: str = ""
    opaque: bytes | None = None
    path: str = ""
    start: int = 0
    length: int = 0

    def document(self) -> dict[str, object]:
        """The entry as it is sent."""
        found: dict[str, object] = {"objname": self.name}
        if self.bucket:
            found["bucket"], found["provider"] = self.bucket, self.provider
        if self.uname:
            found["uname"] = self.uname
        if self.opaque:
            found["opaque"] = b64encode(self.opaque).decode()
        if self.path:
            found["archpath"] = self.path
        if self.length:
            found["start"], found["length"] = self.start, self.length
        return found


class Settings(NamedTuple):
    """How a batch is wanted; `bucket` and `provider` are of entries that name none, empty if all do."""

    path: str
    query: str
    bucket: str
    provider: str
    mime: str
    continue_on_error: bool
    only_name: bool
    streaming: bool
    colocation: int


class Delivery:
    """Delivers the entries of one batch: `request`, then `begin` with the answer, `feed` with its bytes, `end`.

    If the answer breaks off, `again` gives the request for the entries that have not come; everything begins anew with its answer.
    """

    def __init__(self, settings: Settings, entries: list[Entry | str]) -> None:
        self._settings = settings
        self._entries = entries
        self._at = 0
        self._asked_at = 0
        self._fruitless = 0
        self._decoder: Decoder = TarDecoder()
        self._multipart: Multipart | None = None

    def request(self) -> Request:
        """The request for the entries that have not come yet."""
        settings = self._settings
        left = self._entries[self._at :] if self._at else self._entries
        document: dict[str, object] = {
            "in": [{"objname": one} if one.__class__ is str else one.document() for one in left],  # type: ignore[union-attr]  # an Entry is no str
            "mime": settings.mime,
            "coer": settings.continue_on_error,
            "onob": settings.only_name,
            "strm": settings.streaming,
        }
        if settings.colocation:
            document["coloc"] = settings.colocation
        self._asked_at = self._at
        body = msgspec.json.encode(document)
        return Request("GET", settings.path, settings.query, _HEADERS, body, stream=True)

    def begin(self, answer: Answer | None) -> None:
        """An answer has come, or an archive without one. Raises `MultipartDecodeError`."""
        self._decoder = new_decoder(self._settings.mime)
        self._multipart = None
        if answer is not None and not self._settings.streaming:
            self._multipart = Multipart(answer.headers.get("Content-Type", ""))

    def feed(self, data: bytes) -> Iterable[Item]:
        """The entries that are complete with these bytes. Raises `RuntimeError` or `MultipartDecodeError` for what is damaged."""
        if self._multipart is not None:
            data = self._multipart.feed(data)
            if not data:
                return ()
        return self._items(self._decoder.feed(data))

    def end(self) -> Iterator[Item]:
        """The entries that are known only at the end of the answer. Raises `Cut` if there are less than were asked for."""
        if self._multipart is not None and not self._multipart.ended:
            if self._multipart.metadata is None:
                raise MultipartDecodeError("the answer has no parts")
            raise Cut("the answer has no end")
        for member in self._decoder.finish():
            yield from self._items((member,))
        if self._at < len(self._entries):
            raise Cut("the server ended the archive")

    def again(self, error: Exception) -> Request:
        """The request for what has not come, after `error` broke an answer off. Raises `BatchIncomplete` where that does not help."""
        self._fruitless = self._fruitless + 1 if self._at == self._asked_at else 0
        if self._fruitless >= _FRUITLESS_MAX:
            raise self.incomplete(error) from error
        return self.request()

    def incomplete(self, error: Exception) -> BatchIncomplete:
        """What to raise when the rest cannot be had."""
        left = [self._label(one) for one in self._entries[self._at :]]
        return BatchIncomplete(left, self._at, str(error))

    @property
    def is_complete(self) -> bool:
        """Whether all entries have come."""
        return self._at == len(self._entries)

    @property
    def delivered(self) -> int:
        """Number of entries that have come."""
        return self._at

    def _label(self, entry: Entry | str) -> str:
        if isinstance(entry, Entry):
            bucket = entry.bucket or self._settings.bucket
            return f"{bucket}/{entry.name}" + (f"/{entry.path}" if entry.path else "")
        return f"{self._settings.bucket}/{entry}"

    def _items(self, members: Iterable[Member]) -> Iterator[Item]:
        settings, entries = self._settings, self._entries
        bucket, provider = settings.bucket, settings.provider
        count, plain = len(entries), self._multipart is None
        for name, content in members:
            at = self._at
            if at >= count:
                raise RuntimeError(f"the archive of a batch of {count} entries has more: {name!r}")
            entry = entries[at]
            if content and plain and entry.__class__ is str and name.endswith(entry):  # as nearly all are
                self._at = at + 1
                yield (
                    _known(
                        {
                            "obj_name": entry,
                            "archpath": "",
                            "bucket": bucket,
                            "provider": provider,
                            "opaque": None,
                            "err_msg": None,
                            "size": len(content),
                        }
                    ),
                    content,
                )
                continue
            if isinstance(entry, Entry):
                asked, where, by, _, opaque, path, _, length = entry
                where, by = where or bucket, by or provider
            else:
                asked, where, by, opaque, path, length = entry, bucket, provider, None, "", 0
            missing = not content and name.startswith(MISSING) and self._is_missing(name, asked, where, path)
            if not missing:
                if not name.endswith(path or asked):
                    raise RuntimeError(f"entry {at} of a batch is {name!r}, not {self._label(entry)!r}")
                if length > 0 and len(content) != length:  # some servers answer ranges out of bounds with nothing
                    raise RuntimeError(
                        f"entry {at} of a batch, {self._label(entry)!r}, has {len(content)} bytes: {length} were asked for"
                    )
            if not plain:
                out = self._recorded(at)
                if missing and not out.err_msg:
                    out.err_msg = _FAILED
            else:
                values: dict[str, object] = {
                    "obj_name": asked,
                    "archpath": path,
                    "bucket": where,
                    "provider": by,
                    "opaque": opaque,
                    "err_msg": _FAILED if missing else None,
                    "size": len(content),
                }
                out = _known(values)
            self._at = at + 1
            yield out, content

    def _is_missing(self, name: str, asked: str, where: str, path: str) -> bool:
        """Whether a name says that this entry is missing: that of an archive that is missing may lack the member (protocol/40 A4)."""
        plain = name.removeprefix(MISSING)
        return plain.endswith((asked, path or asked)) and name != name_in_archive(
            where, asked, path, only_name=self._settings.only_name
        )

    def _recorded(self, at: int) -> MossOut:
        """The server's record of an entry."""
        assert self._multipart is not None
        assert self._multipart.metadata is not None
        records = self._multipart.metadata["out"]
        if len(records) != len(self._entries) - self._asked_at:
            raise MultipartDecodeError(
                f"{len(records)} records for {len(self._entries) - self._asked_at} entries of a batch"
            )
        return MossOut.model_validate(records[at - self._asked_at])
