"""What an ETL knows without asking the cluster, in both faces: its name, and the stages behind it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    H = TypeVar("H", bound="EtlHandle")

__all__ = ["EtlHandle"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])")
_SHORTEST, _LONGEST = 6, 32


class EtlHandle:
    """Name of an ETL, and the names of those that its results go through next."""

    __slots__ = ("_name", "_pipeline")

    def __init__(self, name: str) -> None:
        self.validate_etl_name(name)
        self._name = name
        self._pipeline: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def pipeline(self) -> list[str]:
        """Names of the further stages, its own not among them; see `>>`."""
        return list(self._pipeline)

    @staticmethod
    def validate_etl_name(name: str) -> None:
        """Raise ValueError unless ETLs can be called `name`: 6 to 32 of lower-case letters, digits and inner dashes (protocol/50 2.1)."""
        if not isinstance(name, str):
            raise TypeError(f"the name of an ETL is a str, not {type(name).__name__}")
        if len(name) < _SHORTEST:
            raise ValueError(f"ETL name '{name}' is too short")
        if len(name) > _LONGEST:
            raise ValueError(f"ETL name '{name}' is too long")
        if _NAME.fullmatch(name) is None:
            raise ValueError(
                f"ETL name '{name}' is invalid: must start/end with a lowercase letter/number, and can only contain [a-z0-9-]"
            )

    def _then(self: H, other: EtlHandle, joined: H) -> H:
        joined._pipeline = (*self._pipeline, other._name, *other._pipeline)
        return joined

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' >> '.join((self._name, *self._pipeline))}>"
