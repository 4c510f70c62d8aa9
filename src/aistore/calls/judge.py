"""Which error a refused request means (protocol/00 8.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.wire.errors import ERROR_HEADER, ErrorKind, classify

if TYPE_CHECKING:
    import requests

    from aistore.calls.steps import Answer
    from aistore.sdk.errors import AISError

__all__ = ["error_class", "error_of", "text_of"]

# Servers that tell the type of an error know better than its text, in which a namespace looks like an object.
_BY_TYPE: dict[str, ErrorKind] = {
    "ErrBckNotFound": "bucket-not-found",
    "ErrRemoteBckNotFound": "remote-bucket-not-found",
}


def error_class(status: int, method: str, text: str) -> type[AISError]:
    """Class of the error that an answer means, from its whole text; `method` is that of the last request."""
    from aistore.sdk import errors

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

    text = text_of(answer)
    sent = prepared(answer)
    error = error_class(answer.status, answer.request.method, text)(answer.status, text, answer.url, sent)
    if 400 <= answer.status < 600:
        who = "Client" if answer.status < 500 else "Server"
        what = f"{answer.status} {who} Error: {answer.reason} for url: {answer.url}"
        error.__cause__ = requests.HTTPError(what, response=error.response)
    return error


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
