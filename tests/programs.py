"""Programs of a test: Python code in a process of its own, which may be killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from aistore.server.folder import find_server
from waiting import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

    from aistore import LocalCluster


class Program:
    """Python code in a process of its own, which says things line by line and may be killed."""

    def __init__(self, code: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def finish(self) -> int:
        """Let it go on to its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


def target_pids(cluster: LocalCluster) -> dict[str, int]:
    """The target processes of a cluster by node id, as its log tells."""
    log = (cluster.path / "server.log").read_text()
    return {found[1]: int(found[2]) for found in re.finditer(r"target (\w+) serves at \S+ \(process (\d+)\)", log)}


def end_server(data_dir: Path) -> None:
    """End the server of a data folder, if there is one that is not ending already."""
    running = find_server(data_dir)
    if running and running.pid:
        os.kill(running.pid, signal.SIGTERM)
