"""Which answers are errors, and which ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import requests

from aistore.calls.judge import error_class
from aistore.sdk.errors import AISError, APIRequestError

__all__ = ["AISResponseHandler", "ResponseHandler"]

if TYPE_CHECKING:
    from requests import PreparedRequest, Response


class ResponseHandler(ABC):
    """Judges answers: gives good ones back, raises what the others mean."""

    @property
    @abstractmethod
    def exc_class(self) -> type[APIRequestError]:
        """Base class of the errors of this handler."""

    @abstractmethod
    def parse_error(self, r: Response) -> APIRequestError:
        """The error that an answer means."""

    def handle_response(self, r: Response) -> Response:
        """The answer, if its status is 200..399; raises the error that it means otherwise."""
        if 200 <= r.status_code < 400:
            return r
        error = self.parse_error(r)
        try:
            r.raise_for_status()
        except requests.HTTPError as cause:
            raise error from cause
        raise error


class AISResponseHandler(ResponseHandler):
    """Judges answers of the cluster (protocol/00 8.5)."""

    @property
    def exc_class(self) -> type[APIRequestError]:
        """`AISError`."""
        return AISError

    def parse_error(self, r: Response) -> APIRequestError:
        """The error that an answer of the cluster means."""
        sent: PreparedRequest = r.request
        return error_class(r.status_code, sent.method or "", r.text)(r.status_code, r.text, sent.url or r.url, sent)
