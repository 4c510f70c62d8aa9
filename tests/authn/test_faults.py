"""Failing the n-th call to the database of an AuthN server: what was there stays, or all of the change is there, and the next one is made."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING

import pytest

from aistore.server.authn.database import Database
from aistore.wire.authn import ClusterAcl, Role
from faults import FAULTS, Faults, inject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def put_user(db: Database) -> None:
    with db.change():
        db.put_user("new", "hash")
        db.set_roles("new", ["r1", "r2"])


def delete_user(db: Database) -> None:
    db.delete_user("u")


def put_role(db: Database) -> None:
    db.put_role(Role("r1", "changed"))


def delete_role(db: Database) -> None:
    db.delete_role("r1")


def register(db: Database) -> None:
    with db.change():
        db.delete_cluster("c")
        db.put_cluster(ClusterAcl("d", "alias", urls=["http://h"]))


def revoke(db: Database) -> None:
    db.revoke(b"digest", "token", 1 << 40)


def settings(db: Database) -> None:
    db.set_meta({"a": "new", "b": "new"})


def rotate(db: Database) -> None:
    db.add_private_key("pem")


OPERATIONS = (put_user, delete_user, put_role, delete_role, register, revoke, settings, rotate)


def state(db: Database) -> list[object]:
    """All that it keeps."""
    clusters = [(one.id, one.alias, one.urls) for one in db.clusters()]
    roles = [(one.name, one.desc) for one in db.roles()]
    return [db.users(), roles, clusters, sorted(db.revoked()), db.meta("a"), db.meta("b"), db.private_keys()]


def filled(folder: Path) -> Database:
    folder.mkdir()
    db = Database(folder)
    for name in ("r1", "r2"):
        db.put_role(Role(name, "old"))
    with db.change():
        db.put_user("u", "hash")
        db.set_roles("u", ["r2", "r1"])
    db.put_cluster(ClusterAcl("c", ""))
    db.set_meta({"a": "old", "b": "old"})
    return db


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return inject(monkeypatch)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_failing_the_nth_call(
    memory_path: Path, faults: Faults, operation: Callable[[Database], None], number: int
) -> None:
    nth = 0
    while True:
        nth += 1
        db = filled(memory_path / str(nth))
        before = state(db)
        FAULTS.arm(nth, number=number, lasting=False)
        failed = False
        try:
            operation(db)
        except sqlite3.OperationalError:
            failed = True
        finally:
            FAULTS.disarm()
        where = f"call {nth} ({FAULTS.hit})"
        assert failed == (FAULTS.hit is not None), where
        assert (state(db) == before) == failed, where
        if failed:  # it goes on
            operation(db)
            assert state(db) != before, where
        after = state(db)
        db.close()
        again = Database(memory_path / str(nth))
        assert state(again) == after, where
        again.close()
        if not failed:
            break
    assert nth > 1
