"""How an object is transformed when it is read or copied."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aistore.wire import params as param

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from aistore.calls.etl_handle import EtlHandle

__all__ = ["ETLConfig"]


@dataclass
class ETLConfig:
    """An ETL, by its name or as an `Etl` with the stages of its pipeline, and arguments for this use of it.

    `args` reach `transform` as text: a string as it is, a dict as JSON. Those that are false (an empty string, 0) are not sent.
    """

    name: str | EtlHandle | None = None
    args: str | dict[str, object] | int | float | None = None

    def update_qparams(self, params: MutableMapping[str, object]) -> None:
        """Add what it means to the query parameters of a request (protocol/50 5.1)."""
        if not self.name:
            return
        if isinstance(self.name, str):
            params[param.ETL_NAME] = self.name
        else:
            params[param.ETL_NAME] = self.name.name
            params[param.ETL_PIPELINE] = ",".join(self.name.pipeline)
        if self.args:
            params[param.ETL_ARGS] = (
                json.dumps(self.args, separators=(",", ":")) if isinstance(self.args, dict) else self.args
            )
