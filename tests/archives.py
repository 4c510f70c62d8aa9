"""Archives to test with, made by the standard library, and what it reads in ours."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import lz4.frame

if TYPE_CHECKING:
    from collections.abc import Iterable

EXTENSIONS = (".tar", ".tgz", ".tar.gz", ".tar.lz4", ".zip")
Members = list[tuple[str, bytes]]
MEMBERS: Members = [
    ("a.txt", b"alpha"),
    ("dir/b.jpg", b"bee" * 50_000),
    ("dir/b.cls", b"7"),
    ("dir/c.jpg", b"sea"),
    ("n" * 300, b"a name of two headers"),
    ("caf\u00e9/\u4f60\u597d", b"not ASCII"),
    ("empty", b""),
]


def tar(members: Iterable[tuple[str, bytes]] = MEMBERS, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(members: Iterable[tuple[str, bytes]] = MEMBERS, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def packed(extension: str, members: Iterable[tuple[str, bytes]] = MEMBERS) -> bytes:
    """An archive of the format that an extension says."""
    if extension == ".zip":
        return zipped(members)
    if extension == ".tar":
        return tar(members)
    if extension == ".tar.lz4":
        packed: bytes = lz4.frame.compress(tar(members))
        return packed
    return gzip.compress(tar(members), 1)


def unpacked(extension: str, data: bytes) -> Members:
    """The regular members of an archive, in its order."""
    if extension == ".zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            return [(info.filename, archive.read(info)) for info in archive.infolist()]
    if extension == ".tar.lz4":
        data = lz4.frame.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        found = []
        for info in opened:
            file = opened.extractfile(info)
            if file is not None:
                found.append((info.name, file.read()))
        return found
