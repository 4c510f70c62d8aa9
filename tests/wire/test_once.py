"""Names of the protocol are written once, in `aistore.wire`: elsewhere they are its constants."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aistore.wire import actions, headers, params
from aistore.wire.errors import ERROR_HEADER

if TYPE_CHECKING:
    from types import ModuleType

SRC = Path(__file__).resolve().parents[2] / "src" / "aistore"

# `http1` knows nothing of the project; the models of `sdk` are a documented surface of their own.
NOT_HERE = ("wire/", "http1/", "sdk/const.py", "sdk/xact_const.py", "sdk/types.py")

# Fields of messages that happen to be called like a parameter.
FIELDS = {"latest-ver"}


def names() -> dict[str, str]:
    """What must not be written as a literal: text to its constant. Words such as `list` or `pid` say too little to be told apart."""
    found = {ERROR_HEADER: "errors.ERROR_HEADER"}
    for module in (actions, headers, params):
        for constant, text in _constants(module).items():
            if not text.isalpha():
                found[text] = f"{module.__name__.rpartition('.')[2]}.{constant}"
                if module is headers:
                    found[text.lower()] = f"headers.{constant}.lower()"
    return found


def _constants(module: ModuleType) -> dict[str, str]:
    return {name: text for name, text in vars(module).items() if name.isupper() and isinstance(text, str)}


def modules() -> list[Path]:
    return [path for path in sorted(SRC.rglob("*.py")) if not str(path.relative_to(SRC)).startswith(NOT_HERE)]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_names_of_the_wire_are_its_constants(path: Path) -> None:
    known = names()
    assert [
        f"{path.relative_to(SRC)}:{node.lineno}: {node.value!r} is {known[node.value]}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value in known and node.value not in FIELDS
    ] == []
