"""Which answers of an AuthN server are errors, and which ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.sdk.authn import errors
from aistore.sdk.response_handler import ResponseHandler

if TYPE_CHECKING:
    from requests import Response

    from aistore.sdk.errors import APIRequestError

__all__ = ["AuthNResponseHandler"]

# By status and what the text of the answer names; of several the last one counts (protocol/60 19).
_MEANINGS: dict[int, dict[str, type[errors.AuthNError]]] = {
    401: {"invalid credentials": errors.ErrUserInvalidCredentials},
    404: {
        "access key ": errors.ErrAccessKeyNotFound,
        "cluster ": errors.ErrClusterNotFound,
        "role ": errors.ErrRoleNotFound,
        "user ": errors.ErrUserNotFound,
    },
    409: {
        "cluster ": errors.ErrClusterAlreadyRegistered,
        "role ": errors.ErrRoleAlreadyExists,
        "user ": errors.ErrUserAlreadyExists,
    },
}


class AuthNResponseHandler(ResponseHandler):
    """Judges answers of an AuthN server."""

    @property
    def exc_class(self) -> type[APIRequestError]:
        """`AuthNError`."""
        return errors.AuthNError

    def parse_error(self, r: Response) -> APIRequestError:
        """The error that an answer means."""
        found: type[errors.AuthNError] = errors.AuthNError
        for text, meaning in _MEANINGS.get(r.status_code, {}).items():
            if text in r.text:
                found = meaning
        return found(r.status_code, r.text, r.request.url or r.url, r.request)
