"""Clusters learn of every change that was made, whatever fails while they are told: rights that somebody has lost must not be left with them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
from typing import TYPE_CHECKING

import pytest

from aistore.server.authn import pushing
from aistore.server.authn.service import AuthnService
from aistore.server.authn.settings import AuthnSettings, FirstAdministrator
from aistore.server.authn.tokens import Verifier
from faults import FAULTS, Faults, inject
from guarding import PASSWORD, SECRET, token
from serving import request
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Rights = dict[str, tuple[object, ...]]

LOST = token(subject="lost", lifetime=30 * 86_400)
OTHER_SECRET = "another secret, of more than 32 bytes"


class Cluster:
    """What a registered cluster was told."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.keys: dict[str, str] = {}
        """Access keys with their tokens."""
        self.times = 0
        """How often it was told those."""
        self.answers = asyncio.Event()
        self.answers.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next((line[16:] for line in head.split("\r\n") if line.startswith("content-length: ")), "0")
            body = await reader.readexactly(int(length))
            await self.answers.wait()
            self._told(head, body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    def _told(self, head: str, body: bytes) -> None:
        if "host: localhost" in head:
            return  # as the other cluster
        if head.startswith("delete /v1/tokens"):
            self.revoked |= set(json.loads(body)["tokens"])
        elif head.startswith("put /v1/access-keys"):
            self.times += 1
            self.keys = {one["id"]: one["token"] for one in json.loads(body)["keys"]}


class World:
    """An AuthN server with a user `alice`, who has the role `reader` and an access key, and a cluster that it is registered with."""

    def __init__(self, service: AuthnService, cluster: Cluster) -> None:
        self.service = service
        self.cluster = cluster
        self.key = ""

    async def __call__(self, method: str, path: str, message: object = None, bearer: str = "") -> tuple[int, bytes]:
        body = b"" if message is None else json.dumps(message).encode()
        root = token(admin=True, subject="root", secret=self.service.keys.secret)
        shown = f"Authorization: Bearer {bearer or root}\r\nConnection: close\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.service.url.rpartition(":")[2]))
        try:
            writer.write(request(method, path, body, shown))
            answer = await asyncio.wait_for(reader.read(), DEADLINE)
        finally:
            writer.close()
            await writer.wait_closed()
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head[9:12]), content

    async def prepare(self) -> None:
        role = {"name": "reader", "clusters": [{"id": "far", "perm": "1"}]}
        assert (await self("POST", "/v1/roles", role))[0] == 200
        assert (await self("POST", "/v1/clusters", {"id": "far", "urls": [self.cluster.url]}))[0] == 200
        db = self.service.database
        db.put_user("alice", "no password's hash")
        db.set_roles("alice", ["reader"])
        status, body = await self("POST", "/v1/access-keys", {"user": "alice"})
        assert status == 200
        self.key = str(json.loads(body)["id"])
        await self.make_sure()

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"call {FAULTS.hit}: the cluster is not told"
            await asyncio.sleep(0.002)

    def state(self) -> dict[str, object]:
        """What there is, without what is made by chance."""
        db = self.service.database
        return {
            "users": [(user.id, user.roles) for user in db.users()],
            "roles": [(role.name, str(role.clusters)) for role in db.roles()],
            "clusters": [
                (one.id, one.alias, str(one.urls).replace(str(self.cluster.port), "PORT")) for one in db.clusters()
            ],
            "keys": sorted((key.id == self.key, key.user) for key in db.access_keys()),
            "revoked": sorted(db.revoked().values()),
            "refused": sorted(self.service.revoked.values()),
            "settings": (
                db.meta("lifetimes"),
                str(self.service.lifetimes),
                db.meta("secret"),
                self.service.keys.secret,
            ),
        }

    def rights(self, tokens: dict[str, str]) -> Rights:
        """What these tokens grant, by access key."""
        verifier = Verifier(self.service.keys.secret)
        return {key: verifier.verify(one)[2:] for key, one in tokens.items()}

    async def make_sure(self) -> None:
        """The cluster knows what is true: the revoked tokens, and the keys that are good for something there."""
        from aistore.server.authn.access_keys import known_to

        if self.service.database.cluster("far") is None:
            return
        known = await self.service.in_thread(lambda: known_to(self.service, "far"))
        good = self.rights({key.id: key.token for key in known})
        revoked = set((await self.service.in_thread(self.service.database.revoked)).values())

        def is_told() -> bool:
            with contextlib.suppress(Exception):  # of a secret that was
                return self.rights(self.cluster.keys) == good and self.cluster.revoked >= revoked
            return False

        await self.until(is_told)


OPERATIONS: dict[str, Callable[[World], Awaitable[tuple[int, bytes]]]] = {
    "add user": lambda w: w("POST", "/v1/users", {"id": "new", "pass": "y", "roles": [{"name": "reader"}]}),
    "change user": lambda w: w("PUT", "/v1/users/alice", {"roles": [{"name": "Guest-far"}]}),
    "delete user": lambda w: w("DELETE", "/v1/users/alice"),
    "add role": lambda w: w("POST", "/v1/roles", {"name": "new", "clusters": [{"id": "far", "perm": "3"}]}),
    "change role": lambda w: w("PUT", "/v1/roles/reader", {"name": "reader", "clusters": [{"id": "far", "perm": "3"}]}),
    "delete role": lambda w: w("DELETE", "/v1/roles/reader"),
    "revoke": lambda w: w("DELETE", "/v1/tokens", {"token": LOST}, LOST),
    "add key": lambda w: w("POST", "/v1/access-keys", {"user": "alice"}),
    "delete key": lambda w: w("DELETE", f"/v1/access-keys/{w.key}"),
    "add cluster": lambda w: w("POST", "/v1/clusters", {"id": "new", "urls": [f"http://localhost:{w.cluster.port}"]}),
    "change cluster": lambda w: w("PUT", "/v1/clusters/far", {"id": "far", "alias": "called"}),
    "delete cluster": lambda w: w("DELETE", "/v1/clusters/far"),
    "configure": lambda w: w("PUT", "/v1/daemon", {"auth": {"expiration_time": "2h", "secret": OTHER_SECRET}}),
}


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    cluster = Cluster()
    await cluster.start()
    service = AuthnService(AuthnSettings(folder, port=0, secret=SECRET, first=FirstAdministrator(password=PASSWORD)))
    await service.start()
    try:
        made = World(service, cluster)
        await made.prepare()
        yield made
    finally:
        FAULTS.disarm()
        await service.stop()
        service.kill()
        await cluster.stop()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    monkeypatch.setattr(pushing, "_FIRST_PAUSE", 0.01)
    return inject(monkeypatch)


_CLUSTERS = "SELECT id, alias, urls FROM cluster ORDER BY id"
_KEYS = "SELECT * FROM access_key WHERE expires > ? ORDER BY user, created, id"
_USERS = "SELECT id, password FROM user ORDER BY id"


def test_a_change_that_could_not_be_told_at_once_is_told_without_a_restart(tmp_path: Path, faults: Faults) -> None:
    """The database cannot be read while the clusters are told: the change is answered as made, and they know of it when it can be."""

    async def go() -> None:
        async with world(tmp_path) as w:
            # In this order each one changes what the cluster has to know.
            for operation, reading in (
                ("change role", _KEYS),
                ("change user", _CLUSTERS),
                ("add key", _USERS),
                ("revoke", _CLUSTERS),
                ("delete key", _CLUSTERS),
                ("delete user", _USERS),
            ):
                faults.arm(1, number=errno.EIO, lasting=True, calls=frozenset({reading}))
                assert (await OPERATIONS[operation](w))[0] == 200, operation
                await w.until(lambda: faults.hit is not None)  # where that takes long, the answer does not wait for it
                faults.disarm()
                assert faults.hit == reading, operation
                await w.make_sure()
            assert w.cluster.keys == {} and w.cluster.revoked == {LOST}

    asyncio.run(go())


@pytest.mark.usefixtures("faults")
def test_a_cluster_that_does_not_answer_is_not_told_every_change_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait for its turn while somebody goes on making keys, and what counts would come after all of them."""
    monkeypatch.setattr(pushing, "_ANSWER_SECONDS", 0.01)

    async def go() -> None:
        async with world(tmp_path) as w:
            await w.until(lambda: not w.service.pushing._tasks)
            before = w.cluster.times
            w.cluster.answers.clear()
            for _ in range(12):
                assert (await OPERATIONS["add key"](w))[0] == 200
            w.cluster.answers.set()
            await w.make_sure()
            assert len(w.cluster.keys) == 13
            assert w.cluster.times - before == 2  # the one that was under way, and the one that waited

    asyncio.run(go())


def test_a_cluster_that_comes_back_without_a_url_is_told_nothing(tmp_path: Path, faults: Faults) -> None:
    """It was away while something changed, and then registered again as one that nobody reaches."""

    async def go() -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: failures.append(about))
        async with world(tmp_path) as w:
            await w.cluster.stop()
            assert (await OPERATIONS["delete key"](w))[0] == 200
            assert (await OPERATIONS["delete cluster"](w))[0] == 200
            assert (await w("POST", "/v1/clusters", {"id": "far"}))[0] == 200
            await w.until(lambda: not w.service.pushing._tasks)
            gc.collect()  # which tells of what nobody has looked at
        assert failures == []

    asyncio.run(go())


def test_a_login_brings_no_user_back_who_is_deleted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a password: where a hash is made anew, somebody else may have changed the user."""

    async def go() -> None:
        async with world(tmp_path) as w:
            passwords, db = w.service.passwords, w.service.database
            hash_now = passwords.hash

            async def hash_late(password: str) -> str:
                hashed = await hash_now(password)
                assert (await OPERATIONS["delete user"](w))[0] == 200
                return hashed

            db.put_user("alice", await hash_now("hers"))
            monkeypatch.setattr(passwords, "is_outdated", lambda _: True)
            monkeypatch.setattr(passwords, "hash", hash_late)
            await w("POST", "/v1/users/alice", {"password": "hers"})
            assert db.user("alice") is None

    asyncio.run(go())


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_change_is_made_or_not_and_clusters_learn_of_it(tmp_path: Path, faults: Faults, operation: str) -> None:
    """Failing each single call to the system and the database."""

    async def attempt(nth: int) -> tuple[str | None, int, dict[str, object]]:
        async with world(tmp_path / str(nth)) as w:
            before = w.state()
            if nth:
                faults.arm(nth, number=errno.EIO, lasting=False)
            status, _ = await OPERATIONS[operation](w)
            await asyncio.sleep(0)
            faults.disarm()
            after = w.state()
            await w.make_sure()
            assert (after == before) == (status != 200), f"{operation}, call {nth} ({faults.hit}): {status}"
            return faults.hit, status, after

    _, status, good = asyncio.run(attempt(0))
    assert status == 200
    faults.hit = None
    nth = 0
    while True:
        nth += 1
        hit, status, after = asyncio.run(attempt(nth))
        if status == 200:
            assert after == good, f"call {nth} ({hit})"
        if hit is None:
            break
    assert nth > 1
