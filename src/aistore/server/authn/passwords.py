"""Passwords: kept as argon2id hashes, compared in a time that tells nothing."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["PASSWORD_MAX", "Passwords", "hash_password"]

PASSWORD_MAX: Final = 1024
# Each takes 64 MiB and tens of milliseconds of a processor.
_AT_A_TIME: Final = 2
_WAITING_MAX: Final = 64

T = TypeVar("T")


def hash_password(password: str) -> str:
    """The hash of a password, which tells its own parameters (blocking)."""
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


class Passwords:
    """Hashes and checks in threads, few at a time."""

    def __init__(self) -> None:
        from argon2 import PasswordHasher

        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(_AT_A_TIME, "passwords")
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        self._waiting = 0
        # What is compared with when there is no such user: that takes as long.
        self._nobody = self._hasher.hash("nobody")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, so that the outcome of few attempts only is unknown at a time. Raises `ApiError` 429 where too many wait."""
        if self._waiting >= _WAITING_MAX:
            raise ApiError(429, "too many logins and new passwords at a time", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1

    async def hash(self, password: str) -> str:
        """The hash of a new password, which waits for its turn, too. Raises `ApiError` 400 for one that is too long, and 429 as `turn`."""
        if len(password.encode("utf-8", "replace")) > PASSWORD_MAX:
            raise ApiError(400, f"password is longer than {PASSWORD_MAX} bytes")
        async with self.turn():
            return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether a password is the one that was hashed; takes as long where there is none (`stored` None)."""

        def check() -> bool:
            from argon2.exceptions import InvalidHashError, VerificationError

            fits, same = len(password.encode("utf-8", "replace")) <= PASSWORD_MAX, False
            with suppress(VerificationError, InvalidHashError):
                same = self._hasher.verify(stored or self._nobody, password if fits else "")
            return same and fits and stored is not None

        return await self._run(check)

    def is_outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
