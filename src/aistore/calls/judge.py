"""Which error a refused request means (protocol/00 8.5)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from aistore.wire import actions, params
from aistore.wire.errors import ERROR_HEADER, ETL_ERROR, ETL_LOG, ErrorKind, classify
from aistore.wire.headers import REQUEST_ID

if TYPE_CHECKING:
    import requests

    from aistore.calls.steps import Answer
    from aistore.sdk.errors import AISError

__all__ = ["error_class", "error_of", "text_of"]

_OF_TRANSFORMERS = (500, 502)

# `t[x]: NAME does not exist`, and `ETL NAME doesn't exist` (protocol/50 10.2)
_NO_ETL = re.compile(r"(?:\b[pt]\[\w+\]: |\bETL )[a-z0-9-]+ (?:does not|doesn't) exist")
_TRANSFORMING = re.compile(f'"action":"(?:{actions.TRANSFORM_BUCKET}|{actions.TRANSFORM_OBJECTS})"'.encode())

_BAD_CHECKSUM = "ErrBadCksum"

# Servers that tell the type of an error know better than its text, in which a namespace looks like an object.
_BY_TYPE: dict[str, ErrorKind] = {
    "ErrBckNotFound": "bucket-not-found",
    "ErrRemoteBckNotFound": "remote-bucket-not-found",
}


def error_class(status: int, method: str, text: str) -> type[AISError]:
    """Class of the error that an answer means, from its whole text; `method` is that of the last request."""
    from aistore.sdk import errors

    if f'"tcode":"{_BAD_CHECKSUM}"' in text:
        return errors.ErrBadChecksum
    kind = classify(status, method, text)
    if status == 404 and '"tcode"' in text:
        for tcode, known in _BY_TYPE.items():
            if f'"tcode":"{tcode}"' in text:
                kind = known
    return {
        "bucket-not-found": errors.ErrBckNotFound,
        "remote-bucket-not-found": errors.ErrRemoteBckNotFound,
        "object-not-found": errors.ErrObjNotFound,
        "bucket-exists": errors.ErrBckAlreadyExists,
        "etl-not-found": errors.ErrETLNotFound,
        "etl-exists": errors.ErrETLAlreadyExists,
        "get-conflict": errors.ErrGETConflict,
        "other": errors.AISError,
    }[kind]


def text_of(answer: Answer) -> str:
    """What a server says about its refusal: the body, or for HEAD, which has none, a header."""
    if answer.request.method == "HEAD":
        return answer.headers.get(ERROR_HEADER, "")
    return answer.content.decode("utf-8", "replace")


def error_of(answer: Answer) -> AISError:
    """The error that an answer of a status other than 200..399 means, caused by the `requests` error for it."""
    import requests

    from aistore.sdk.errors import AISError

    text = text_of(answer)
    sent = prepared(answer)
    cls = error_class(answer.status, answer.request.method, text)
    if cls is AISError:
        cls = _about_etl(answer, text)
    error = cls(answer.status, text, answer.url, sent)
    error.request_id = answer.headers.get(REQUEST_ID, "")
    if 400 <= answer.status < 600:
        who = "Client" if answer.status < 500 else "Server"
        what = f"{answer.status} {who} Error: {answer.reason} for url: {answer.url}"
        error.__cause__ = requests.HTTPError(what, response=error.response)
    return error


def _about_etl(answer: Answer, text: str) -> type[AISError]:
    """Class of a refusal that official SDKs have no class of its own for."""
    from aistore.sdk import errors

    request = answer.request
    if request.path == "etl" or request.path.endswith("/start"):
        return errors.ErrETLInit if "pod_status=" in text else errors.AISError
    body = request.body if isinstance(request.body, bytes) else b""
    uses = f"{params.ETL_NAME}=" in request.query or _TRANSFORMING.search(body) or request.path.startswith("etl/")
    if uses and answer.status in (400, 404) and _NO_ETL.search(text):
        return errors.ErrETLNotFound
    return errors.ErrETLTransform if _is_of_transformer(answer, text) else errors.AISError


def _is_of_transformer(answer: Answer, text: str) -> bool:
    """Whether a transformer failed, and not the cluster: with `hpull` its own answer comes back as it is (protocol/50 5.2)."""
    if f"{params.ETL_NAME}=" not in answer.request.query:
        return False
    return answer.status in _OF_TRANSFORMERS or ETL_ERROR in text or json.dumps(ETL_LOG)[1:-1] in text


def prepared(answer: Answer) -> requests.PreparedRequest:
    """The request that led to an answer, as `requests` shows requests."""
    import requests

    request = answer.request
    sent = requests.PreparedRequest()
    sent.method = request.method
    sent.url = answer.url
    sent.headers = requests.structures.CaseInsensitiveDict(request.headers)
    sent.body = request.body if isinstance(request.body, (bytes, str)) else None
    return sent
