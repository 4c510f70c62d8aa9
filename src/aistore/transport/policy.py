"""What follows an answer or a failure: redirects, retries, waiting. Generators without I/O, driven by the blocking and the asyncio transport.

Two layers, as the reference's client has them (protocol/00 18): the inner one repeats against the same URL after an error status, the
outer one starts again from the endpoint after a failure of the network, so that a new target can be chosen; so it does with a read
that went to a target directly.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from aistore.transport import cold_get
from aistore.transport.redirect import FOLLOWED, MAX_REDIRECTS, keeps_token, resolve
from aistore.transport.url import shown_url
from aistore.wire import params as param

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from aistore.http1.payload import Payload
    from aistore.transport.errors import TransportError
    from aistore.transport.request import Request
    from aistore.transport.retry import NetworkRetries, Rules, StatusRetries
    from aistore.transport.url import Origin

__all__ = ["Answer", "Leg", "Sleep", "recover", "transport_error"]

log = logging.getLogger("aistore.transport")

_NO_TIME = frozenset((429, 503))
_INTERNAL_ERROR = 500


class Answer(Protocol):
    """What the decisions need to know of a response."""

    request: Request
    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields."""
        ...

    @property
    def url(self) -> str:
        """Where it came from."""
        ...

    @property
    def content(self) -> bytes:
        """The body of an answer that is no success, which is always read at once."""
        ...


A = TypeVar("A", bound=Answer)


class Leg(NamedTuple):
    """One way of a request over the network; `authorized` says whether the token may be shown."""

    request: Request
    payload: Payload | None
    origin: Origin
    target: str
    authorized: bool = True

    @property
    def url(self) -> str:
        """The URL asked, as it may be shown."""
        return shown_url(self.origin, self.target)


class Sleep(NamedTuple):
    """Wait before the next leg; `sleep` is how the user's policy wants a blocking client to."""

    seconds: float
    sleep: Callable[[float], None] | None = None


def recover(
    first: Leg, outcome: A | TransportError, rules: Rules, started: float, make_leg: Callable[[Request], Leg]
) -> Generator[Leg | Sleep, A | TransportError | None, A]:
    """Make the best of the `outcome` of `first`: yields legs (answered by a response or the error that it failed with) and sleeps.

    Returns the last response whatever its status; raises the last failure when no attempt is left. `started` is when the first leg began
    (`time.monotonic`); `make_leg` addresses a request of the transport's own to the endpoint.
    """
    network: NetworkRetries | None = None
    direct = first.request.base is not None and first.request.path.startswith("objects/")
    while True:
        try:
            return (yield from _same_url(first, outcome, rules))
        except Exception as e:
            failure = transport_error(e)
        if network is None:
            network = rules.network_retries(started)
        failure.attempts = max(failure.attempts, network.attempt)
        wait = network.after(failure)
        if _too_late(first.request, wait):
            raise failure
        _refuse_unless_repeatable(first, failure)
        if cold_get.applies(first.request) and _is_read_timeout(failure):
            yield from _wait_for_object(first, rules, make_leg)
        network.before_sleep()
        if direct:  # the gateway knows who has the object now, and nothing was wrong with it
            first, direct, wait = make_leg(_through_endpoint(first.request)), False, 0.0
        log.warning("%s; attempt %d follows in %.1f s", failure, network.attempt + 1, wait)
        yield Sleep(wait, network.sleep)
        network.next_attempt()
        outcome = yield from _ask(first)


def _through_endpoint(request: Request) -> Request:
    again = type(request)(
        request.method, request.path, request.query, request.headers, request.body, request.stream, request.timeout
    )
    again.until = request.until
    return again


def _ask(leg: Leg) -> Generator[Leg | Sleep, A | TransportError | None, A | TransportError]:
    outcome = yield leg
    assert outcome is not None  # only a sleep is answered by nothing
    return outcome


def _same_url(
    leg: Leg, outcome: A | TransportError, rules: Rules
) -> Generator[Leg | Sleep, A | TransportError | None, A]:
    """The inner layer: follow redirects, repeat after error statuses."""
    retries: StatusRetries | None = None
    redirects = 0
    renewed = False
    while True:
        if isinstance(outcome, Exception):
            retries = retries or rules.status_retries()
            wait = retries.after_failure(outcome)
            if wait is None or _too_late(leg.request, wait):
                raise outcome
            _refuse_unless_repeatable(leg, outcome)
            log.warning("%s; repeated in %.1f s", outcome, wait)
            yield Sleep(wait)
        elif outcome.status in FOLLOWED:
            redirects += 1
            leg = _redirected(leg, outcome, redirects)
        elif outcome.status == 401 and not renewed and rules.renew_token() and _can_repeat(leg):
            renewed = True
        elif rules.may_repeat(outcome.status) and (rules.given or not _is_verdict(leg.request, outcome.status)):
            retries = retries or rules.status_retries()
            wait = retries.after_answer(outcome)
            if wait is None or _too_late(leg.request, wait):
                return outcome
            if not _was_refused_unseen(leg.request, outcome.status) or not _can_repeat(leg):
                return outcome
            log.warning("%s %s answered %d; repeated in %.1f s", leg.request.method, leg.url, outcome.status, wait)
            yield Sleep(wait)
        else:
            return outcome
        outcome = yield from _ask(leg)


def transport_error(failure: Exception) -> TransportError:
    """`failure`, if it is one of the network; anything else is raised."""
    # Imported here and below only when something failed: it loads requests.
    from aistore.transport.errors import TransportError

    if not isinstance(failure, TransportError):
        raise failure
    return failure


def _is_read_timeout(failure: TransportError) -> bool:
    from aistore.transport.errors import ReadTimeout

    return isinstance(failure, ReadTimeout)


def _redirected(leg: Leg, answer: Answer, count: int) -> Leg:
    method, url = leg.request.method, leg.url
    location = answer.headers.get("Location")
    if count > MAX_REDIRECTS or location is None:
        from aistore.transport.errors import MalformedAnswer, TooManyRedirects

        if location is None:
            raise MalformedAnswer(f"redirect {answer.status} without Location", method, url)
        raise TooManyRedirects(
            f"more than {MAX_REDIRECTS} redirects: the cluster's nodes send the request in a circle", method, url
        )
    try:
        origin, target = resolve(location, leg.origin, leg.target)
    except ValueError as e:
        from aistore.transport.errors import MalformedAnswer

        raise MalformedAnswer(
            f"redirect {answer.status} to {location[:200]!r}, which is no http:// or https:// URL", method, url
        ) from e
    if not _can_repeat(leg):
        from aistore.transport.errors import BodyNotReplayable

        advice = "the body had been sent, and it can be read only once: pass bytes or a seekable file"
        raise BodyNotReplayable(f"redirected to {origin} after {advice}", method, url)
    return leg._replace(
        origin=origin, target=target, authorized=leg.authorized and keeps_token(leg.request, leg.origin, origin)
    )


def _too_late(request: Request, wait: float) -> bool:
    return request.until is not None and time.monotonic() + wait > request.until


def _can_repeat(leg: Leg) -> bool:
    return leg.payload is None or leg.payload.rewind()


def _refuse_unless_repeatable(leg: Leg, failure: TransportError) -> None:
    """Raise, instead of repeating `leg`, when its body is gone or when a second execution would not be the same as one."""
    if is_append(leg.request) and not failure.before_sending:
        raise failure
    if not _can_repeat(leg):
        from aistore.transport.errors import BodyNotReplayable

        advice = "it cannot be tried again, because the body can be read only once: pass bytes or a seekable file"
        raise BodyNotReplayable(
            f"{failure.reason}; {advice}", failure.method, failure.url, failure.attempts
        ) from failure


def _was_refused_unseen(request: Request, status: int) -> bool:
    """Whether an append may be sent again after an error status: only those that say that the server had no time for it."""
    return status in _NO_TIME or not is_append(request)


def _is_verdict(request: Request, status: int) -> bool:
    """Whether a transformer refuses an object: it would do so again, and the caller learns why at once instead of in a minute and a half."""
    return status == _INTERNAL_ERROR and f"{param.ETL_NAME}=" in request.query


def is_append(request: Request) -> bool:
    """An append that was executed unseen and is sent again would store its bytes twice."""
    return request.method == "PUT" and "append_type=" in request.query


def _wait_for_object(
    first: Leg, rules: Rules, make_leg: Callable[[Request], Leg]
) -> Generator[Leg | Sleep, A | TransportError | None, None]:
    """Poll the object's lock; whatever fails meanwhile is only logged (protocol/00 19)."""
    steps = cold_get.poll(first.request, rules.cold_get())
    try:
        step = next(steps)
        while True:
            if isinstance(step, float):
                yield Sleep(step)
                step = steps.send((0, None))
                continue
            leg = make_leg(step)
            answer: A = yield from _same_url(leg, (yield from _ask(leg)), rules)
            step = steps.send((answer.status, answer.headers.get("Content-Length")))
    except StopIteration:
        return
    except Exception as e:
        log.warning("waiting for %s failed: %s", first.url, e)
