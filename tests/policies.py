"""Retry policies that do not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests
import tenacity
import urllib3

if TYPE_CHECKING:
    from aistore.transport.retry import ColdGetRules


class Policy:
    """What a `RetryConfig` has: `attempts` over the network, `total` repeats after an error status."""

    def __init__(
        self, attempts: int = 1, total: int = 0, *, cold: ColdGetRules | None = None, **retrying: object
    ) -> None:
        self.http_retry: urllib3.Retry | None = urllib3.Retry(
            total=total, connect=0, read=0, status_forcelist=[429, 500, 502, 503, 504]
        )
        options = {
            "stop": tenacity.stop_after_attempt(attempts),
            "retry": tenacity.retry_if_exception_type(
                (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
            ),
            "reraise": True,
            **retrying,
        }
        self.network_retry: tenacity.Retrying | None = tenacity.Retrying(**options)  # type: ignore[arg-type]  # options of each test
        self.cold_get_conf = cold
