"""What the README and the documentation show is run: the Python blocks of a page, one after the other, as one program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from expected_differences import PAGE, page_with_tables

if TYPE_CHECKING:
    from aistore import LocalCluster

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What the architecture shows are signatures, not programs.
NOT_PROGRAMS = {"architecture.md"}

WITH_PYTORCH = {"pytorch.md", "tutorial-training.md"}

# What loaders do on Linux by default; Python 3.12 warns where libraries have threads.
FORKING = "ignore:This process (pid:DeprecationWarning"

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def program_of(page: Path) -> str:
    """The blocks of a page, each at its own line, so that a traceback points into the page."""
    text = page.read_text()
    lines = [""] * (text.count("\n") + 1)
    for found in _BLOCK.finditer(text):
        first = text.count("\n", 0, found.start(1))
        for number, line in enumerate(found[1].splitlines()):
            lines[first + number] = line
    return "\n".join(lines)


def programs() -> list[Path]:
    return [page for page in PAGES if page.name not in NOT_PROGRAMS and "```python\n" in page.read_text()]


@pytest.mark.parametrize("page", programs(), ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("local_dir")
def test_page_runs(page: Path, tmp_path: Path) -> None:
    if page.name in WITH_PYTORCH and find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: make test-torch installs it, and runs this")
    code = f"exec(compile({program_of(page)!r}, {str(page)!r}, 'exec'))"
    with tempfile.TemporaryDirectory() as scratch:  # pages leave there what their reader may look at
        done = subprocess.run(
            [sys.executable, "-W", "error", "-W", FORKING, "-c", code],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "AIS_ENDPOINT"} | {"TMPDIR": scratch},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr


def test_shell_commands_of_the_readme_run(tmp_path: Path) -> None:
    """The server of the first line is started at a free port, which the others are told instead of the default one."""
    found = _SHELL.search((ROOT / "README.md").read_text())
    assert found
    serve, rest = found[1].split("\n", 1)
    assert "http://127.0.0.1:8080" in rest
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    command = ["/bin/sh", "-ec", f"exec {serve.partition('#')[0]} --port 0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = next(line.split()[1] for line in server.stdout if line.lstrip().startswith("url "))
            rest = rest.replace("http://127.0.0.1:8080", url)
            done = subprocess.run(
                ["/bin/sh", "-ec", rest], cwd=tmp_path, env=environment, capture_output=True, timeout=60
            )
        finally:
            server.terminate()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"picture.png\n\x89PNG", b"")
    assert (tmp_path / "data").is_dir()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, _ in _LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_tables_of_differences_are_the_lists_that_the_tests_read() -> None:
    assert PAGE.read_text() == page_with_tables(), "run: python tests/expected_differences.py"


def test_what_the_server_is_said_to_refuse_is_refused(cluster: LocalCluster) -> None:
    said = PAGE.read_text().partition("The server answers 501 besides to ")[2].partition("\n")[0]
    paths = re.findall(r"`(/[^`]+)`", said)
    assert paths
    for path in paths:
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{cluster.url}{path}")
        with refused.value as answer:
            assert answer.status == 501, f"{path} answers {answer.status}: see docs/compatibility.md"
