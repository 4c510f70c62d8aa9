"""Prometheus' text format, version 0.0.4: writing it, and putting together what several processes wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CONTENT_TYPE", "Exposition", "merge"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_IN_LABEL: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_IN_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Exposition:
    """Families of metrics, one after the other. `labels` are those that every sample has."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = [_label(name, value) for name, value in labels.items()]
        self._lines: list[str] = []
        self._family = ""

    def family(self, name: str, kind: str, meaning: str) -> None:
        """Begin a family; `kind` is `counter`, `gauge` or `histogram`."""
        self._family = name
        self._lines += [f"# HELP {name} {meaning.translate(_IN_HELP)}", f"# TYPE {name} {kind}"]

    def sample(self, value: float, labels: Mapping[str, str] | None = None, suffix: str = "") -> None:
        """A value of the family."""
        pairs = self._labels + [_label(name, text) for name, text in (labels or {}).items()]
        told = f"{{{','.join(pairs)}}}" if pairs else ""
        self._lines.append(f"{self._family}{suffix}{told} {value!r}")

    def histogram(
        self, buckets: Iterable[tuple[float, int]], total: int, seconds: float, labels: Mapping[str, str]
    ) -> None:
        """A histogram of the family, from upper bounds with how many were below."""
        for bound, count in buckets:
            self.sample(count, {**labels, "le": f"{bound:g}"}, "_bucket")
        self.sample(total, {**labels, "le": "+Inf"}, "_bucket")
        self.sample(seconds, labels, "_sum")
        self.sample(total, labels, "_count")

    def text(self) -> str:
        """All of it."""
        return "\n".join([*self._lines, ""])


def _label(name: str, value: str) -> str:
    return f'{name}="{value.translate(_IN_LABEL)}"'


def merge(texts: Iterable[str]) -> str:
    """One exposition of several: a family may stand only once in it, with all of its samples."""
    families: dict[str, list[str]] = {}
    current: list[str] = []
    for text in texts:
        for line in text.splitlines():
            if line.startswith("# HELP "):
                current = families.setdefault(line.split(" ", 3)[2], [])
            if not current or not line.startswith("#") or (len(current) == 1 and line.startswith("# TYPE ")):
                current.append(line)
    return "\n".join([line for lines in families.values() for line in lines] + [""])
