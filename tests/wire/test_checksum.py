from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistore.wire.checksum import DIGITS, new_hasher
from aistore.wire.crc32c import Crc32c


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        ("xxhash", b"", "ef46db3751d8e999"),
        ("xxhash2", b"abc", "44bc2cf5ad770999"),
        ("xxhash2", b"hello", "26c7827d889f6da3"),
        ("crc32c", b"123456789", "e3069283"),
        ("crc32c", b"abc", "364b3fb7"),
        ("crc32c", b"", "00000000"),
        ("md5", b"new", "22af645d1859cb5ca6da0c484f1f37ea"),
        ("sha256", b"new", "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"),
    ],
)
def test_vectors(kind: str, data: bytes, value: str) -> None:
    hasher = new_hasher(kind)
    assert hasher is not None
    hasher.update(data)
    assert hasher.hexdigest() == value


def test_every_type_has_its_width() -> None:
    for kind, digits in DIGITS.items():
        hasher = new_hasher(kind)
        assert hasher is not None
        assert len(hasher.hexdigest()) == digits
    assert new_hasher("none") is None
    with pytest.raises(ValueError, match="unsupported type"):
        new_hasher("sha1")


def bytewise(data: bytes) -> str:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return f"{crc ^ 0xFFFFFFFF:08x}"


@settings(max_examples=20)
@given(st.integers(0, 40_000), st.integers(0, 255), st.lists(st.integers(0, 40_000), max_size=4))
def test_crc32c_of_pieces_of_any_size(size: int, seed: int, cuts: list[int]) -> None:
    data = bytes((seed + i * i) & 0xFF for i in range(size))
    crc, at = Crc32c(), 0
    for cut in [*sorted(min(c, size) for c in cuts), size]:
        crc.update(memoryview(data)[at:cut])
        at = cut
    assert crc.hexdigest() == bytewise(data)
    assert crc.digest().hex() == crc.hexdigest()


def test_crc32c_of_more_than_a_piece() -> None:
    data = bytes(range(256)) * 8193
    whole, parts = Crc32c(), Crc32c()
    whole.update(data)
    for at in range(0, len(data), 10_000):
        parts.update(data[at : at + 10_000])
    assert whole.hexdigest() == parts.hexdigest()
