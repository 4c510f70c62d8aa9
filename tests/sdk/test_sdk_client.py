"""The client: endpoints, settings, requests, and that handles work wherever they are carried."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import threading
from typing import TYPE_CHECKING, TypeVar

import pytest
import requests
import urllib3

import aistore
from aistore.sdk import Bucket, Client, ColdGetConf, Namespace, RetryConfig
from aistore.sdk.errors import InvalidBckProvider, InvalidURLException
from aistore.sdk.obj.object import BucketDetails, Object
from aistore.sdk.provider import Provider
from aistore.sdk.response_handler import AISResponseHandler, ResponseHandler
from aistore.sdk.session_manager import SessionManager, resolve_ssl_config
from aistore.transport.request import Timeout
from answering import answering, client_of
from peer import Peer, always

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.sdk.errors import APIRequestError
    from aistore.sdk.request_client import RequestClient

ENDPOINT = "http://127.0.0.1:1"

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AIS_ENDPOINT", "AIS_CONNECT_TIMEOUT", "AIS_READ_TIMEOUT", "AIS_MAX_CONN_POOL", "AIS_AUTHN_TOKEN",
        "AIS_CLIENT_CA", "AIS_CRT", "AIS_CRT_KEY", "AIS_SKIP_VERIFY_CRT", "AIS_SKIP_VERIFY",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def settings(client: Client) -> RequestClient:
    return client.cluster().client


# -- settings --


def test_the_endpoint_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="AIS_ENDPOINT"):
        Client()
    monkeypatch.setenv("AIS_ENDPOINT", ENDPOINT)
    assert settings(Client()).base_url == f"{ENDPOINT}/v1"
    assert settings(Client("http://127.0.0.1:2/")).base_url == "http://127.0.0.1:2/v1"


def test_a_local_endpoint_is_found_or_started(local_dir: Path) -> None:
    client = Client(f"local:{local_dir}")
    client.bucket("b").create().object("o").get_writer().put_content(b"content")
    again = pickle.loads(pickle.dumps(client))
    assert again.bucket("b").object("o").get_reader().read_all() == b"content"


@pytest.mark.parametrize(
    ("given", "connect", "read", "expected"),
    [
        (None, None, None, Timeout(3.0, 20.0)),
        (None, "1.5", "0", Timeout(1.5, None)),
        (None, "soon", "-1", Timeout(3.0, 20.0)),
        (7, "1", "1", Timeout(7, 7)),
        ((1, 2), None, None, Timeout(1, 2)),
        (0, None, None, Timeout(None, None)),
        ((0, 2), None, None, Timeout(None, 2)),
    ],
)
def test_timeouts(
    monkeypatch: pytest.MonkeyPatch,
    given: float | tuple[float, float] | None,
    connect: str | None,
    read: str | None,
    expected: Timeout,
) -> None:
    for name, value in (("AIS_CONNECT_TIMEOUT", connect), ("AIS_READ_TIMEOUT", read)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert settings(Client(ENDPOINT, timeout=given)).transport.timeout == expected


def test_a_negative_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Client(ENDPOINT, timeout=-1)


@pytest.mark.parametrize(
    ("given", "variable", "expected"), [(None, None, 10), (None, "3", 3), (5, "3", 5), (None, "x", 10)]
)
def test_pool_size(monkeypatch: pytest.MonkeyPatch, given: int | None, variable: str | None, expected: int) -> None:
    if variable is not None:
        monkeypatch.setenv("AIS_MAX_CONN_POOL", variable)
    assert settings(Client(ENDPOINT, max_pool_size=given)).transport.pool_size == expected


def test_the_seventh_argument_was_a_retry_policy_before_it_was_the_token() -> None:
    config = RetryConfig.default()
    assert settings(Client(ENDPOINT, False, None, None, None, None, "secret")).token == "secret"
    with_policy = settings(Client(ENDPOINT, False, None, None, None, None, config))
    given: object = with_policy.transport.retry
    assert given is config
    assert with_policy.token == ""
    with pytest.warns(DeprecationWarning, match="retry_config"):
        old = settings(Client(ENDPOINT, False, None, None, None, None, urllib3.Retry(total=9), "secret"))
    assert old.token == "secret"
    assert old.transport.retry is not None
    assert old.transport.retry.http_retry.total == 9  # type: ignore[union-attr]  # a RetryConfig, given above


def test_the_old_retry_argument_replaces_one_layer() -> None:
    with pytest.warns(DeprecationWarning, match="retry_config"):
        client = Client(ENDPOINT, retry=urllib3.Retry(total=4))
    assert settings(client).transport.retry.http_retry.total == 4  # type: ignore[union-attr]  # a RetryConfig, given above


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIS_AUTHN_TOKEN", "from-environment")
    assert settings(Client(ENDPOINT)).token == "from-environment"
    assert settings(Client(ENDPOINT, token="given")).token == "given"


def test_tls_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_ssl_config() == (True, None)
    monkeypatch.setenv("AIS_CRT", "cert")
    assert resolve_ssl_config() == (True, None)
    monkeypatch.setenv("AIS_CRT_KEY", "key")
    monkeypatch.setenv("AIS_CLIENT_CA", "ca")
    assert resolve_ssl_config() == ("ca", ("cert", "key"))
    assert resolve_ssl_config(ca_cert="mine", client_cert="one") == ("mine", "one")
    monkeypatch.setenv("AIS_SKIP_VERIFY", "yes")
    assert resolve_ssl_config(ca_cert="mine")[0] is False
    monkeypatch.setenv("AIS_SKIP_VERIFY_CRT", "no")
    assert resolve_ssl_config()[0] == "ca"


def test_an_unverified_client_says_so_once() -> None:
    with pytest.warns(UserWarning, match="insecure"):
        client = Client("https://127.0.0.1:1", skip_verify=True)
    assert settings(pickle.loads(pickle.dumps(client))).session_manager.skip_verify


# -- requests of one's own --


def test_a_request_of_ones_own() -> None:
    with Peer(always(200, b'{"a": 1}', "Content-Type: application/json")) as peer:
        client = settings(client_of(peer))
        response = client.request(
            "put", "/some/path", params={"x": "a b", "none": None}, json={"k": [1]}, headers={"Ais-X": "y"}, timeout=3
        )
        assert isinstance(response, requests.Response)
        assert response.json() == {"a": 1}
        received = peer.requests[0]
        assert (received.method, received.target, received.body) == ("PUT", "/v1/some/path?x=a+b", b'{"k":[1]}')
        assert (received.headers["ais-x"], received.headers["content-type"]) == ("y", "application/json")
        assert client.request_deserialize("get", "x", dict[str, int]) == {"a": 1}
        assert client.get_full_url("x", {"y": "z"}) == f"{peer.url}/v1/x?y=z"


def test_a_request_to_another_endpoint() -> None:
    with Peer(always(200, b"here")) as here, Peer(always(200, b"there")) as there:
        client = settings(client_of(here))
        assert client.request("get", "x", endpoint=there.url).content == b"there"
        assert client.clone(there.url).request("get", "x").content == b"there"
        assert client.request("get", "x").content == b"here"


def test_a_streamed_answer() -> None:
    with Peer(always(200, b"0123456789")) as peer:
        response = settings(client_of(peer)).request("get", "x", stream=True)
        assert list(response.iter_content(4)) == [b"0123", b"4567", b"89"]
        again = settings(client_of(peer)).request("get", "x", stream=True)
        assert again.raw.read(3) == b"012"
        again.close()


def test_answers_pickle() -> None:
    with Peer(always(200, b"content", "Ais-X: y")) as peer:
        response = pickle.loads(pickle.dumps(settings(client_of(peer)).request("get", "x")))
        assert (response.status_code, response.content, response.headers["ais-x"]) == (200, b"content", "y")


def test_a_judge_of_ones_own() -> None:
    class Judge(AISResponseHandler):
        def parse_error(self, r: requests.Response) -> APIRequestError:
            error = super().parse_error(r)
            error.message = "judged"
            return error

    with Peer(always(400, b"no")) as peer:
        client = settings(client_of(peer)).clone(response_handler=Judge())
        with pytest.raises(aistore.AISError) as caught:
            client.request("get", "x")
        assert caught.value.message == "judged"
        client.transport.close()


def test_a_judge_raises_what_an_answer_means() -> None:
    handler: ResponseHandler = AISResponseHandler()
    with Peer(answering(lambda _: (404, b'bucket "ais://b" does not exist'))) as peer:
        with pytest.raises(FileNotFoundError) as caught:
            handler.handle_response(requests.get(f"{peer.url}/v1/buckets/b", timeout=5))
        assert isinstance(caught.value, handler.exc_class)
        assert isinstance(caught.value.__cause__, requests.HTTPError)
    with Peer(always(200, b"fine")) as peer:
        assert handler.handle_response(requests.get(peer.url, timeout=5)).text == "fine"


def test_a_session_with_the_same_settings() -> None:
    manager = SessionManager(max_pool_size=3)
    with Peer(always(200, b"fine")) as peer:
        assert manager.session is manager.session
        assert manager.session.get(peer.url, timeout=5).text == "fine"
        manager.session.close()
    assert pickle.loads(pickle.dumps(manager)).max_pool_size == 3


# -- handles --


def test_names_of_handles() -> None:
    bucket = Client(ENDPOINT).bucket("b", "s3", Namespace(uuid="u", name="n"))
    assert (bucket.provider, bucket.get_path()) == (Provider.AMAZON, "aws/@u#n/b/")
    assert bucket.qparam == {"provider": "aws", "namespace": "@u#n"}
    bucket.qparam["provider"] = "changed"
    assert bucket.qparam["provider"] == "aws"
    named = bucket.object("a b/ü?")
    assert (named.uname, named.get_semantic_url()) == ("aws/@u#n/b/a b/ü?", "aws://b/a b/ü?")
    assert named.get_url() == f"{ENDPOINT}/v1/objects/b/a%20b/%C3%BC%3F?provider=aws&namespace=%40u%23n"
    assert [repr(one) for one in (bucket, named)] == ["<Bucket aws://@u#n/b>", "<Object aws://@u#n/b/a b/ü?>"]


def test_a_bucket_without_a_client_says_what_it_lacks() -> None:
    bucket = Bucket("b")
    assert bucket.name == "b"
    for use in (bucket.list_objects, lambda: bucket.object("o"), bucket.create):
        with pytest.raises(ValueError, match="has no client"):
            use()


def test_an_object_made_by_hand() -> None:
    details = BucketDetails("b", Provider.AIS, {"provider": "ais", "namespace": "@#n"}, "ais/@#n/b/")
    made = Object(settings(Client(ENDPOINT)), details, "o")
    assert (made.uname, made.query_params) == ("ais/@#n/b/o", details.qparams)


@pytest.mark.parametrize("url", ["", "bck/obj", "ais://bck", "ais://bck/", "ais:///obj"])
def test_what_is_no_url_of_an_object(url: str) -> None:
    with pytest.raises(InvalidURLException):
        Client(ENDPOINT).get_object_from_url(url)


def test_a_url_of_an_unknown_provider() -> None:
    with pytest.raises(InvalidBckProvider, match=r"one of ais, aws/s3, azure, gcp/gs, oci"):
        Client(ENDPOINT).get_object_from_url("http://host/x")


def test_names_that_official_releases_removed_still_work(bucket: Bucket, client: Client) -> None:
    made = bucket.object("o")
    with pytest.warns(DeprecationWarning, match="get_writer"):
        made.put_content(b"content")
    with pytest.warns(DeprecationWarning, match="get_reader"):
        assert made.get(byte_range="bytes=0-2").read_all() == b"con"
    with pytest.warns(DeprecationWarning, match="use head"):
        attributes = made.head_v2("size")
    with pytest.warns(DeprecationWarning, match="use ObjectAttributes"):
        from aistore.sdk.obj.object_attributes import ObjectAttributesV2
    assert isinstance(attributes, ObjectAttributesV2)
    assert attributes.size == 7
    with pytest.warns(DeprecationWarning, match="get_object_from_url"):
        assert client.fetch_object_by_url("ais://b/o").name == "o"


def test_head_serves_both_worlds(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content(b"content", custom_metadata={"k": "v"})
    head = bucket.object("o").head()
    assert (head.size, head.custom_metadata, head.name, head.bucket_name) == (7, {"k": "v"}, "o", bucket.name)
    assert (head["Content-Length"], head["ais-checksum-type"], head["Ais-Name"]) == ("7", "xxhash2", "o")
    assert head.etag
    assert head.last_modified


# -- carried about --


def _read(made: Object) -> bytes:
    return made.get_reader().read_all()


def _pickled(one: T) -> T:
    again: T = pickle.loads(pickle.dumps(one))
    return again


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_handles_work_in_other_processes(bucket: Bucket, method: str) -> None:
    bucket.object("o").get_writer().put_content(b"content")
    made = bucket.object("o")
    assert _read(made) == b"content"
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_read, [made] * 6) == [b"content"] * 6
    assert _read(made) == b"content"


def test_handles_pickle_and_copy(bucket: Bucket, client: Client) -> None:
    bucket.object("o").get_writer().put_content(b"content")
    bucket.object("o").head()
    for carry in (_pickled, copy.copy, copy.deepcopy):
        assert carry(client).bucket(bucket.name).object("o").get_reader().read_all() == b"content"
        assert carry(bucket).object("o").get_reader().read_all() == b"content"
        assert carry(bucket.object("o")).get_reader().read_all() == b"content"
        assert b"".join(carry(bucket.object("o").get_reader())) == b"content"
        assert carry(bucket.objects(obj_names=["o"])).list_names() == ["o"]
        assert carry(client.cluster()).is_ready()


def test_threads_share_a_client(bucket: Bucket) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                content = f"{number}-{turn}".encode() * 100
                bucket.object(f"o-{number}").get_writer().put_content(content)
                assert bucket.object(f"o-{number}").get_reader().read_all() == content
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# -- values --


def test_a_retry_configuration_keeps_what_pickles() -> None:
    from tenacity import Retrying, stop_after_attempt

    config = RetryConfig(
        urllib3.Retry(total=2), Retrying(stop=stop_after_attempt(3), before_sleep=lambda _: None), ColdGetConf(7)
    )
    back = pickle.loads(pickle.dumps(config))
    assert (back.http_retry.total, back.cold_get_conf) == (2, ColdGetConf(7))
    assert back.network_retry.stop.max_attempt_number == 3
    assert pickle.loads(pickle.dumps(RetryConfig.default())).http_retry.total == 5


def test_models_in_messages_become_documents() -> None:
    with Peer(always()) as peer:
        value = {"bck": client_of(peer).bucket("b").as_model()}
        client_of(peer).cluster().client.request("post", "x", json=value)
        assert json.loads(peer.requests[0].body) == {"bck": {"name": "b", "provider": "ais"}}
