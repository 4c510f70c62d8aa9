"""Which buckets an account has at S3 and Azure: the two questions that obstore, which works on one bucket, does not ask.

Google's answer needs a token that obstore does not hand out; buckets there become known by being asked for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["azure_containers", "s3_buckets"]

_TIMEOUT: Final = 10.0
_ANSWER_MAX: Final = 16 << 20
_PAGES_MAX: Final = 100  # of 5,000 containers
_SIGNED_FOR: Final = timedelta(minutes=5)
_AZURE_VERSION: Final = "2021-08-06"


def s3_buckets(config: Mapping[str, str], client: Mapping[str, Any]) -> list[str]:
    """Names of the buckets of the credentials that `config` or the environment has (blocking). Raises `OSError`, `ValueError`."""
    import obstore
    from obstore.store import S3Store

    region = config.get("region", "us-east-1")
    endpoint = config.get("endpoint") or f"https://s3.{region}.amazonaws.com"
    # With an endpoint that stands for one bucket, what lies at its root is asked for: of the real one, the list of buckets.
    whole: Any = {**config, "endpoint": endpoint, "virtual_hosted_style_request": "true"}
    options: Any = client
    url = obstore.sign(S3Store("all", config=whole, client_options=options), "GET", "", _SIGNED_FOR)
    return _texts(_fetch(url, {}, client), "Buckets/Bucket/Name")


def azure_containers(config: Mapping[str, str], client: Mapping[str, Any]) -> list[str]:
    """Names of an account's containers (blocking); none where `config` has no key of the account. Raises `OSError`, `ValueError`."""
    account, key = config.get("account_name", ""), config.get("account_key", "")
    if not account or not key:
        return []
    endpoint = (config.get("endpoint") or f"https://{account}.blob.core.windows.net").rstrip("/")
    names: list[str] = []
    marker = ""
    for _ in range(_PAGES_MAX):
        now = datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
        resource = f"/{account}{urlsplit(endpoint).path}/\ncomp:list" + (f"\nmarker:{marker}" if marker else "")
        text = f"GET{chr(10) * 12}x-ms-date:{now}\nx-ms-version:{_AZURE_VERSION}\n{resource}"
        signature = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": now,
            "x-ms-version": _AZURE_VERSION,
            "Authorization": f"SharedKey {account}:{base64.b64encode(signature).decode()}",
        }
        query = "comp=list" + (f"&marker={quote(marker, safe='')}" if marker else "")
        answer = _fetch(f"{endpoint}/?{query}", headers, client)
        names += _texts(answer, "Containers/Container/Name")
        marker = next(iter(_texts(answer, "NextMarker")), "")
        if not marker:
            return names
    raise ValueError(f"the list has more than {_PAGES_MAX} pages")


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: what the request is signed with is for the endpoint alone."""

    def redirect_request(self, *_: object) -> None:
        """Have the redirect raised as the answer that it is."""


def _fetch(url: str, headers: Mapping[str, str], client: Mapping[str, Any]) -> bytes:
    context = None
    if url.startswith("https://"):
        context = ssl.create_default_context(cadata=_pem(client))
        if client.get("allow_invalid_certificates"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = build_opener(_Stay(), HTTPSHandler(context=context))
    with opener.open(Request(url, headers=dict(headers)), timeout=_TIMEOUT) as answer:  # noqa: S310 (the scheme is http or https: the configuration's)
        content: bytes = answer.read(_ANSWER_MAX)
    return content


def _pem(client: Mapping[str, Any]) -> str | None:
    pem = client.get("root_certificate")
    return pem.decode() if isinstance(pem, bytes) else None


def _texts(document: bytes, path: str) -> list[str]:
    """Texts of the elements at a path, whatever the namespace. Raises `ValueError` for what is no XML."""
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 (expat itself bounds what entities expand to)
    except ElementTree.ParseError as error:
        raise ValueError(f"the answer is not XML: {error}") from error
    places = "/".join(f"{{*}}{part}" for part in path.split("/"))
    return [found.text for found in root.iterfind(places) if found.text]
