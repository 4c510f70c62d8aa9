"""Every public name of the official SDKs 1.17.0 and 2.0.0 is here: modules, classes, methods, parameters, defaults, members.

`surface/*.json` are the names and shapes of the official packages; `surface/missing.toml` lists what is still missing, and what stays
out on purpose. Both lists may only shrink. Where the two versions differ in parameters or defaults, 2.0.0 decides.

    python tests/test_surface.py      prints what is missing and not listed
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent / "surface"
VERSIONS = ("2.0.0", "1.17.0")

WITH_PYTORCH = find_spec("torch") is not None
"""Without it the modules `aistore.pytorch.*` cannot be looked into; `make test-torch` looks."""

_ABSENT = object()


def surface(version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"surface-{version}.json").read_text())["modules"]
    return found


@cache
def missing() -> frozenset[str]:
    """The names of either surface that our package lacks; of a missing module or class only its own name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names are there, and say so
        return frozenset(name for version in VERSIONS for name in _missing_of(version))


def _missing_of(version: str) -> Iterator[str]:
    for name, contents in surface(version).items():
        if name.startswith("aistore.pytorch") and not WITH_PYTORCH:
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:
            yield name
            continue
        for export in contents["exports"]:
            if _get(module, export) is _ABSENT:
                yield f"{name}.{export}"
        for function, parameters in contents["functions"].items():
            yield from _missing_of_call(f"{name}.{function}", _get(module, function), parameters, version)
        for class_name, described in contents["classes"].items():
            cls = _get(module, class_name)
            if cls is _ABSENT:
                yield f"{name}.{class_name}"
            else:
                yield from _missing_of_class(f"{name}.{class_name}", cls, described, version)


def _get(module: object, name: str) -> Any:
    """A name of a module; one whose own module cannot be imported is absent."""
    try:
        return getattr(module, name, _ABSENT)
    except ImportError:
        return _ABSENT


def _missing_of_class(name: str, cls: Any, described: dict[str, Any], version: str) -> Iterator[str]:
    yield from _missing_of_call(f"{name}.__init__", cls, described["init"], version)
    for method, of_method in described["methods"].items():
        yield from _missing_of_call(f"{name}.{method}", getattr(cls, method, _ABSENT), of_method["parameters"], version)
    for attribute in (*described["properties"], *described.get("fields", ())):
        if not _has_attribute(cls, attribute):
            yield f"{name}.{attribute}"
    for member, value in described.get("members", {}).items():
        if not (issubclass(cls, enum.Enum) and member in cls.__members__ and cls[member].value == value):
            yield f"{name}.{member} = {value!r}"


def _has_attribute(cls: Any, name: str) -> bool:
    """A property, a slot, a field of a model or dataclass, or an annotation."""
    return any(
        name in vars(base) or name in vars(base).get("__annotations__", {}) for base in cls.__mro__
    ) or name in getattr(cls, "model_fields", {})


def _missing_of_call(name: str, call: Any, parameters: list[dict[str, Any]] | None, version: str) -> Iterator[str]:
    if call is _ABSENT:
        yield name
        return
    if not parameters:
        return
    try:
        ours = {one.name: one for one in inspect.signature(call).parameters.values()}
    except (TypeError, ValueError):
        return
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in ours.values())
    for wanted in parameters:
        if wanted["kind"].startswith("var_"):
            continue
        got = ours.get(wanted["name"])
        if got is None:
            if not takes_any:
                yield f"{name}({wanted['name']})"
        elif _decides(version, name, wanted["name"]) and _default_text(got.default) != wanted["default"]:
            yield f"{name}({wanted['name']}={wanted['default']})"


@cache
def _parameters_of_2() -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for module, contents in surface("2.0.0").items():
        calls = dict(contents["functions"])
        for class_name, described in contents["classes"].items():
            calls[f"{class_name}.__init__"] = described["init"]
            calls.update({f"{class_name}.{name}": m["parameters"] for name, m in described["methods"].items()})
        found.update((f"{module}.{call}", one["name"]) for call, names in calls.items() for one in names or ())
    return frozenset(found)


def _decides(version: str, name: str, parameter: str) -> bool:
    return version == "2.0.0" or (name, parameter) not in _parameters_of_2()


def _default_text(value: object) -> str | None:
    """A default as the surfaces spell it."""
    if value is inspect.Parameter.empty:
        return None
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    text = repr(value)
    return text if " at 0x" not in text else f"<{type(value).__name__}>"


@cache
def listed() -> dict[str, str]:
    """What the list says is missing, and why."""
    found = tomllib.loads((HERE / "missing.toml").read_text())
    return {name: reason for group in found.values() for reason, names in group.items() for name in names}


def test_nothing_is_missing_but_what_is_listed() -> None:
    assert sorted(missing() - listed().keys()) == []


def test_what_is_listed_as_missing_is_missing() -> None:
    assert sorted(listed().keys() - missing()) == [], "these are there now: take them out of surface/missing.toml"


@pytest.mark.parametrize("version", VERSIONS)
def test_surfaces_are_whole(version: str) -> None:
    assert "Client" in surface(version)["aistore.sdk.client"]["classes"]


if __name__ == "__main__":
    print(*sorted(missing() - listed().keys()), sep="\n")
