"""All kinds of writes at once, each noted with when it began and when it was acknowledged: what may be there after a cut at any moment."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from calling import where
from guarding import PASSWORD, As, token

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from calling import Caller, Got

DAMAGED = 410
"""The status with which content is refused."""

DEFAULT = "2h0m"
"""What the changed part of the configuration is at first."""

State: TypeAlias = "Hashable"
"""What something is; None: it is not there."""

REFUSED = "refused"
"""The state of an object whose content is not what it was, which is what reading it says."""


class Event:
    """A change of one thing."""

    __slots__ = ("began", "ended", "state")

    def __init__(self, began: int, state: State) -> None:
        self.began = began
        self.ended: int | None = None
        self.state = state


class History:
    """What things became and when. Each belongs to one thread, which changes it again when the last change was acknowledged."""

    def __init__(self) -> None:
        self._events: dict[str, list[Event]] = {}

    def now(self, thing: str) -> State:
        """What it became last."""
        events = self._events.get(thing)
        return events[-1].state if events else None

    @contextmanager
    def becomes(self, **states: State) -> Iterator[None]:
        """Things become something; it is acknowledged when the block ends."""
        events = [self._events.setdefault(thing, []) for thing in states]
        began = time.monotonic_ns()
        for one, state in zip(events, states.values(), strict=True):
            one.append(Event(began, state))
        yield
        ended = time.monotonic_ns()
        for one in events:
            one[-1].ended = ended

    def has_become(self, thing: str, state: State, began: int) -> None:
        """Something was acknowledged of which nobody knew before; it began at this time."""
        event = Event(began, state)
        event.ended = time.monotonic_ns()
        self._events.setdefault(thing, []).append(event)

    def possible(self, thing: str, moment: int) -> set[State]:
        """What it may be after a cut: what was acknowledged last, or what was under way."""
        found: set[State] = {None}
        for event in self._events[thing]:
            if event.began >= moment:
                break
            if event.ended is not None and event.ended < moment:
                found = {event.state}
            else:
                found.add(event.state)
        return found

    def ever(self, thing: str, moment: int) -> set[State]:
        """What it was at any time before."""
        return {None, *(event.state for event in self._events[thing] if event.began < moment)}

    def acknowledged(self, moment: int) -> int:
        """How many changes were acknowledged before a moment."""
        return sum(
            event.ended is not None and event.ended < moment
            for events in list(self._events.values())
            for event in list(events)
        )

    def things(self) -> list[str]:
        """All of them."""
        return list(self._events)


class Worker(threading.Thread):
    """Changes things of its own until it is told to stop."""

    def __init__(self, name: str, url: str, history: History, stop: threading.Event, seed: int) -> None:
        super().__init__(name=name)
        self.url = url
        self.history = history
        self.stop = stop
        self.random = random.Random(f"{name} {seed}")
        self.wrong: BaseException | None = None

    def run(self) -> None:
        try:
            with As(self.url, token(admin=True, subject="root")) as call:
                self.prepare(call)
                while not self.stop.is_set():
                    self.act(call)
        except BaseException as error:
            self.wrong = error

    def prepare(self, call: Caller) -> None:
        """Make what it needs."""

    def act(self, call: Caller) -> None:
        """Change something."""
        raise NotImplementedError

    @contextmanager
    def becomes(self, **states: State) -> Iterator[None]:
        with self.history.becomes(**states):
            yield


def good(got: Got) -> Got:
    assert got.status == 200, f"{got.status} {got.body[:300]!r}"
    return got


class Objects(Worker):
    """Puts, overwrites, deletes, describes, copies, renames and appends to objects, and uploads them in parts."""

    sizes: tuple[int, ...] = ()
    keys = 6

    def prepare(self, call: Caller) -> None:
        with self.becomes(**{f"bucket {self.name}": True}):
            good(call.action("POST", f"/v1/buckets/{self.name}", "create-bck"))

    def content(self) -> bytes:
        size = self.random.choice(self.sizes)
        stamp = b"%s %d;" % (self.name.encode(), self.random.randrange(1 << 60))
        return (stamp * (size // len(stamp) + 1))[:size]

    def act(self, call: Caller) -> None:
        name = f"k{self.random.randrange(self.keys)}"
        thing = f"object {self.name} {name}"
        there = self.history.now(thing)
        dice = self.random.random()
        if there is None or dice < 0.45:
            self.put(call, thing, name)
        elif dice < 0.55:
            with self.becomes(**{thing: None}):
                good(call.delete(self.name, name))
        elif dice < 0.65:
            pairs = {"k": str(self.random.randrange(1000))}
            assert isinstance(there, tuple)
            with self.becomes(**{thing: (there[0], pairs["k"])}):
                good(call("PATCH", where(self.name, name), json.dumps({"value": pairs}).encode()))
        elif dice < 0.75:
            other = f"copy of {name}"
            assert isinstance(there, tuple)
            before = self.history.now(f"object {self.name} {other}")
            if isinstance(before, tuple) and before[0] == there[0]:
                return  # of equal content, nothing is copied
            with self.becomes(**{f"object {self.name} {other}": there}):
                target = quote(f"ais/@#/{self.name}/{other}", safe="")
                good(call("PUT", f"{where(self.name, name)}?object_to={target}"))
        elif dice < 0.85:
            other = f"new name of {name}"
            with self.becomes(**{thing: None, f"object {self.name} {other}": there}):
                body = json.dumps({"action": "rename-obj", "name": other}).encode()
                good(call("POST", where(self.name, name), body))
        elif dice < 0.95:
            self.upload(call, thing, name)
        else:
            self.append(call)

    def put(self, call: Caller, thing: str, name: str) -> None:
        content = self.content()
        there = self.history.now(thing)
        custom = there[1] if isinstance(there, tuple) else ""
        with self.becomes(**{thing: (content, custom)}):
            good(call.put(self.name, name, content))

    def upload(self, call: Caller, thing: str, name: str) -> None:
        body = json.dumps({"action": "mpt-upload"}).encode()
        upload = good(call("POST", where(self.name, name), body)).body.decode()
        parts = []
        kept = f"upload {self.name} {name}"
        for number in (1, 2, 3):
            content = self.content() or b"x"
            path = f"{where(self.name, name)}?uploadId={upload}&partNumber={number}"
            parts.append(content)
            with self.becomes(**{kept: (upload, *parts)}):
                good(call("PUT", path, content))
        if self.random.random() < 0.3:
            return  # it is completed after the cut
        value = [{"part-number": number} for number in (1, 2, 3)]
        body = json.dumps({"action": "mpt-complete", "value": value}).encode()
        with self.becomes(**{thing: (b"".join(parts), ""), kept: None}):
            good(call("POST", f"{where(self.name, name)}?uploadId={upload}", body))

    def append(self, call: Caller) -> None:
        """To an object that nothing else is done with; half of the sessions stay open."""
        name = f"log{self.random.randrange(3)}"
        thing, session = f"object {self.name} {name}", f"session {self.name} {name}"
        there = self.history.now(thing)
        content = there[0] if isinstance(there, tuple) else b""
        assert isinstance(content, bytes)
        handle = ""
        for _ in range(self.random.randrange(1, 4)):
            piece = self.content()
            content += piece
            path = f"{where(self.name, name)}?append_type=append&append_handle={quote(handle)}"
            handle = good(call("PUT", path, piece)).headers["Ais-Append-Handle"]
            # Only who has the handle can go on, and until then the last one has to do.
            with self.becomes(**{session: (handle, content)}):
                pass
        if self.random.random() < 0.5 and len(content) < 1 << 20:
            with self.becomes(**{thing: (content, ""), session: None}):
                good(call("PUT", f"{where(self.name, name)}?append_type=flush&append_handle={quote(handle)}"))


class SmallObjects(Objects):
    """In the catalog."""

    sizes = (0, 100, 3_000, 8_000)


class LargeObjects(Objects):
    """In files."""

    sizes = (9_000, 40_000, 300_000)


class Buckets(Worker):
    """Makes, renames and destroys buckets, and changes their properties and the configuration."""

    def prepare(self, call: Caller) -> None:
        with self.becomes(**{"name of a bucket": "name-a"}):
            good(call.action("POST", "/v1/buckets/name-a", "create-bck"))
        with self.becomes(**{"object in a bucket that is renamed": b"content"}):
            good(call.put("name-a", "o", b"content"))
        with self.becomes(**{"bucket with-props": True}):
            good(call.action("POST", "/v1/buckets/with-props", "create-bck"))

    def act(self, call: Caller) -> None:
        dice = self.random.random()
        if dice < 0.3:
            name = f"made-{self.random.randrange(3)}"
            there = self.history.now(f"bucket {name}")
            with self.becomes(**{f"bucket {name}": None if there else True}):
                method, action = ("DELETE", "destroy-bck") if there else ("POST", "create-bck")
                good(call.action(method, f"/v1/buckets/{name}", action))
        elif dice < 0.5:
            old = str(self.history.now("name of a bucket"))
            new = "name-b" if old == "name-a" else "name-a"
            began = time.monotonic_ns()
            with self.becomes(**{"name of a bucket": new}):
                target = quote(f"ais/@#/{new}/", safe="")
                job = good(call.action("POST", f"/v1/buckets/{old}?bck_to={target}", "move-bck")).body.decode()
            self.history.has_become(f"job {job}", True, began)
        elif dice < 0.8:
            size = self.random.randrange(1, 1000)
            with self.becomes(**{"property with-props": size}):
                value = {"ec": {"objsize_limit": size}}
                good(call.action("PATCH", "/v1/buckets/with-props", "set-bprops", value))
        else:
            minutes = self.random.randrange(1, 60)
            with self.becomes(configuration=f"{minutes}m"):
                good(call("PUT", f"/v1/cluster/set-config?lru.dont_evict_time={minutes}m"))


class Revocations(Worker):
    """Has the cluster refuse tokens."""

    def act(self, call: Caller) -> None:
        number = self.random.randrange(1 << 40)
        with self.becomes(**{f"revoked {number}": True}):
            body = json.dumps({"tokens": [token_of(number)]}).encode()
            good(call("DELETE", "/v1/tokens", body))
        self.stop.wait(0.05)


def token_of(number: int) -> str:
    """The token of this number, the same each time."""
    return token(admin=True, subject=f"u{number}", exp=4_000_000_000, iat=0)


class Users(Worker):
    """Makes and deletes users and roles of the AuthN server."""

    def prepare(self, call: Caller) -> None:
        answer = good(call("POST", "/v1/users/admin", json.dumps({"password": PASSWORD}).encode()))
        self.bearer = json.loads(answer.body)["token"]

    def act(self, call: Caller) -> None:
        headers = {"Authorization": f"Bearer {self.bearer}"}
        number = self.random.randrange(8)
        thing = f"role r{number}"
        there = self.history.now(thing)
        if there and self.random.random() < 0.3:
            with self.becomes(**{thing: None}):
                good(call("DELETE", f"/v1/roles/r{number}", None, headers))
        elif there is None:
            with self.becomes(**{thing: "new"}):
                good(call("POST", "/v1/roles", json.dumps({"name": f"r{number}", "desc": "new"}).encode(), headers))
        else:
            told = f"d{self.random.randrange(1000)}"
            with self.becomes(**{thing: told}):
                good(call("PUT", f"/v1/roles/r{number}", json.dumps({"desc": told}).encode(), headers))
        if self.random.random() < 0.1:
            number = self.random.randrange(1 << 40)
            with self.becomes(**{f"user u{number}": True}):
                body = json.dumps({"id": f"u{number}", "pass": "password"}).encode()
                good(call("POST", "/v1/users", body, headers))


@contextmanager
def under_load(cluster: str, authn: str, seed: int) -> Iterator[History]:
    """Load while the block lasts."""
    history, stop = History(), threading.Event()
    kinds: tuple[tuple[type[Worker], str, str], ...] = (
        (SmallObjects, "small", cluster),
        (SmallObjects, "small2", cluster),
        (LargeObjects, "large", cluster),
        (Buckets, "buckets", cluster),
        (Revocations, "revocations", cluster),
        (Users, "users", authn),
    )
    workers = [kind(name, url, history, stop, seed) for kind, name, url in kinds]
    for worker in workers:
        worker.start()
    try:
        yield history
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    for worker in workers:
        if worker.wrong is not None:
            raise worker.wrong


class CatalogDamaged(Exception):
    """A server says so."""


class Found:
    """What is there after a cut."""

    def __init__(self, cluster: str, authn: str) -> None:
        self._call = As(cluster, token(admin=True, subject="root"))
        self._authn = As(authn, None)
        answer = good(self._authn("POST", "/v1/users/admin", json.dumps({"password": PASSWORD}).encode()))
        self._bearer = {"Authorization": f"Bearer {json.loads(answer.body)['token']}"}
        self._cluster = cluster
        self.refused: set[str] = set()
        """Objects and uploads (`upload ID`) that are there, and of which the server says that their content is not."""
        self._kinds: dict[str, Callable[[str], State]] = {
            "object": self._object, "bucket": self._bucket, "name": self._name, "property": self._property,
            "configuration": self._configuration, "job": self._job, "revoked": self._revoked, "role": self._role, "user": self._user,
        }  # fmt: skip

    def close(self) -> None:
        for call in (self._call, self._authn):
            call.__exit__(None, None, None)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Got:
        """Call the cluster. Raises `CatalogDamaged`."""
        got = self._call(method, path, body)
        if got.status == 500 and b"database disk image is malformed" in got.body:
            raise CatalogDamaged(path)
        return got

    def state(self, thing: str, possible: set[State]) -> State:
        """What a thing is. Of uploads and sessions, what they should be if that is what comes of them. Raises `CatalogDamaged`."""
        kind, _, name = thing.partition(" ")
        if kind == "upload":
            return self._upload(name, possible)
        if kind == "session":
            return self._session(name, possible)
        return self._kinds[kind](name)

    def _object(self, name: str) -> State:
        if name == "in a bucket that is renamed":
            found = [self._ask("GET", where(bucket, "o")) for bucket in ("name-a", "name-b")]
            contents = [got.body for got in found if got.status == 200]
            assert len(contents) <= 1
            return contents[0] if contents else None
        bucket, _, key = name.partition(" ")
        try:
            got = self._ask("GET", where(bucket, key))
        except (OSError, HTTPException):  # what was wrong was found while it was sent: from then on, it is told at once
            got = self._ask("GET", where(bucket, key))
            assert got.status == DAMAGED, f"{got.status} for what broke off before"
        self.refused.discard(f"object {name}")
        if got.status == 404:
            return None
        if got.status == DAMAGED:
            self.refused.add(f"object {name}")
            return REFUSED
        good(got)
        pairs = dict(line.split("=", 1) for line in got.headers.get_all("Ais-Custom-Md") or [])
        return (got.body, pairs.get("k", ""))

    def _bucket(self, name: str) -> State:
        return True if self._ask("HEAD", f"/v1/buckets/{name}").status == 200 else None

    def _name(self, _: str) -> State:
        there = [name for name in ("name-a", "name-b") if self._bucket(name)]
        assert len(there) <= 1, "a bucket has two names"
        return there[0] if there else None

    def _property(self, name: str) -> State:
        got = self._ask("HEAD", f"/v1/buckets/{name}")
        if got.status != 200:
            return None
        size: State = json.loads(got.headers["Ais-Bucket-Props"])["ec"]["objsize_limit"]
        return size

    def _configuration(self, _: str) -> State:
        document = json.loads(good(self._ask("GET", "/v1/cluster?what=cluster_config")).body)
        told: State = document["lru"]["dont_evict_time"]
        return None if told == DEFAULT else told

    def _job(self, job: str) -> State:
        got = self._ask("GET", "/v1/cluster?what=status", json.dumps({"id": job}).encode())
        return True if got.status == 200 else None

    def _revoked(self, number: str) -> State:
        with As(self._cluster, token_of(int(number))) as call:
            return True if call("GET", "/v1/cluster?what=smap").status == 401 else None

    def _role(self, name: str) -> State:
        got = self._authn("GET", f"/v1/roles/{name}", None, self._bearer)
        return None if got.status == 404 else json.loads(good(got).body)["desc"]

    def _user(self, name: str) -> State:
        return True if self._authn("GET", f"/v1/users/{name}", None, self._bearer).status == 200 else None

    def _upload(self, name: str, possible: set[State]) -> State:
        """The largest set of parts that may be there, and has to be if it is the only one, can be completed; so can those of other uploads."""
        states = sorted((state for state in possible if isinstance(state, tuple)), key=len, reverse=True)
        bucket, _, key = name.partition(" ")
        completed: State = None
        for state in states:
            upload, *parts = state
            value = [{"part-number": number} for number in range(1, len(parts) + 1)]
            body = json.dumps({"action": "mpt-complete", "value": value}).encode()
            got = self._ask("POST", f"{where(bucket, key)}?uploadId={upload}", body)
            if got.status == 200:
                found = self._object(name)
                assert found == (b"".join(parts), ""), (
                    f"an upload of {list(map(len, parts))} bytes has become {found!r:.99}"
                )
                completed = completed or state
            elif got.status == DAMAGED or b"no chunks" in got.body:  # a part is lost, or it has none (any more)
                self.refused.add(f"upload {upload}")
            else:  # there is no such upload, or it has other parts
                assert got.status in (400, 404), f"{got.status} {got.body[:300]!r}"
        return completed

    def _session(self, name: str, possible: set[State]) -> State:
        bucket, _, key = name.partition(" ")
        for state in possible:
            if isinstance(state, tuple):
                handle, content = state
                before = self._object(name)
                got = self._ask("PUT", f"{where(bucket, key)}?append_type=flush&append_handle={quote(handle)}")
                assert got.status in (200, 404, DAMAGED), f"{got.status} {got.body[:300]!r}"
                after = self._object(name)
                if after == (content, ""):
                    return state
                assert after == before, f"a session of {len(content)} bytes has become {after!r:.99}"
        return None
