"""Fuzzing of what reads archives and expressions: TAR and ZIP in the server, those of batches in the client."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Final

import lz4.frame

import archives
from aistore.calls.batch_formats import Cut, TarDecoder, new_decoder
from aistore.server.archive import tar
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format
from aistore.server.archive.index import Stop, build
from aistore.server.archive.reading import content_of, in_one_piece, selected
from aistore.server.archive.regexp import Regexp
from aistore.server.archive.source import BytesSource
from aistore.server.dsort.records import ShardReader
from aistore.wire.errors import ApiError
from fuzz.engine import Target

if TYPE_CHECKING:
    from collections.abc import Hashable

_MADE_MAX: Final = 64 << 20  # bytes that a small archive may become before somebody has to stop


def _with_checksums(data: bytes) -> bytes:
    """Headers with the checksums that they should have, so that more than those is looked at; the first byte says whether."""
    if not data or data[0] & 1:
        return data[1:]
    fixed = bytearray(data[1:])
    for at in range(0, len(fixed) - 511, 512):
        if fixed[at + 257 : at + 262] == b"ustar":
            fixed[at + 148 : at + 156] = b" " * 8
            fixed[at + 148 : at + 156] = b"%06o\0 " % sum(fixed[at : at + 512])
    return bytes(fixed)


def _read_all(data: bytes, form: Format) -> Hashable:
    """The index, each member, and all members at once."""
    source = BytesSource(data)
    index = build(source, form, Stop())
    found: list[object] = [index.damage[:20], min(len(index.entries), 3)]
    made = 0
    for member in list(index.after(""))[:4]:
        assert index.find(member.name) == member
        try:
            if in_one_piece(source, form, member) < 0:
                made += sum(map(len, content_of(source, form, member)))
            found.append("good")
        except BadArchive as error:
            found.append(str(error)[:12])
        assert made <= _MADE_MAX
    try:
        made += sum(map(len, selected(source, form, lambda name: "b" in name)))
    except BadArchive as error:
        found.append(str(error)[:12])
    assert made <= _MADE_MAX
    return tuple(found)


def _tar(data: bytes) -> Hashable:
    data = _with_checksums(data)
    found = _read_all(data, Format.TAR)
    reader = ShardReader(0, BytesSource(data), Format.TAR, Path(gettempdir()), 1 << 20)
    try:
        for _ in reader.read():
            pass
        records = list(reader.records(lambda _: None))
    finally:
        reader.close()
    return found, min(len(records), 3)


def _tar_header(data: bytes) -> Hashable:
    """What dSort and the builder do with headers that were read."""
    from aistore.server.archive.source import cursor_over

    kinds = []
    for member in tar.walk(cursor_over(BytesSource(_with_checksums(data)), Format.TAR)):
        tar.time_of(member.header)
        own = tar.own_header(member.header)
        tar.check_numbers(own)
        kinds.append((member.regular, member.sparse, len(own) < len(member.header)))
    return tuple(kinds[:3])


def _compressed(form: Format, data: bytes) -> Hashable:
    return _read_all(data, form)


def _zip(data: bytes) -> Hashable:
    found = _read_all(data, Format.ZIP)
    reader = ShardReader(0, BytesSource(data), Format.ZIP, Path(gettempdir()), 1 << 20)
    try:
        for _ in reader.read():
            pass
    finally:
        reader.close()
    return found


def _batch_tar(data: bytes) -> Hashable:
    """The first byte says in which pieces it comes, and whether it comes from anybody; whole and in pieces it has the same members."""
    step, strict = 1 + (data[0] if data else 0) * 7, bool(data and data[0] & 1)
    data = data[1:]
    whole, pieces = TarDecoder(strict), TarDecoder(strict)
    at_once = list(whole.feed(data))
    in_pieces = [member for at in range(0, len(data), step) for member in pieces.feed(data[at : at + step])]
    assert in_pieces == at_once
    try:
        whole.finish()
    except Cut:
        return "cut", min(len(at_once), 3)
    return "whole", min(len(at_once), 3)


def _batch(mime: str, data: bytes) -> Hashable:
    decoder = new_decoder(mime)
    half = len(data) // 2
    found = sum(len(content) for piece in (data[:half], data[half:]) for _, content in decoder.feed(piece))
    found += sum(len(content) for _, content in decoder.finish())
    assert found <= _MADE_MAX
    return min(found, 5)


def _regexp(data: bytes) -> Hashable:
    """The expression, a line end, and a text."""
    expression, _, text = data.decode("utf-8", "surrogateescape").partition("\n")
    found = Regexp(expression[:256])
    return found.search(text[:256]), min(found.size, 10)


def _sparse() -> bytes:
    info = tarfile.TarInfo("sparse")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 5
    return info.tobuf(tarfile.GNU_FORMAT) + b"hello".ljust(512, b"\0") + bytes(1024)


def _stored_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("b/stored", b"x" * 40)
        archive.writestr(zipfile.ZipInfo("folder/"), b"")
        archive.writestr("b.txt", b"y" * 400, zipfile.ZIP_DEFLATED)
        archive.comment = b"PK\5\6 a comment"
    return out.getvalue()


def _lying_zip() -> bytes:
    """Its directory says that it lies further on than it does, so that members begin before the archive."""
    data = bytearray(archives.zipped([("a", b"x")]))
    data[-6:-2] = (int.from_bytes(data[-6:-2], "little") + (1 << 24)).to_bytes(4, "little")
    return bytes(data)


_FEW: Final = [("a.txt", b"alpha"), ("d/b.jpg", b"bee" * 100), ("d/b.cls", b"7"), ("n" * 120 + "b", b"long")]
_TARS: Final = (
    archives.tar(_FEW[:3])[:4096],
    archives.tar(_FEW, tarfile.GNU_FORMAT)[:6144],
    archives.tar(_FEW, tarfile.PAX_FORMAT)[:7168],
    _sparse(),
    archives.tar([("b", b"")], tarfile.USTAR_FORMAT)[:1536],
)
_TAR_WORDS: Final = (
    b"ustar\0" + b"00", b"ustar  \0", b"x", b"g", b"L", b"K", b"S", b"0", b"5", b"7", b"\x00" * 12, b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0",
    b"00000000000\0", b"00000001000\0", b"30 path=b\n", b"15 size=9999999\n", b"12 size=-1\n", b"25 GNU.sparse.realsize=9\n", b"\x00" * 512, b" ", b"../", b"/",
)  # fmt: skip
_ZIP_WORDS: Final = (
    b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\xff\xff\xff\xff", b"\xff\xff", b"\x00\x00\x00\x00", b"\x01\x00\x08\x00", b"\x08\x00", b"\x00\x00",
    b"\x01\x00", b"\x00\x08", b"\xff" * 8, b"../", b"\x00",
)  # fmt: skip
_ARCHIVES: Final = (BadArchive,)
_BATCHES: Final = (RuntimeError, Cut)
_TGZ: Final = tuple(gzip.compress(one, 1, mtime=0) for one in _TARS)

TARGETS: Final = (
    Target("TAR", _tar, _ARCHIVES, tuple(b"\x00" + one for one in _TARS), _TAR_WORDS, 8192),
    Target("TAR headers", _tar_header, _ARCHIVES, tuple(b"\x00" + one for one in _TARS), _TAR_WORDS, 8192),
    Target("TAR with gzip", partial(_compressed, Format.TGZ), _ARCHIVES, _TGZ, (b"\x1f\x8b\x08", *_TAR_WORDS[:8]), 4096),
    Target(
        "TAR with LZ4",
        partial(_compressed, Format.LZ4),
        _ARCHIVES,
        tuple(bytes(lz4.frame.compress(one)) for one in _TARS),
        (b"\x04\x22\x4d\x18", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x50\x2a\x4d\x18"),
        4096,
    ),
    Target("ZIP", _zip, _ARCHIVES, (archives.zipped(_FEW), archives.zipped(_FEW, zipfile.ZIP_STORED), _stored_zip()), _ZIP_WORDS, 8192),
    Target("TAR of a batch", _batch_tar, (RuntimeError,), tuple(b"\x48" + one for one in _TARS), _TAR_WORDS, 8192),
    Target("TGZ of a batch", partial(_batch, ".tgz"), _BATCHES, _TGZ, _TAR_WORDS[:8], 4096),
    Target("ZIP of a batch", partial(_batch, ".zip"), _BATCHES, (archives.zipped(_FEW), _stored_zip(), _lying_zip()), _ZIP_WORDS, 4096),
    Target(
        "regular expressions",
        _regexp,
        (ApiError,),
        (b"^a.*b$\nacccb", b"(a|b)+c{2,5}?\nabcc", b"[^a-z\\d[:alpha:]]\nX", b"(?i:x)\\b\\pL\nX", b"\\x{10FFFF}|\\Qa.b\\E\na.b"),
        (b"(", b")", b"*", b"+?", b"{1,1000}", b"{0}", b"|", b"[", b"]", b"[^", b"\\", b"\\p{Greek}", b"(?i)", b"(?P<n>", b"\\b", b"^", b"$", b".", b"\n", b"-", b"[:alpha:]", b"\\x{", b"\xff", b"(" * 300, b"a" * 20, b"(a*)*"),
        longest=512,
    ),
)  # fmt: skip
