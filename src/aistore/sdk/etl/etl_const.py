"""Words and defaults of ETLs (protocol/50 1.1, 2.2, 3)."""

from __future__ import annotations

__all__ = [
    "DEFAULT_ETL_COMM",
    "DEFAULT_ETL_OBJ_TIMEOUT",
    "DEFAULT_ETL_TIMEOUT",
    "ETL_COMM_HPULL",
    "ETL_COMM_HPUSH",
    "ETL_COMM_OPTIONS",
    "ETL_COMM_WS",
    "ETL_STAGE_ABORTED",
    "ETL_STAGE_INIT",
    "ETL_STAGE_RUNNING",
    "ETL_SUPPORTED_PYTHON_VERSIONS",
    "FASTAPI_CMD",
]

# How clusters and transformers talk
ETL_COMM_HPUSH = "hpush"
ETL_COMM_HPULL = "hpull"
ETL_COMM_WS = "ws"
ETL_COMM_OPTIONS = [ETL_COMM_HPUSH, ETL_COMM_HPULL, ETL_COMM_WS]

DEFAULT_ETL_COMM = ETL_COMM_HPUSH
DEFAULT_ETL_TIMEOUT = "5m"
DEFAULT_ETL_OBJ_TIMEOUT = "45s"

ETL_STAGE_INIT = "Initializing"
ETL_STAGE_RUNNING = "Running"
ETL_STAGE_ABORTED = "Aborted"

ETL_SUPPORTED_PYTHON_VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
"""Versions of Python that there are images for."""

FASTAPI_CMD = [
    *("uvicorn", "fastapi_server:fastapi_app"),
    *("--host", "0.0.0.0", "--port", "8000"),  # noqa: S104  within a container
    *("--workers", "4", "--no-access-log"),
]
"""What runs a `fastapi_server.py` in an image."""
