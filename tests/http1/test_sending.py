"""Sending files where the kernel cannot: copied, and encrypted, piece by piece."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from aistore.http1.message import FilePart
from aistore.http1.sending import send_file
from aistore.http1.turns import Turns

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 4 << 20


class TakesAll:
    """A connection over TLS whose client takes everything at once, until the loop tells that it is gone."""

    def __init__(self, turns: Turns) -> None:
        self.taken = 0
        self.is_gone = False
        self.turn = turns.next
        self.transport: Any = self

    def get_extra_info(self, name: str) -> object:
        return self if name == "ssl_object" else None

    def write(self, data: bytes) -> None:
        self.taken += len(data)

    def check_alive(self) -> None:
        if self.is_gone:
            raise ConnectionResetError("gone")

    async def drain(self) -> None:
        self.check_alive()

    async def writable(self, fd: int, sent: int) -> None:
        raise AssertionError("it takes all")


@pytest.mark.parametrize("goes", [False, True])
def test_others_get_their_turn_while_a_client_takes_all_at_once(goes: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    sender = TakesAll(Turns())
    seen = []

    async def other() -> None:
        while sender.taken < SIZE:
            seen.append(sender.taken)
            sender.is_gone = goes and sender.taken > 0
            await asyncio.sleep(0)
            if sender.is_gone:
                return

    async def both() -> None:
        part = FilePart(os.open(path, os.O_RDONLY), 0, SIZE)
        turns = asyncio.ensure_future(other())
        try:
            await send_file(sender, part)
        finally:
            part.close()
            await turns

    if goes:
        with pytest.raises(ConnectionResetError):
            asyncio.run(both())
        assert sender.taken < SIZE
    else:
        asyncio.run(both())
        assert len(set(seen)) > 2


def test_others_wait_for_one_piece_however_many_send(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    turns = Turns()
    senders = [TakesAll(turns) for _ in range(4)]

    async def send(sender: TakesAll) -> None:
        part = FilePart(os.open(path, os.O_RDONLY), 0, SIZE)
        try:
            await send_file(sender, part)
        finally:
            part.close()

    async def all_of_them() -> list[int]:
        sending = [asyncio.ensure_future(send(sender)) for sender in senders]
        seen = [0]
        while seen[-1] < SIZE * len(senders):
            await asyncio.sleep(0)
            seen.append(sum(sender.taken for sender in senders))
        await asyncio.gather(*sending)
        return seen

    seen = asyncio.run(all_of_them())
    assert max(after - before for before, after in pairwise(seen)) == 256 << 10
