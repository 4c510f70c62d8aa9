"""Retries: the user's policies decide, the log tells, and the last failure names everything (protocol/00 18)."""

from __future__ import annotations

import io
import logging
import re
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import requests
import tenacity
import urllib3

from aistore.transport.blocking import Transport
from aistore.transport.defaults import http_retry, network_retry
from aistore.transport.errors import (
    BodyNotReplayable,
    ConnectionFailed,
    ConnectionLost,
    ConnectionRefused,
    IncompleteBody,
    MalformedAnswer,
    NameNotResolved,
    ReadTimeout,
    RetriesExhausted,
    TlsError,
    TransportError,
)
from aistore.transport.request import Request, Timeout
from peer import Peer, PeerConnection, always, echo, once
from policies import Policy

if TYPE_CHECKING:
    from collections.abc import Callable


NOBODY = "http://127.0.0.1:1"
"""Where nobody listens, nor will: a port that was free a moment ago may be somebody else's server now."""


def answers(*statuses: int, headers: tuple[str, ...] = ()) -> Callable[[PeerConnection], None]:
    """A script that answers with these statuses in turn; the last one stays."""

    def script(connection: PeerConnection) -> None:
        for number in range(100):
            status = statuses[min(number, len(statuses) - 1)]
            received = connection.request()
            extra = headers if status >= 400 else ()
            connection.answer(status, b'{"message":"no room","status":503}' if status >= 400 else received.body, *extra)

    return script


class TestStatus:
    """Repeats after an error status, by `urllib3.Retry`."""

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_what_may_be_repeated_is(self, method: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
        with Peer(answers(status, status, 200)) as peer:
            transport = Transport(peer.url, retry=Policy(total=3))
            body = None if method == "GET" else io.BytesIO(b"body")
            with caplog.at_level(logging.WARNING, "aistore.transport"):
                response = transport.exchange(Request(method, "o", body=body))
            assert (response.status, response.content) == (200, b"" if body is None else b"body")
            assert (len(peer.requests), peer.connections) == (3, 1)
            assert [r.getMessage() for r in caplog.records] == [
                f"{method} {peer.url}/v1/o answered {status}; repeated in 0.0 s"
            ] * 2
            transport.close()

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_what_may_not_be_repeated_is_the_answer(self, method: str) -> None:
        with Peer(answers(503)) as peer:
            transport = Transport(peer.url, retry=Policy(total=3))
            assert transport.exchange(Request(method, "o", body=b"{}")).status == 503
            assert len(peer.requests) == 1
            transport.close()

    @pytest.mark.parametrize(("status", "attempts"), [(500, 1), (502, 1), (504, 1), (429, 3), (503, 3)])
    def test_an_append_is_repeated_only_if_the_server_did_not_begin_it(self, status: int, attempts: int) -> None:
        with Peer(answers(status, status, 200)) as peer:
            transport = Transport(peer.url, retry=Policy(total=3))
            answer = transport.exchange(Request("PUT", "o", "append_type=append", body=b"part"))
            assert (answer.status, len(peer.requests)) == (status if attempts == 1 else 200, attempts)
            transport.close()

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 416, 423, 501])
    def test_answers_of_a_healthy_cluster_are_never_repeated(self, status: int) -> None:
        policy = Policy()
        policy.http_retry = urllib3.Retry(total=3, status_forcelist=[404, 409, 503])
        with Peer(answers(status)) as peer:
            transport = Transport(peer.url, retry=policy)
            assert transport.exchange(Request("GET", "o")).status == status
            assert len(peer.requests) == 1
            transport.close()

    def test_the_last_answer_is_in_the_error(self) -> None:
        with Peer(answers(503)) as peer:
            transport = Transport(peer.url, retry=Policy(total=2))
            with pytest.raises(RetriesExhausted, match="too many 503 error responses: no room") as error:
                transport.exchange(Request("GET", "o"))
            assert isinstance(error.value, requests.exceptions.RetryError)
            assert (error.value.status, error.value.message, error.value.attempts) == (503, "no room", 3)
            assert (error.value.method, error.value.url) == ("GET", f"{peer.url}/v1/o")
            assert len(peer.requests) == 3
            transport.close()

    def test_a_policy_that_does_not_raise_gives_the_last_answer(self) -> None:
        policy = Policy()
        policy.http_retry = urllib3.Retry(total=1, status_forcelist=[503], raise_on_status=False)
        with Peer(answers(503)) as peer:
            transport = Transport(peer.url, retry=policy)
            assert transport.exchange(Request("GET", "o")).status == 503
            assert len(peer.requests) == 2
            transport.close()

    def test_waits_follow_the_policy_or_the_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr("aistore.transport.blocking.time.sleep", waits.append)
        policy = Policy()
        with Peer(answers(503, 503, 503, 503, 503, 200)) as peer:
            policy.http_retry = http_retry()
            transport = Transport(peer.url, retry=policy)
            transport.exchange(Request("GET", "o"))
            transport.close()
        assert waits == [0, 6, 12, 24, 48]
        for said, wait in (("7", 7), ("soon", 0)):  # what is neither a number nor a date says nothing
            waits.clear()
            with Peer(answers(503, 200, headers=(f"Retry-After: {said}",))) as peer:
                transport = Transport(peer.url, retry=policy)
                assert transport.exchange(Request("GET", "o")).status == 200
                transport.close()
            assert waits == [wait]

    @pytest.mark.parametrize("said", ["121", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"])
    def test_no_server_makes_a_client_wait_for_ever(self, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aistore.transport.blocking.time.sleep", pytest.fail)
        with Peer(answers(503, headers=(f"Retry-After: {said}",))) as peer:
            transport = Transport(peer.url, retry=Policy(total=1))
            if len(said) < 100:
                assert transport.exchange(Request("GET", "o")).status == 503
                assert len(peer.requests) == 1
            else:  # it means nothing
                monkeypatch.undo()
                with pytest.raises(RetriesExhausted):
                    transport.exchange(Request("GET", "o"))
            transport.close()

    def test_a_request_is_not_repeated_when_its_caller_no_longer_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aistore.transport.blocking.time.sleep", pytest.fail)
        with Peer(answers(503, headers=("Retry-After: 60",)), once(b"")) as peer:
            transport = Transport(peer.url, retry=None)
            request = Request("GET", "o")
            request.until = time.monotonic() + 30
            assert transport.exchange(request).status == 503
            transport.close()
            request.until = 0.0
            with pytest.raises(ConnectionLost):
                transport.exchange(request)
            transport.close()

    def test_the_same_url_is_asked_again_after_a_redirect(self) -> None:
        with Peer(answers(503, 200)) as target, Peer(always(307, b"", f"Location: {target.url}/x")) as gate:
            transport = Transport(gate.url, retry=Policy(total=1))
            response = transport.exchange(Request("GET", "o"))
            assert response.status == 200
            assert (len(gate.requests), len(target.requests)) == (1, 2)
            transport.close()

    def test_a_consumed_body_is_not_sent_again(self) -> None:
        with Peer(answers(503, 200)) as peer:
            transport = Transport(peer.url, retry=Policy(total=3))
            assert transport.exchange(Request("PUT", "o", body=iter([b"x"]))).status == 503
            assert len(peer.requests) == 1
            transport.close()

    def test_the_default_is_that_of_the_protocol(self) -> None:
        retry = http_retry()
        assert (retry.total, retry.backoff_factor, retry.connect, retry.read) == (5, 3.0, 0, 0)
        assert all(retry.is_retry("GET", s) for s in (429, 500, 502, 503, 504))
        assert not any(retry.is_retry("GET", s) for s in (400, 404, 409, 501, 507))
        assert not retry.is_retry("POST", 503)

    def test_connect_and_read_repeats_of_the_policy_ask_the_same_url(self) -> None:
        policy = Policy()
        policy.http_retry = urllib3.Retry(total=5, read=2, connect=1)
        with (
            Peer(once(b""), once(b""), always(200, b"third")) as target,
            Peer(always(307, b"", f"Location: {target.url}/x")) as gate,
        ):
            transport = Transport(gate.url, retry=policy)
            assert transport.exchange(Request("GET", "o")).content == b"third"
            assert (len(gate.requests), len(target.requests)) == (1, 3)
            transport.close()


class TestNetwork:
    """Attempts after failures of the network, by `tenacity.Retrying`."""

    @pytest.mark.parametrize(
        ("data", "error", "documented"),
        [
            (b"", ConnectionLost, requests.ConnectionError),
            (b"HTTP/1.1 20", ConnectionLost, requests.ConnectionError),
            (b"garbage\r\n\r\n", MalformedAnswer, requests.ConnectionError),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
                IncompleteBody,
                requests.exceptions.ChunkedEncodingError,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
                IncompleteBody,
                requests.exceptions.ChunkedEncodingError,
            ),
        ],
    )
    def test_every_attempt_starts_at_the_endpoint(
        self, data: bytes, error: type[TransportError], documented: type[Exception], caplog: pytest.LogCaptureFixture
    ) -> None:
        with Peer(once(data)) as target, Peer(always(307, b"", f"Location: {target.url}/x")) as gate:
            transport = Transport(gate.url, retry=Policy(3))
            with caplog.at_level(logging.WARNING, "aistore.transport"), pytest.raises(error) as raised:
                transport.exchange(Request("GET", "o"))
            assert isinstance(raised.value, documented)
            assert (raised.value.attempts, raised.value.method, raised.value.url) == (3, "GET", f"{target.url}/x")
            assert "3 attempts" in str(raised.value)
            assert (len(gate.requests), len(target.requests)) == (3, 3)
            assert [r.getMessage().rpartition("; ")[2] for r in caplog.records] == [
                "attempt 2 follows in 0.0 s",
                "attempt 3 follows in 0.0 s",
            ]
            transport.close()

    def test_an_attempt_that_succeeds_is_the_answer(self) -> None:
        with Peer(once(b""), once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), echo) as peer:
            transport = Transport(peer.url, retry=Policy(3))
            body = io.BytesIO(b"0123")
            body.read(1)
            assert transport.exchange(Request("PUT", "o", body=body)).content == b"123"
            assert [r.body for r in peer.requests] == [b"123"] * 3
            transport.close()

    def test_a_body_that_can_be_read_once_is_never_replayed(self) -> None:
        with Peer(once(b""), echo) as peer:
            transport = Transport(peer.url, retry=Policy(3))
            with pytest.raises(BodyNotReplayable) as error:
                transport.exchange(Request("PUT", "o", body=iter([b"one", b"two"])))
            assert isinstance(error.value.__cause__, ConnectionLost)
            assert peer.connections == 1

    def test_a_body_that_was_not_touched_is_sent(self) -> None:
        with ExitStack() as stack, socket.socket() as kept:
            kept.bind(("127.0.0.1", 0))  # nobody else gets the port, and who connects to it is refused
            port = kept.getsockname()[1]

            def start(_: object) -> None:
                kept.close()
                stack.enter_context(Peer(echo, port=port))

            policy = Policy(2, before_sleep=start)
            transport = Transport(f"http://127.0.0.1:{port}", retry=policy)
            assert transport.exchange(Request("PUT", "o", body=iter([b"one", b"two"]))).content == b"onetwo"
            transport.close()

    def test_an_append_that_may_have_run_is_not_repeated(self) -> None:
        with Peer(once(b""), echo) as peer:
            transport = Transport(peer.url, retry=Policy(3))
            with pytest.raises(ConnectionLost):
                transport.exchange(Request("PUT", "o", "append_type=append", body=b"part"))
            assert len(peer.requests) == 1

    def test_hooks_of_the_policy_run(self) -> None:
        seen: list[tuple[str, int]] = []
        policy = Policy(
            3,
            before=lambda state: seen.append(("before", state.attempt_number)),
            after=lambda state: seen.append(("after", state.attempt_number)),
            before_sleep=lambda state: seen.append(("sleep", state.attempt_number)),
            wait=tenacity.wait_fixed(0.5),
            sleep=lambda seconds: seen.append(("slept", int(seconds * 10))),
        )
        with Peer(once(b""), once(b""), echo) as peer:
            transport = Transport(peer.url, retry=policy)
            assert transport.exchange(Request("GET", "o")).status == 200
            transport.close()
        one = [("before", 1), ("after", 1), ("sleep", 1), ("slept", 5)]
        assert seen == [*one, ("before", 2), ("after", 2), ("sleep", 2), ("slept", 5), ("before", 3)]

    def test_a_policy_without_reraise_raises_its_own_error(self) -> None:
        transport = Transport(NOBODY, retry=Policy(2, reraise=False))
        with pytest.raises(tenacity.RetryError) as error:
            transport.exchange(Request("GET", "o"))
        assert isinstance(error.value.last_attempt.exception(), ConnectionRefused)

    def test_a_policy_that_is_switched_off(self) -> None:
        if "enabled" not in tenacity.Retrying.__init__.__code__.co_varnames:
            pytest.skip("this tenacity has no switch")
        with Peer(once(b"")) as peer:
            with pytest.raises(ConnectionLost):
                Transport(peer.url, retry=Policy(3, enabled=False)).exchange(Request("GET", "o"))
            assert len(peer.requests) == 1

    def test_what_is_no_failure_of_the_network_is_not_repeated(self) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise RuntimeError("disk on fire")

        with Peer(echo) as peer:
            transport = Transport(peer.url, retry=Policy(3))
            with pytest.raises(RuntimeError, match="disk on fire"):
                transport.exchange(Request("PUT", "o", body=Broken(b"x")))
            assert transport.exchange(Request("GET", "o")).status == 200
            transport.close()

    def test_a_retrying_of_another_kind_is_refused(self) -> None:
        policy = Policy()
        policy.network_retry = tenacity.AsyncRetrying()  # type: ignore[assignment]  # what a user may do wrong
        with pytest.raises(TypeError, match=r"tenacity\.Retrying, not AsyncRetrying"):
            Transport(NOBODY, retry=policy).exchange(Request("GET", "o"))

    def test_the_configuration_may_be_made_when_it_is_needed(self) -> None:
        made: list[Policy] = []

        def make() -> Policy:
            made.append(Policy(2))
            return made[-1]

        with Peer(always(404), once(b"")) as peer:
            transport = Transport(peer.url, retry=make)
            assert transport.exchange(Request("GET", "o")).status == 404
            transport.close()
            for _ in range(2):
                with pytest.raises(ConnectionLost, match="2 attempts"):
                    transport.exchange(Request("GET", "o"))
            assert len(made) == 1


class TestDefault:
    """The policy of a client that was given none."""

    def test_seven_attempts_with_growing_random_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        retrying = network_retry().copy(sleep=waits.append)
        policy = Policy()
        policy.network_retry = retrying
        with Peer(once(b"")) as peer:
            with pytest.raises(ConnectionLost, match="7 attempts"):
                Transport(peer.url, retry=policy).exchange(Request("GET", "o"))
            assert len(peer.requests) == 7
        assert all(1 <= wait <= bound for wait, bound in zip(waits, (1, 2, 4, 8, 16, 30), strict=True))

    def test_a_loopback_address_that_refuses_is_given_up_soon(self) -> None:
        with pytest.raises(ConnectionRefused, match=r"is the server running\? Start one with `ais serve`") as error:
            Transport(NOBODY).exchange(Request("GET", "o"))
        assert 1 < error.value.attempts < 7

    @pytest.mark.parametrize(("code", "attempts"), [(socket.EAI_NONAME, range(2, 7)), (socket.EAI_AGAIN, range(7, 8))])
    def test_a_name_that_does_not_exist_is_given_up_soon(
        self, code: int, attempts: range, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def resolve(*_: object, **__: object) -> None:
            raise socket.gaierror(code, "says the name service")

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        policy = Policy()
        policy.network_retry = network_retry()
        if code == socket.EAI_AGAIN:  # goes through all its waits
            policy.network_retry = policy.network_retry.copy(sleep=lambda _: None)
        with pytest.raises(NameNotResolved) as error:
            Transport("http://gatewy", retry=policy).exchange(Request("GET", "o"))
        assert error.value.attempts in attempts

    @pytest.mark.parametrize(
        "failure", [MalformedAnswer("no HTTP", "GET", "http://h/"), RetriesExhausted(503, "", "GET", "http://h/")]
    )
    def test_what_waiting_cannot_heal_is_not_repeated(self, failure: TransportError) -> None:
        assert self.decision(failure) is False

    def test_a_certificate_that_does_not_verify_is_not_repeated(self) -> None:
        failure = TlsError("untrusted", "GET", "https://h/")
        assert self.decision(failure) is True
        failure.untrusted = True
        assert self.decision(failure) is False

    @pytest.mark.parametrize("kind", [NameNotResolved, ReadTimeout, ConnectionFailed, IncompleteBody])
    def test_what_may_pass_is_repeated(self, kind: type[TransportError]) -> None:
        assert self.decision(kind("x", "GET", "http://h/")) is True

    def decision(self, failure: TransportError) -> bool:
        retrying = network_retry()
        state = tenacity.RetryCallState(retrying, None, (), {})
        state.set_exception((type(failure), failure, None))
        return bool(retrying.retry(state))


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(NameNotResolved, match=r"host 'nowhere\.invalid' has no address") as error:
        Transport("http://nowhere.invalid", retry=Policy()).exchange(Request("GET", "o"))
    assert isinstance(error.value, requests.ConnectionError)


def test_a_name_that_is_none() -> None:
    with pytest.raises(NameNotResolved):
        Transport(f"http://{'a' * 64}.example", retry=Policy()).exchange(Request("GET", "o"))


def test_an_address_that_does_not_answer() -> None:
    # A full backlog: the kernel drops further connection requests.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        fillers[0].connect(listener.getsockname())
        for filler in fillers[1:]:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=Timeout(0.1, 5), retry=Policy())
        with pytest.raises(requests.ConnectTimeout, match="within the connect timeout"):
            transport.exchange(Request("GET", "o"))
        for filler in fillers:
            filler.close()


def test_a_call_on_an_object_goes_to_the_endpoint_when_nobody_answers_at_its_target() -> None:
    with Peer(always(200, b"content")) as gate:
        base = f"{NOBODY}/v1"
        transport = Transport(gate.url, retry=Policy(2))
        request = Request("GET", "objects/b/o", "provider=ais", (("Ais-X", "y"),), base=base)
        response = transport.exchange(request)
        assert (response.content, response.url) == (b"content", f"{gate.url}/v1/objects/b/o?provider=ais")
        assert (response.request.base, request.base) == (None, base)
        assert gate.requests[0].headers["ais-x"] == "y"
        with pytest.raises(ConnectionRefused, match=re.escape(base)):
            Transport(gate.url, retry=Policy(1)).exchange(request)
        # What only this node can tell, the gateway is not asked.
        with pytest.raises(ConnectionRefused, match=re.escape(base)):
            transport.exchange(Request("GET", "health", base=base))
        assert len(gate.requests) == 1
        transport.close()
