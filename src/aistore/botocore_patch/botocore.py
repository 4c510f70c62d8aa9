"""Importing this module makes botocore (and so boto3) follow the redirects of an AIStore cluster.

A gateway answers calls on objects with 307 and the URL of the target that has the object (protocol/00 21). botocore takes that for an
error. The embedded server answers at `/s3` itself, and needs no patch.

    import boto3
    from aistore.botocore_patch import botocore

    s3 = boto3.client("s3", endpoint_url="http://gateway:51080/s3", ...)

Redirects of Amazon's own endpoints stay with botocore, which signs the request anew for another region. Raises `ImportError` where boto3 is
not installed.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes, urljoin, urlsplit

try:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.exceptions import HTTPClientError
    from botocore.httpsession import URLLib3Session
except ImportError as error:
    raise ImportError(f"aistore.botocore_patch needs boto3: pip install 'aistore-py[botocore]' ({error})") from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSResponse

    Send = Callable[[URLLib3Session, AWSPreparedRequest], AWSResponse]

__all__: list[str] = []

_REDIRECTS: Final = frozenset({301, 302, 307, 308})
_MOST: Final = 5
_AMAZON: Final = re.compile(r"(?:.*\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)", re.IGNORECASE).fullmatch
_MARK: Final = "_follows_redirects_of_aistore"


def _following(send: Send) -> Send:
    def follow(session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        response = send(session, request)
        for _ in range(_MOST):
            url = _target(request.url, response)
            if url is None:
                return response
            response.content  # noqa: B018 (reads the body, so that the connection can be used again)
            request.reset_stream()  # raises where the body cannot be sent from its beginning again
            request = AWSPreparedRequest(request.method, url, request.headers, request.body, request.stream_output)
            response = send(session, request)
        if _target(request.url, response) is not None:
            raise HTTPClientError(error=f"more than {_MOST} redirects, the last one to {request.url}")
        return response

    setattr(follow, _MARK, True)
    return follow


def _target(url: str, response: AWSResponse) -> str | None:
    """Where a response sends the client, or None."""
    location = response.headers.get("Location") if response.status_code in _REDIRECTS else None
    if not location or _AMAZON(urlsplit(url).hostname or ""):
        return None
    # A header holds bytes: names that are not ASCII may be in it as they are.
    raw = location.encode("latin-1", "replace")
    target = urljoin(url, quote_from_bytes(raw, safe=string.punctuation))
    scheme = urlsplit(target).scheme
    if scheme != "https" and (scheme != "http" or urlsplit(url).scheme == "https"):
        raise HTTPClientError(
            error=f"a redirect from {url} to {target} is not followed: it leads away from HTTP or HTTPS"
        )
    return target


if not getattr(URLLib3Session.send, _MARK, False):
    URLLib3Session.send = _following(URLLib3Session.send)
