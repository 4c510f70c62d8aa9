"""What an AuthN server keeps: users, roles, clusters, revoked tokens, keys and settings, in one SQLite file.

Every change is on the disk when its method returns. Methods block and are called in one thread.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from aistore.server.folder import AUTHN_DATABASE
from aistore.wire.authn import ADMIN_ROLE, BucketAcl, ClusterAcl, Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Database", "StoredKey", "StoredUser"]

_FORMAT: Final = 2
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE user (id TEXT PRIMARY KEY, password TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE role (name TEXT PRIMARY KEY, descr TEXT NOT NULL, clusters TEXT NOT NULL, buckets TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE user_role (
    user TEXT NOT NULL REFERENCES user ON DELETE CASCADE, position INTEGER NOT NULL,
    role TEXT NOT NULL REFERENCES role ON DELETE CASCADE, PRIMARY KEY (user, role)) WITHOUT ROWID;
CREATE TABLE cluster (id TEXT PRIMARY KEY, alias TEXT NOT NULL, urls TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE revoked (digest BLOB PRIMARY KEY, token TEXT NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE key (number INTEGER PRIMARY KEY, private TEXT NOT NULL);
"""
# What later formats added, by format.
_ADDED: Final = {
    2: """
CREATE TABLE access_key (
    id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES user ON DELETE CASCADE, secret TEXT NOT NULL,
    created INTEGER NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
""",
}
_decode_clusters = msgspec.json.Decoder(list[ClusterAcl] | None).decode
_decode_buckets = msgspec.json.Decoder(list[BucketAcl] | None).decode
_decode_urls = msgspec.json.Decoder(list[str]).decode
_encode = msgspec.json.encode


class StoredUser(NamedTuple):
    """A user with the names of its roles, in their order."""

    id: str
    password: str
    roles: list[str]


class StoredKey(NamedTuple):
    """An access key with its secret; times in Unix seconds."""

    id: str
    user: str
    secret: str
    created: int
    expires: int

    def __repr__(self) -> str:
        return f"<StoredKey {self.id} of {self.user}>"


class Database:
    """The file `authn.db` of a folder."""

    def __init__(self, folder: Path) -> None:
        path = folder / AUTHN_DATABASE
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > _FORMAT:
            self._db.close()
            raise RuntimeError(f"{path} has format {version}, made by a newer aistore-py: pip install -U aistore-py")
        added = "".join(text for number, text in _ADDED.items() if number > version)
        if version < _FORMAT:
            schema = _SCHEMA if not version else ""
            self._db.executescript(f"BEGIN; {schema} {added} PRAGMA user_version={_FORMAT}; COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Several changes that happen together or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # also after a commit that failed: nothing could be changed any more
                self._db.execute("ROLLBACK")
            raise

    # -- settings and keys --

    def meta(self, key: str) -> str | None:
        """A setting."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, values: dict[str, str]) -> None:
        """Change settings."""
        with self.change():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def private_keys(self) -> list[str]:
        """The pairs of keys in PEM, the oldest first."""
        return [row[0] for row in self._db.execute("SELECT private FROM key ORDER BY number")]

    def add_private_key(self, private: str) -> None:
        """A new pair, which is the one that signs from now on."""
        self._db.execute("INSERT INTO key (private) VALUES (?)", (private,))

    # -- users --

    def users(self) -> list[StoredUser]:
        """All users."""
        roles: dict[str, list[str]] = {}
        for user, role in self._db.execute("SELECT user, role FROM user_role ORDER BY user, position"):
            roles.setdefault(user, []).append(role)
        return [
            StoredUser(name, password, roles.get(name, []))
            for name, password in self._db.execute("SELECT id, password FROM user ORDER BY id")
        ]

    def user(self, name: str) -> StoredUser | None:
        """One user."""
        row = self._db.execute("SELECT password FROM user WHERE id = ?", (name,)).fetchone()
        if row is None:
            return None
        roles = self._db.execute("SELECT role FROM user_role WHERE user = ? ORDER BY position", (name,))
        return StoredUser(name, row[0], [role for (role,) in roles])

    def put_user(self, name: str, password: str) -> None:
        """Add a user, or change its password."""
        self._db.execute(
            "INSERT INTO user VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET password = excluded.password",
            (name, password),
        )

    def rehash(self, name: str, old: str, new: str) -> None:
        """Keep another hash of the same password, unless the user was deleted or the password changed meanwhile."""
        self._db.execute("UPDATE user SET password = ? WHERE id = ? AND password = ?", (new, name, old))

    def set_roles(self, name: str, roles: list[str]) -> None:
        """Give a user these roles; those that do not exist are left out."""
        self._db.execute("DELETE FROM user_role WHERE user = ?", (name,))
        self._db.executemany(
            "INSERT OR IGNORE INTO user_role SELECT ?, ?, name FROM role WHERE name = ?",
            [(name, position, role) for position, role in enumerate(roles)],
        )

    def delete_user(self, name: str) -> None:
        """Remove a user."""
        self._db.execute("DELETE FROM user WHERE id = ?", (name,))

    def administrators(self) -> list[str]:
        """Users with the role `Admin`."""
        found = self._db.execute("SELECT user FROM user_role WHERE role = ? ORDER BY user", (ADMIN_ROLE,))
        return [user for (user,) in found]

    # -- access keys --

    def access_keys(self) -> list[StoredKey]:
        """All keys that have not expired. Nothing is written: clusters are told them when the disk is full, too."""
        rows = self._db.execute(
            "SELECT * FROM access_key WHERE expires > ? ORDER BY user, created, id", (int(time.time()),)
        )
        return [StoredKey(*row) for row in rows]

    def add_access_key(self, key: StoredKey) -> None:
        """Add a key, and drop those that have expired."""
        self._db.execute("DELETE FROM access_key WHERE expires <= ?", (int(time.time()),))
        self._db.execute("INSERT INTO access_key VALUES (?, ?, ?, ?, ?)", key)

    def delete_access_key(self, name: str) -> None:
        """Remove a key."""
        self._db.execute("DELETE FROM access_key WHERE id = ?", (name,))

    # -- roles --

    def roles(self) -> list[Role]:
        """All roles."""
        return [_role(row) for row in self._db.execute("SELECT * FROM role ORDER BY name")]

    def role(self, name: str) -> Role | None:
        """One role."""
        row = self._db.execute("SELECT * FROM role WHERE name = ?", (name,)).fetchone()
        return None if row is None else _role(row)

    def put_role(self, role: Role) -> None:
        """Add or change a role."""
        self._db.execute(
            "INSERT INTO role VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
            " descr = excluded.descr, clusters = excluded.clusters, buckets = excluded.buckets",
            (role.name, role.desc or "", _encode(role.clusters).decode(), _encode(role.buckets).decode()),
        )

    def delete_role(self, name: str) -> None:
        """Remove a role; its users lose it."""
        self._db.execute("DELETE FROM role WHERE name = ?", (name,))

    # -- clusters --

    def clusters(self) -> list[ClusterAcl]:
        """All registered clusters."""
        rows = self._db.execute("SELECT id, alias, urls FROM cluster ORDER BY id")
        return [ClusterAcl(uuid, alias, _decode_urls(urls)) for uuid, alias, urls in rows]

    def cluster(self, name: str) -> ClusterAcl | None:
        """A cluster by its id or its alias."""
        return next((one for one in self.clusters() if name and name in (one.id, one.alias)), None)

    def put_cluster(self, cluster: ClusterAcl) -> None:
        """Register a cluster, or change it."""
        row = (cluster.id, cluster.alias, _encode(cluster.urls or []).decode())
        self._db.execute("INSERT OR REPLACE INTO cluster VALUES (?, ?, ?)", row)

    def delete_cluster(self, uuid: str) -> None:
        """Forget a cluster."""
        self._db.execute("DELETE FROM cluster WHERE id = ?", (uuid,))

    # -- revoked tokens --

    def revoke(self, digest: bytes, token: str, expires: int) -> None:
        """Keep a token as revoked until it expires, and drop those that have. Clusters that are registered later want to be told it."""
        row = (digest, token, min(expires, (1 << 63) - 1))
        with self.change():
            self._db.execute("DELETE FROM revoked WHERE expires <= ?", (int(time.time()),))
            self._db.execute("INSERT OR IGNORE INTO revoked VALUES (?, ?, ?)", row)

    def revoked(self) -> dict[bytes, str]:
        """The revoked tokens that would be valid otherwise, by digest."""
        rows = self._db.execute("SELECT digest, token FROM revoked WHERE expires > ?", (int(time.time()),))
        return dict(rows.fetchall())


def _role(row: tuple[str, str, str, str]) -> Role:
    name, desc, clusters, buckets = row
    found = Role(name, desc, admin=name == ADMIN_ROLE)
    found.clusters, found.buckets = _decode_clusters(clusters), _decode_buckets(buckets)
    return found
