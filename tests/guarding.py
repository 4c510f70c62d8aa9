"""An AuthN server of a test's own, clusters that ask for its tokens, and tokens made without it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from aistore.server.authn.tokens import sign
from calling import Caller, Got

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

SECRET = "a secret of tests, of more than 32 bytes"
PASSWORD = "admin"  # what the recorded scenarios log in with

# The command, with hashes of passwords that cost little: one in earnest takes 0.2 s of a processor, and the tests log in a thousand times.
# Changes are answered when the clusters know of them, however long a busy machine takes for that.
_COMMAND = """
import functools, sys, argon2
argon2.PasswordHasher = functools.partial(argon2.PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
from aistore.server.authn import pushing
pushing._ANSWER_SECONDS = 60
from aistore.cli.main import main
sys.exit(main())
"""


@contextlib.contextmanager
def ais_serve(folder: Path, *options: str, **environment: str) -> Iterator[dict[str, str]]:
    """`ais serve` on a folder while the block lasts, without ETL; what it says of itself, by the first word of each line."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("AIS_")}
    words = [sys.executable, "-c", _COMMAND, "serve", str(folder), "--port", "0", "--no-etl", *options]
    with subprocess.Popen(words, env={**inherited, **environment}, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said: dict[str, str] = {}
            for line in server.stdout:
                said[line.split()[0]] = line.split()[-1]
                if line.startswith("Stop it"):
                    break
            yield said
        finally:
            server.terminate()


class AuthnServer:
    """`ais authn serve` on a folder. `secret` empty: it signs with keys of its own."""

    def __init__(
        self, folder: Path, *options: str, secret: str = SECRET, password: str = PASSWORD, port: int = 0
    ) -> None:
        self.folder = folder
        environment = {name: text for name, text in os.environ.items() if not name.startswith("AIS_")}
        environment |= {
            name: text for name, text in (("AIS_AUTHN_SECRET_KEY", secret), ("AIS_AUTHN_SU_PASS", password)) if text
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, "authn", "serve", str(folder), "--port", str(port), *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = ""
        for line in self.process.stdout:
            if line.lstrip().startswith("url "):
                self.url = line.split()[1]
            if line.startswith("Stop it"):
                break

    @property
    def said(self) -> str:
        """What it said when it did not start."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> None:
        """Have it end."""
        self.process.terminate()
        self.process.wait(60)
        self._close()

    def _close(self) -> None:
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def token(
    uuid: str = "",
    on_cluster: int | None = None,
    on_buckets: Mapping[str, int] | None = None,
    *,
    subject: str = "alice",
    admin: bool = False,
    lifetime: int = 600,
    secret: str = SECRET,
    **more: object,
) -> str:
    """A token as the AuthN server would give it, for rights on the cluster `uuid` and on native buckets of it."""
    now = int(time.time())
    claims: dict[str, object] = {
        "admin": admin,
        "clusters": None if on_cluster is None else [{"id": uuid, "perm": str(on_cluster)}],
        "sub": subject,
        "exp": now + lifetime,
        "iat": now,
        **more,
    }
    if on_buckets:
        claims["buckets"] = [
            {"bck": {"name": name, "provider": "ais", "namespace": {"uuid": uuid, "name": ""}}, "perm": str(mask)}
            for name, mask in on_buckets.items()
        ]
    return sign({name: value for name, value in claims.items() if value is not ...}, secret)


class As(Caller):
    """Calls of somebody with a token (None: without one), which redirects lose, as they do for most clients."""

    def __init__(self, url: str, bearer: str | None) -> None:
        super().__init__(url)
        self._bearer = bearer

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Got:
        shown = {} if self._bearer is None else {"Authorization": f"Bearer {self._bearer}"}
        return super().__call__(method, path, body, {**shown, **(headers or {})})


class Guarded(NamedTuple):
    """A cluster that asks for tokens."""

    url: str
    uuid: str
    folder: Path

    def having(self, on_cluster: int | None = None, on_buckets: Mapping[str, int] | None = None) -> As:
        """Somebody with these rights."""
        return As(self.url, token(self.uuid, on_cluster, on_buckets))

    @property
    def admin(self) -> As:
        """An administrator."""
        return As(self.url, token(admin=True, subject="root"))
