"""Transformers that are given files by their names: they read them, and do no harm to what is stored."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aistore.server.etl.source import Source
from calling import Caller
from etl_rest import Etl, framework, has_namespaces, payload_of
from store_truth import make_bucket, opened, upload
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_NAME = {"ETL_DIRECT_FQN": "true"}
CONTENT = b"content " * 20_000


def careless() -> str:
    """The payload of one that writes into the file that it is given, in ways that programs do; says what came of it."""

    class Careless(framework("HTTPMultiThreadedServer")):  # type: ignore[misc]  # the framework is found at run time
        def transform(self, data: Any, path: str, etl_args: str) -> bytes:
            import json
            import os

            said = []
            for how in ("r+b", "wb", "ab"):
                try:
                    with open(data, how) as file:  # noqa: PTH123
                        file.write(b"damaged")
                    said.append("written")
                except OSError as error:
                    said.append(type(error).__name__)
            try:
                os.truncate(data, 3)
                said.append("written")
            except OSError as error:
                said.append(type(error).__name__)
            return json.dumps(said).encode()

    return payload_of(Careless)


def ruthless() -> str:
    """The payload of one that first takes away what keeps it from writing."""

    class Ruthless(framework("HTTPMultiThreadedServer")):  # type: ignore[misc]  # the framework is found at run time
        def transform(self, data: Any, path: str, etl_args: str) -> bytes:
            import ctypes
            import os

            if os.geteuid():
                os.chmod(data, 0o600)  # noqa: PTH101
            else:
                objects = os.path.dirname(os.path.dirname(data))  # noqa: PTH120
                ctypes.CDLL(None).umount2(objects.encode(), 2)
            with open(data, "r+b") as file:  # noqa: PTH123
                file.write(b"damaged")
            print("wrote into it", flush=True)
            if etl_args == "raise":
                raise ValueError("too late")
            return b"y" * (3_000_000 if etl_args == "large" else 3)

    return payload_of(Ruthless)


def unharmed(call: Caller, bucket: str) -> bool:
    return all(call.get(bucket, name).body == CONTENT for name in ("big", "copy"))


@pytest.fixture
def stored(etl: Etl, src: str) -> str:
    """A bucket with an object, and a copy that shares its content."""
    assert etl.call.put(src, "big", CONTENT).status == 200
    assert etl.call("PUT", f"/v1/objects/{src}/big?object_to=ais%2F%40%23%2F{src}%2Fcopy").status == 200
    return src


def test_what_it_writes_into_the_file_goes_nowhere(etl: Etl, stored: str) -> None:
    etl.started(careless(), env=BY_NAME)
    for _ in range(2):
        assert len(json.loads(etl.get(stored, "big").body)) == 4
    assert unharmed(etl.call, stored)
    assert etl.wait(etl.bucket(stored, f"{stored}-dst"))["err"] == ""
    assert unharmed(etl.call, stored)
    assert etl.stage == "Running"


@pytest.mark.parametrize("how", ["", "raise", "large"])
def test_one_that_damages_content_all_the_same_is_told_of_and_ended(etl: Etl, stored: str, how: str) -> None:
    etl.started(ruthless(), env=BY_NAME)
    if os.geteuid() == 0 and not has_namespaces():
        pytest.skip("it would be given a copy")
    got = etl.copy(f"{stored}/big", f"{stored}/made", f"&etl_args={how}")
    assert got.status == 400
    message = str(got.error["message"])
    assert f"has written into the file that it was to read: ais://{stored}/big is damaged" in message
    assert "wrote into it" in message
    assert etl.call.get(stored, "made").status == 404
    until(lambda: etl.stage == "Aborted")
    assert etl.call.put(stored, "big", CONTENT).status == 200
    assert etl.call.get(stored, "big").body == CONTENT


@contextmanager
def without_mounts(folder: Path) -> Iterator[str]:
    """URL of a server of root that may not mount, as in most containers."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can give this up")
    lowered = ["setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin"]
    command = [*lowered, sys.executable, "-m", "aistore.cli.main", "serve", str(folder / "data"), "--port", "0"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        yield next(re.findall(r"http\S+", line)[0] for line in serving.stdout if line.strip().startswith("url"))
    finally:
        serving.terminate()
        serving.communicate()


def test_root_that_cannot_be_kept_from_writing_is_given_a_copy(tmp_path: Path) -> None:
    with without_mounts(tmp_path) as url, Caller(url) as call, Etl(call) as etl:
        call.make_bucket("src")
        assert call.put("src", "big", CONTENT).status == 200
        assert call("PUT", "/v1/objects/src/big?object_to=ais%2F%40%23%2Fsrc%2Fcopy").status == 200
        etl.started(careless(), env=BY_NAME)
        assert json.loads(etl.get("src", "big").body) == ["written"] * 4
        assert unharmed(call, "src")


@pytest.mark.parametrize("broken", [None, "link", "chmod", "copy_file_range"])
def test_a_file_system_that_cannot_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    """The transformer gets the content, as a link that cannot be written to or as a copy, and the content stays as it is."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "not on this file system")

    async def exposed(link: bool) -> tuple[bytes, int]:
        async with opened(tmp_path / f"store-{link}") as store:
            bucket = await make_bucket(store)
            await store.put(bucket, "dir/name", await upload(store, CONTENT), "none", "")
            row = store.lookup(bucket, "dir/name")
            assert row is not None
            source = await Source.open(store, bucket, row)
            assert source is not None
            folder = tmp_path / f"objects-{link}"
            folder.mkdir()
            path = await source.expose(store, folder, "dir/name", link=link)
            assert path is not None
            assert path.name == "name"
            seen, links = path.read_bytes(), path.stat().st_nlink
            if links > 1:
                assert path.stat().st_mode & 0o222 == 0
            assert not source.is_damaged
            source.close()
            assert list(folder.iterdir()) == []
            assert store.content.path(row.content).read_bytes() == CONTENT
            return seen, links

    if broken is not None:
        monkeypatch.setattr(os, broken, refuse, raising=False)
        if broken == "chmod":  # that of 3.10 kept the function of its own
            monkeypatch.setattr(Path, "chmod", refuse)
    assert asyncio.run(exposed(link=True)) == (CONTENT, 1 if broken in ("link", "chmod") else 2)
    assert asyncio.run(exposed(link=False)) == (CONTENT, 1)
