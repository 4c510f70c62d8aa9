"""The one place where the blocking face meets the network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar, cast

from aistore.calls.query import encode_query
from aistore.calls.steps import Do, Local, Sleep
from aistore.sdk._settings import as_timeout
from aistore.sdk.session_manager import SessionManager
from aistore.transport.blocking import Transport
from aistore.transport.request import Request
from aistore.transport.url import base_url as base_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from aistore.calls.steps import Answer, Steps
    from aistore.http1.payload import Body
    from aistore.sdk.response_handler import ResponseHandler
    from aistore.sdk.retry_config import RetryConfig
    from aistore.sdk.types import Smap
    from aistore.transport.response import Response
    from aistore.transport.retry import RetryRules
    from aistore.transport.token import TokenFile

__all__ = ["RequestClient"]

T = TypeVar("T")


class RequestClient:
    """Sends requests to one cluster and raises what its refusals mean. Safe in threads and after a fork; pickles.

    `timeout` is one number of seconds or a pair (connect, read), None for the defaults. `response_handler` judges answers, by default as
    the cluster's (protocol/00 8.5).
    """

    __slots__ = (
        "_handler",
        "_retry_config",
        "_session_manager",
        "_smap",
        "_timeout",
        "_token",
        "endpoint",
        "exchange",
        "transport",
    )

    def __init__(
        self,
        endpoint: str,
        session_manager: SessionManager | None = None,
        timeout: float | tuple[float | None, float | None] | None = None,
        token: str | TokenFile | None = "",
        response_handler: ResponseHandler | None = None,
        retry_config: RetryConfig | None = None,
    ) -> None:
        self.endpoint = endpoint
        """As it was given; `local:` endpoints lead to a server that is found or started."""
        self._session_manager = session_manager or SessionManager()
        self._timeout = timeout
        self._token: str | TokenFile | None = token or ""
        self._handler = response_handler
        self._retry_config = retry_config
        self._smap: Smap | None = None
        tls = self._session_manager.tls
        if endpoint.startswith("local:"):
            from aistore.local import resolve, trust

            endpoint = resolve(endpoint)
            tls = trust(self.endpoint, endpoint, tls)
        self.transport = Transport(
            endpoint,
            timeout=as_timeout(timeout),
            retry=cast("RetryRules | None", retry_config),
            token=token or None,
            tls=tls,
            pool_size=self._session_manager.max_pool_size,
        )
        self.exchange = self.transport.exchange

    @property
    def base_url(self) -> str:
        """What the paths of calls are below: `http://host:port/v1`."""
        return self.transport.base_url

    @property
    def session_manager(self) -> SessionManager:
        """TLS settings and pool size."""
        return self._session_manager

    @property
    def timeout(self) -> float | tuple[float | None, float | None] | None:
        """Seconds to wait for a connection and for data, as given."""
        return self._timeout

    @property
    def token(self) -> str | None:
        """What authorizes the requests; empty or None for nothing."""
        return self.transport.token or (None if self._token is None else "")

    @token.setter
    def token(self, token: str | None) -> None:
        self._token = token
        self.transport.token = token

    # -- for the classes of the SDK --

    def fetch(self, request: Request) -> Response:
        """The good answer to a request; raises the error that another one means."""
        answer = self.exchange(request)
        if 200 <= answer.status < 400:
            return answer
        raise self.refusal(answer)

    def refusal(self, answer: Response) -> Exception:
        """The error that a bad answer means."""
        answer.content  # noqa: B018  a streamed body is read too, which frees its connection
        if self._handler is not None:
            from aistore.sdk._response import Response as RequestsResponse

            return self._handler.parse_error(RequestsResponse(answer))
        from aistore.calls.judge import error_of

        return error_of(answer)

    def run(self, steps: Steps[T]) -> T:
        """Do what a call wants done, until it returns."""
        try:
            effect = next(steps)
            while True:
                try:
                    answer: object = None
                    if type(effect) is Request:
                        answer = self.fetch(effect)
                    elif type(effect) is Sleep:
                        time.sleep(effect.seconds)
                    else:
                        assert isinstance(effect, (Do, Local))
                        answer = effect.function(*effect.arguments)
                except BaseException as error:  # the call decides what it means, and cleans up
                    effect = steps.throw(error)
                else:
                    effect = steps.send(cast("Answer", answer))
        except StopIteration as done:
            result: T = done.value
            return result

    # -- documented --

    def request(
        self,
        method: str,
        path: str,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, object] | None = None,
        data: Body | str = None,
        json: object = None,
        timeout: float | tuple[float | None, float | None] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Send a request below `/v1/` of the client's endpoint, or of another one, and return the answer.

        `params` are query parameters, the body is `data` or, encoded, `json`. With `stream` the body of the answer is read when it is asked
        for. Raises what the answer means if its status is no success.
        """
        body = data.encode() if isinstance(data, str) else data
        if json is not None:
            import msgspec

            body = msgspec.json.encode(json, enc_hook=_as_dict)
        lines = tuple((name, value) for name, value in (headers or {}).items() if value is not None)
        base = base_of(endpoint) if endpoint else None
        wait = as_timeout(timeout) if timeout is not None else None
        sent = Request(method.upper(), path.lstrip("/"), encode_query(params), lines, body, stream, wait, base)
        answer = self.fetch(sent)

        from aistore.sdk._response import Response

        return Response(answer)

    def request_deserialize(self, method: str, path: str, res_model: type[T], **kwargs: object) -> T:
        """Send a request and decode its answer to `res_model`."""
        from aistore.sdk.utils import decode_response

        return decode_response(res_model, self.request(method, path, **kwargs))  # type: ignore[arg-type]  # checked there

    def get_full_url(self, path: str, params: Mapping[str, object] | None) -> str:
        """URL of a path with query parameters."""
        query = encode_query(params)
        return f"{self.base_url}/{path.lstrip('/')}{'?' if query else ''}{query}"

    def get_smap(self, force_update: bool = False) -> Smap:
        """The cluster map, fetched once unless an update is forced."""
        if self._smap is None or force_update:
            from aistore.calls.cluster import smap

            self._smap = self.run(smap())
        return self._smap

    def clone(self, base_url: str | None = None, response_handler: ResponseHandler | None = None) -> RequestClient:
        """A client with the same settings, for another endpoint or judge of answers."""
        return RequestClient(
            base_url or self.endpoint,
            self._session_manager,
            self._timeout,
            self._token,
            response_handler or self._handler,
            self._retry_config,
        )

    def __reduce__(self) -> tuple[object, ...]:
        return RequestClient, (
            self.endpoint,
            self._session_manager,
            self._timeout,
            self._token,
            self._handler,
            self._retry_config,
        )

    def __repr__(self) -> str:
        return f"<RequestClient {self.base_url}>"


def _as_dict(value: object) -> object:
    """Models inside of messages."""
    for method in ("as_dict", "model_dump"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
