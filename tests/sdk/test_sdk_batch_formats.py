"""Archives and multipart documents of batches are taken apart alike, wherever the network cuts them into pieces."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as some

from aistore.calls.batch_formats import Cut, Multipart, TarDecoder, new_decoder
from aistore.sdk.batch.errors import BatchIncomplete, MultipartDecodeError
from aistore.sdk.batch.extractor.extractor_manager import ExtractorManager
from aistore.sdk.batch.extractor.extractor_registry import get_extractor
from aistore.sdk.batch.multipart.body_stream_reader import BodyStreamReader
from aistore.sdk.batch.multipart.multipart_decoder import MultipartDecoder
from aistore.sdk.batch.types import MossIn, MossOut, MossReq, MossResp
from archives import packed, tar

NAMES = some.text(some.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda name: not name.endswith("/")
)
MEMBERS = some.lists(some.tuples(NAMES, some.binary(max_size=2000)), max_size=8)
FORMS = some.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
BODY = (
    b'--xyz\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"uuid": "gbt-1", "out": []}\n\r\n--xyz\r\n'
    b'Content-Disposition: form-data; name="archive"; filename="a"\r\nContent-Type: application/octet-stream\r\n\r\n'
    b"archive\r\n\r\n--xy\r\n\r\n--xyz--\r\n"
)
ARCHIVE = b"archive\r\n\r\n--xy\r\n"
TYPE = "multipart/mixed; boundary=xyz"


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(MEMBERS, FORMS, some.integers(1, 3000))
def test_a_tar_in_pieces(members: list[tuple[str, bytes]], form: int, size: int) -> None:
    decoder = TarDecoder()
    found = [member for piece in pieces(tar(members, form), size) for member in decoder.feed(piece)]
    decoder.finish()
    assert found == members


@pytest.mark.parametrize("size", [1000, 4096, 65_536, 65_537, 99_999, 131_072, 1 << 20])
def test_large_members_in_pieces(size: int) -> None:
    members = [
        (f"m{n}", bytes([n % 251]) * n) for n in (65_535, 65_536, 65_537, 70_000, 0, 131_072, 300_001, 1, 66_048)
    ]
    decoder = TarDecoder()
    found = [member for piece in pieces(tar(members), size) for member in decoder.feed(piece)]
    decoder.finish()
    assert found == members


@given(MEMBERS, some.integers(0, 3000))
def test_a_tar_that_is_cut_shows(members: list[tuple[str, bytes]], less: int) -> None:
    whole = tar(members, tarfile.PAX_FORMAT).rstrip(b"\0")
    decoder = TarDecoder()
    found = list(decoder.feed(whole[: max(0, len(whole) - less)]))
    with pytest.raises(Cut):
        decoder.finish()
    assert found == members[: len(found)]


@pytest.mark.parametrize("form", [".tgz", ".tar.gz", ".zip"])
def test_compressed_archives_that_are_cut_show(form: str) -> None:
    data = packed(form, [("a", b"1" * 1000), ("b", b"2")])
    for end in range(0, len(data), 7):
        decoder = new_decoder(form)
        with pytest.raises(Cut):
            list(decoder.feed(data[:end]))
            list(decoder.finish())


def test_headers_that_have_no_end_are_refused() -> None:
    block = bytearray(tar([("x", b"")])[:512])
    block[156:157] = b"x"
    block[124:136] = b"77777777777\0"
    with pytest.raises(RuntimeError, match="too long"):
        list(TarDecoder().feed(bytes(block)))


@pytest.mark.parametrize("kind", [b"0", b"x"])
def test_sizes_below_zero_are_refused(kind: bytes) -> None:
    block = bytearray(tar([("x", b"")])[:512])
    block[156:157] = kind
    block[124:136] = b"-0000001000\0"
    with pytest.raises(RuntimeError, match="invalid header"):
        next(TarDecoder().feed(bytes(block) * 4))


def test_extended_sizes_that_no_file_has_are_not_taken() -> None:
    content = b"20000 size=%b\n" % (b"9" * 19988)
    block = bytearray(tar([("x", b"")])[:512])
    block[156:157] = b"x"
    block[124:136] = b"%011o\0" % len(content)
    data = bytes(block) + content.ljust(20480, b"\0") + tar([("y", b"content")])
    assert list(TarDecoder().feed(data)) == [("y", b"content")]


@pytest.mark.parametrize("size", range(1, 80))
def test_a_multipart_document_in_pieces(size: int) -> None:
    document = Multipart(TYPE)
    assert b"".join(map(document.feed, pieces(BODY, size))) == ARCHIVE
    assert document.ended
    assert document.metadata == {"uuid": "gbt-1", "out": []}


def answer(body: bytes, content_type: str = TYPE) -> requests.Response:
    made = requests.Response()
    made.raw = io.BytesIO(body)
    made.headers["Content-Type"] = content_type
    return made


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096])
def test_the_decoder_of_raw_answers(size: int) -> None:
    metadata, archive = MultipartDecoder(chunk_size=size, max_buffer_size=size).decode(answer(BODY))
    assert metadata.strip() == '{"uuid": "gbt-1", "out": []}'
    assert archive == ARCHIVE
    _, stream = MultipartDecoder(parse_as_stream=True, chunk_size=size).decode(
        answer(BODY, 'multipart/x; boundary="xyz"')
    )
    assert isinstance(stream, BodyStreamReader)
    assert stream.read(3) == ARCHIVE[:3]
    assert stream.read() == ARCHIVE[3:]


@pytest.mark.parametrize("end", range(0, len(BODY) - 4, 9))
def test_raw_answers_that_are_cut_show(end: int) -> None:
    with pytest.raises(MultipartDecodeError):
        MultipartDecoder().decode(answer(BODY[:end]))


@pytest.mark.parametrize("content_type", ["", "application/x-tar", "multipart/mixed", "multipart/mixed; boundary="])
def test_what_is_not_multipart_is_refused(content_type: str) -> None:
    with pytest.raises(MultipartDecodeError):
        MultipartDecoder().decode(answer(BODY, content_type))
    with pytest.raises(MultipartDecodeError):
        Multipart(content_type)


@pytest.mark.parametrize("form", [".tar", ".tgz", ".tar.gz", ".zip", ".ZIP"])
def test_extractors(form: str) -> None:
    request = MossReq()
    request.extend([MossIn(objname="a", bucket="b", provider="ais"), MossIn(objname="c")])
    data = packed(form.lower(), [("b/a", b"one"), ("b/c", b"two")])
    extractor = ExtractorManager().get_extractor(form)
    assert [(info.obj_name, content) for info, content in extractor.extract(None, io.BytesIO(data), request)] == [
        ("a", b"one"),
        ("c", b"two"),
    ]
    records = MossResp(out=[MossOut(objname=name, bucket="b", provider="ais", size=3) for name in "ac"])
    got = list(extractor.extract(answer(b""), io.BytesIO(data), request, records))
    assert [info for info, _ in got] == records.out
    request.add(MossIn(objname="d"))
    with pytest.raises(RuntimeError, match="'/d'"):
        list(extractor.extract(None, io.BytesIO(data), request))


def test_there_is_no_extractor_for_other_formats() -> None:
    with pytest.raises(ValueError, match="rar"):
        get_extractor(".rar")


def test_models_have_the_names_of_the_protocol() -> None:
    by_name: Any = MossIn  # type checkers know only the names of the protocol
    entry = MossIn.model_validate({"objname": "o", "bucket": "b", "provider": "ais", "opaque": "AP8="})
    assert entry == by_name(obj_name="o", bck="b", provider="ais", opaque="AP8=")
    assert entry.dict() == {"objname": "o", "bucket": "b", "provider": "ais", "opaque": "AP8="}
    out = MossOut.model_validate({"objname": "o", "bucket": "b", "provider": "ais", "opaque": "AP8=", "size": 1})
    assert out.opaque == b"\0\xff"
    assert MossOut.model_validate({"objname": "o", "bucket": "b", "provider": "ais", "opaque": "?"}).opaque is None
    known = MossOut.known(
        {
            "obj_name": "o",
            "archpath": None,
            "bucket": "b",
            "provider": "ais",
            "opaque": b"\0\xff",
            "err_msg": None,
            "size": 1,
        }
    )
    assert known == out
    assert known.model_copy().dict() == out.dict()


def test_an_incomplete_batch_says_what_is_missing() -> None:
    error = BatchIncomplete([f"b/{i}" for i in range(12)], 3, "gone")
    assert "12 entries" in str(error)
    assert "'b/9' and 2 more: gone" in str(error)
