"""A `requests` session for code of users' transformers."""

from __future__ import annotations

import requests

from aistore.sdk.etl.webserver._outbound import tls_of_environment

__all__ = ["session_of_environment"]


def session_of_environment(token: str | None) -> requests.Session:
    """A session that trusts, and shows itself, as the environment says (protocol/50 7.7)."""
    session = requests.Session()
    tls = tls_of_environment()
    session.verify = (tls.ca or True) if tls.verify else False
    if tls.cert:
        session.cert = (tls.cert, tls.key) if tls.key else tls.cert
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    return session
