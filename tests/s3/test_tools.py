"""rclone and s3cmd work by pointing them at `/s3`."""

from __future__ import annotations

import json
import random
import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files small and large, with names that need escapes."""
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    made = random.Random(3)
    for n in range(12):
        (root / "a" / f"{n}").write_bytes(made.randbytes(n * 1500))
    (root / "a" / "b" / "ü & ö.bin").write_bytes(made.randbytes(12 << 20))
    (root / "empty").touch()
    return root


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_rclone_copies_syncs_and_checks(rclone: Callable[..., str], tree: Path, tmp_path: Path) -> None:
    where = f"ais:rclone-{uuid.uuid4().hex[:12]}"
    parts = ("--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M")
    rclone("mkdir", where)
    rclone("copy", str(tree), f"{where}/to", *parts)
    listed = json.loads(rclone("lsjson", f"{where}/to", "-R", "--files-only"))
    assert {one["Path"]: one["Size"] for one in listed} == {name: len(data) for name, data in files(tree).items()}
    assert "0 differences found" in rclone("check", "--download", str(tree), f"{where}/to")
    rclone("copy", f"{where}/to", str(tmp_path / "back"))
    assert files(tmp_path / "back") == files(tree)
    (tree / "a" / "3").unlink()
    (tree / "a" / "4").write_bytes(b"changed")
    rclone("sync", str(tree), f"{where}/to", *parts)
    assert "There was nothing to transfer" in rclone("sync", str(tree), f"{where}/to", "-v", *parts)
    rclone("copyto", f"{where}/to/a/b", f"{where}/copy")  # by the server
    rclone("sync", f"{where}/to", str(tmp_path / "back"))
    assert files(tmp_path / "back") == files(tree)
    assert "0 differences found" in rclone("check", "--download", str(tree / "a" / "b"), f"{where}/copy")
    rclone("purge", where)
    assert where.partition(":")[2] not in rclone("lsd", "ais:")


def test_s3cmd_puts_gets_lists_syncs_and_deletes(s3cmd: Callable[..., str], tree: Path, tmp_path: Path) -> None:
    where = f"s3://s3cmd-{uuid.uuid4().hex[:12]}"
    s3cmd("mb", where)
    s3cmd("put", str(tree / "a" / "5"), f"{where}/k/five")
    assert f"{where}/k/" in s3cmd("ls", where)
    assert f"7500  {where}/k/five".split() == s3cmd("ls", "-r", where).split()[2:]
    s3cmd("get", f"{where}/k/five", str(tmp_path / "five"))
    assert (tmp_path / "five").read_bytes() == (tree / "a" / "5").read_bytes()
    s3cmd("sync", "--multipart-chunk-size-mb=5", f"{tree}/", f"{where}/tree/")
    assert "upload:" not in s3cmd("sync", "--multipart-chunk-size-mb=5", f"{tree}/", f"{where}/tree/")
    (tmp_path / "back").mkdir()
    s3cmd("sync", f"{where}/tree/", f"{tmp_path / 'back'}/")
    assert files(tmp_path / "back") == files(tree)
    s3cmd("cp", f"{where}/k/five", f"{where}/copy")
    s3cmd("info", f"{where}/copy")
    s3cmd("del", f"{where}/k/five")
    s3cmd("del", "--recursive", "--force", where)
    assert s3cmd("ls", "-r", where) == ""
    s3cmd("rb", where)
