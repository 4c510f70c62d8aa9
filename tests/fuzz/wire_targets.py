"""Fuzzing of what reads the protocol's texts: templates, ranges, names, values and tokens."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from aistore.server.archive.names import clean
from aistore.server.authn.tokens import BadToken, Verifier, key_id_of, sign
from aistore.transport.redirect import resolve
from aistore.transport.url import split_url
from aistore.wire import custom as custom_metadata
from aistore.wire import gotime
from aistore.wire.authn import parse_mask
from aistore.wire.checksum import check_value
from aistore.wire.errors import ApiError
from aistore.wire.names import check_object_name, check_prefix, parse_bucket, parse_uname
from aistore.wire.ranges import parse_range
from aistore.wire.template import MAX_NAMES, parse_counter, parse_template
from aistore.wire.values import parse_bool, parse_duration, parse_size, parse_time
from fuzz.engine import Target

if TYPE_CHECKING:
    from collections.abc import Hashable

_SECRET: Final = "secret of thirty-two characters."
_INT64: Final = 1 << 63


def _text(data: bytes) -> str:
    """As parameters and fields are decoded: what is no UTF-8 becomes lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def _template(data: bytes) -> Hashable:
    text = _text(data)
    found = parse_counter(text) or parse_template(text)
    if found.prefix is not None:
        return "prefix"
    names = list(islice(found.names(), 3))
    total = 1
    for one in found.ranges:
        assert one.total > 0
        total *= one.total
    assert len(names) == min(total, 3)
    assert len(set(names)) == len(names) or len(found.ranges) > 1
    assert total <= MAX_NAMES or parse_counter(text) is not None
    return min(len(found.ranges), 3), min(total, 3), found.ranges[0].width > 0


def _range(data: bytes) -> Hashable:
    """The first two bytes say how large the object is."""
    size = int.from_bytes(data[:2], "little")
    start, length = parse_range(data[2:].decode("latin-1"), size)
    assert 0 <= start < size
    assert 0 < length <= size - start
    return start == 0, start + length == size


def _names(data: bytes) -> Hashable:
    text = _text(data)
    kind: list[object] = []
    try:
        bucket, name = parse_uname(text)
        assert "/" not in bucket.name and ".." not in bucket.name and bucket.name
        kind.append(("uname", bool(name), bool(bucket.uuid), bool(bucket.namespace)))
        again, _ = parse_uname(bucket.uname)
        assert again == bucket
    except ApiError as error:
        kind.append(error.tcode)
    bucket_name, _, rest = text.partition("/")
    provider, _, namespace = rest.partition("/")
    try:
        kind.append(parse_bucket(bucket_name, provider, namespace).is_remote)
    except ApiError:
        kind.append("no bucket")
    try:
        check_prefix(text, "x")
    except ApiError:
        kind.append("no prefix")
    member = clean(text)
    assert ".." not in member.split("/") and not member.startswith("/") and clean(member) == member
    name = check_object_name(text)  # raises
    name.encode()
    assert name and name[0] != "/" and "//" not in name and "\0" not in name and name[-1] != "/"
    assert not {".", ".."} & set(name.split("/"))
    assert check_object_name(name) == name
    return tuple(kind)


def _values(data: bytes) -> Hashable:
    """All that read a short text, one after the other; each may refuse it in its way."""
    text = _text(data)
    kind: list[object] = [parse_bool(text)]
    for parse in (parse_duration, parse_size, parse_time, parse_mask):
        try:
            value = parse(text)
            assert -_INT64 <= value < _INT64 or parse in (parse_mask, parse_time)
            kind.append(value == 0)
        except ValueError:
            kind.append(None)
    if len(text) <= gotime.MAX_LAYOUT and "\0" not in text and text.isprintable():
        shown = gotime.formatter(text)(1_700_000_000_123_456_789)
        assert len(shown) <= 64 * max(len(text), 1)
    checksum, _, value_text = text.partition("|")
    for what in (lambda: check_value(checksum, value_text), lambda: custom_metadata.parse_lines(text.split("\n"))):
        try:
            what()
            kind.append("good")
        except ApiError as error:
            kind.append(error.status)
    return tuple(kind)


def _url(data: bytes) -> Hashable:
    """What a redirect may say."""
    origin, path = split_url("http://a:1/v1/objects/b/o?x=y")
    new, where = resolve(data.decode("latin-1"), origin, path)
    assert where.isascii() and not any(c in where for c in " \r\n\t\0"), "a target that would break a request"
    assert new.host and not any(c in new.host for c in " \r\n\t\0/")
    return new == origin, new.scheme


_VERIFIER: Final = Verifier(_SECRET)
_CLAIMS: Final[dict[str, object]] = {
    "sub": "u",
    "exp": 1 << 40,
    "aud": ["a"],
    "admin": False,
    "clusters": [{"id": "c", "perm": "123"}],
    "buckets": [{"bck": {"name": "b", "provider": "ais", "namespace": {"uuid": "c", "name": ""}}, "perm": "7"}],
}
_TOKENS: Final = (
    sign(_CLAIMS, _SECRET),
    sign({"sub": "x", "exp": 5}, _SECRET),
    sign({**_CLAIMS, "admin": True}, _SECRET.upper()),
)


def _token(data: bytes) -> Hashable:
    text = _text(data)
    key_id_of(text)
    claims = _VERIFIER.verify(text)
    assert text in _TOKENS[:1], "a token that nobody signed is accepted"
    return claims.admin


def _payload(data: bytes) -> Hashable:
    """Claims with a good signature: whoever has a key may sign anything."""
    import jwt

    token = jwt.api_jws.PyJWS().encode(data, _SECRET, "HS256")
    claims = _VERIFIER.verify(token)
    assert claims.subject and claims.expires > 0
    return claims.admin, min(len(claims.clusters), 2), min(len(claims.buckets), 2), len(claims.audience) > 0


TARGETS: Final = (
    Target(
        "template",
        _template,
        (ApiError,),
        (b"shard-{0001..0010..1}-suffix", b"a@100b@2", b"prefix-%06d-suffix", b"x{0..9}y{00..99..7}z", b"prefix*", b"*", b"%d", b"a/{1..2}/b"),
        (b"{", b"}", b"..", b"{0..9}", b"@", b"%d", b"%06d", b"%", b"*", b"-", b"+", b"\xd9\xa3", b"0" * 30, b"~/", b"/../", b"\x00", b"\xff"),
        longest=20_000,
    ),
    Target(
        "range",
        _range,
        (ApiError,),
        (b"\x10\x00bytes=0-5", b"\xff\xffbytes=-5", b"\x01\x00bytes=0-", b"\x00\x01bytes=0-1, 5-6", b"\x00\x00bytes=0-0", b"\x20\x00bytes= 1 - 2 ,,"),
        (b"bytes=", b"-", b",", b" ", b"\t", b"+", b"0-0", b"\xb2", b"99999999999999999999", b"bytes"),
    ),
    Target(
        "names",
        _names,
        (ApiError,),
        (b"ais/@#/data/a/b.tar", b"aws/@uuid12345#ns/bucket-1/x", b"a/b//c/.hidden", b"b/ais/@#ns", b"/x/y", b"\xc3\xa4/\xe4\xbd\xa0", b"~/x", b".sys-inventory/"),
        (b"/", b"//", b"..", b"../", b"/..", b"/./", b".", b"~/", b"\x00", b"\xff", b"@", b"#", b"@#", b"ais", b"s3", b"\xed\xa0\x80", b"\\", b"%2e%2e", b"a" * 70, b"n" * 1030, b"\xc2\xad", b"\xe2\x80\xae"),
        longest=9000,
    ),
    Target(
        "values",
        _values,
        (),
        (b"1h30m", b"500ms", b"-1.5us", b"10GiB", b"1.5 MB", b"2026-01-02T03:04:05.678Z", b"0001-01-01T00:00:00Z", b"02 Jan 06 15:04 MST", b"xxhash2|0123456789abcdef", b"md5|" + b"0" * 32, b"a=b\nc=d", b"18446744073709551615", b"true", b"2006-01-02T15:04:05.000000-07:00"),
        (b"h", b"ms", b"\xc2\xb5s", b"s", b".", b"-", b"+", b"GiB", b"kb", b" ", b"T", b"Z", b"+23:59", b"-99:99", b"9999-12-31", b"0000-00-00", b"=", b"\n", b"crc32c|", b"sha512|", b"none|", b"\x01", b"Monday", b"_2", b"PM", b"pm", b",000", b"\xd9\xa3", b"%", b"%n"),
    ),
    Target(
        "redirect",
        _url,
        (ValueError,),
        (b"http://127.0.0.1:8080/v1/objects/b/o?pid=x&utm=1", b"/v1/x", b"https://[::1]:443/a?b#c", b"//host/x", b"http://h:0/", b"http://u:p@h/x"),
        (b"http://", b"https://", b"ftp://", b":", b"@", b"[", b"]", b"::1", b"/", b"?", b"#", b" ", b"\r\n", b"\t", b"%", b"\xe4", b"65536", b"\\"),
    ),
    Target(
        "JWT",
        _token,
        (BadToken,),
        (*(one.encode() for one in _TOKENS), b"a.b.c", b"eyJhbGciOiJub25lIn0.e30.", b"eyJhbGciOiJIUzI1NiIsImtpZCI6MX0.e30.AAAA"),
        (b".", b"=", b"-", b"_", b"eyJhbGciOiJub25lIn0", b"eyJhbGciOiJSUzI1NiJ9", b"e30", b"AAAA", b"\xff", b"bnVsbA", b"W10"),
    ),
    Target(
        "claims of a JWT",
        _payload,
        (BadToken,),
        (
            b'{"sub":"u","exp":1099511627776,"aud":["a"],"admin":false,"clusters":[{"id":"c","perm":"123"}],"buckets":[{"bck":{"name":"b","provider":"ais","namespace":{"uuid":"c","name":""}},"perm":"7"}]}',
            b'{"sub":"u","exp":1e300,"nbf":5.5,"aud":"x"}',
            b"null",
        ),
        (b"null", b"true", b"[", b"]", b"{", b"}", b'"', b":", b",", b"1e400", b"NaN", b'"exp":', b'"aud":', b'"clusters":', b'"perm":"', b'"bck":', b"\\ud800", b"\xff", b"-1", b"[" * 300),
    ),
)  # fmt: skip
