"""One target in a process of its own: `python -m fuzz TARGET EXECUTIONS SEED FOLDER` in `tests`; its figures as JSON on the standard output.

What is executed can be seen from outside, in the file `now` of the folder: a process that hangs or crashes leaves its input there.
"""

from __future__ import annotations

import json
import mmap
import resource
import sys
from pathlib import Path
from typing import Final

from fuzz.engine import Failure, fuzz, grown, write_out
from fuzz.targets import TARGETS

SHARED: Final = 1 << 20
_MEMORY: Final = 1 << 30
"""Bytes of address space that a run may take beyond those that it begins with."""


def main(name: str, executions: int, seed: int, folder: Path) -> int:
    """Run one target; 1 if it failed, with its input in the folder."""
    if sys.platform == "linux":
        there = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (there + _MEMORY, there + _MEMORY))
    with (folder / "now").open("r+b") as file, mmap.mmap(file.fileno(), SHARED) as shared:
        try:
            figures = fuzz(TARGETS[name], executions, seed, shared)
        except Failure as failure:
            path = write_out(folder, name.replace(" ", "-"), failure.data)
            print(f"{failure}\nthe input is in {path}", file=sys.stderr)
            return 1
    print(json.dumps({**figures._asdict(), "process": grown()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
