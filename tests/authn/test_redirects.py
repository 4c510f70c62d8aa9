"""What a gateway signs for its targets: good for one call, for a minute, and nobody makes it say more."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from aistore.http1.message import parse_params
from aistore.server.authn.signing import Signer, new_key
from aistore.wire import access
from aistore.wire.values import base36
from guarding import As, Guarded, token

if TYPE_CHECKING:
    from types import SimpleNamespace


def test_a_redirect_is_good_for_what_was_asked_and_for_nothing_else(guarded3: Guarded) -> None:
    name = f"redirect-{uuid.uuid4().hex[:8]}"
    with guarded3.admin as root, guarded3.having(0, {name: access.GET | access.HEAD_OBJECT}) as user:
        root.make_bucket(name)
        assert root.put(name, "o", b"content").status == 200
        connection = http.client.HTTPConnection(urlsplit(guarded3.url).netloc)
        shown = {"Authorization": f"Bearer {token(guarded3.uuid, 0, {name: access.GET})}"}
        connection.request("GET", f"/v1/objects/{name}/o", headers=shown)
        location = urlsplit(connection.getresponse().headers["Location"])
        connection.close()
        with As(f"http://{location.netloc}", None) as stranger:
            path, query = location.path, location.query
            assert stranger("GET", f"{path}?{query}").body == b"content"
            assert stranger("HEAD", f"{path}?{query}").status == 403
            assert stranger("PUT", f"{path}?{query}", b"x").status == 403
            assert stranger("DELETE", f"{path}?{query}").status == 403
            assert stranger("GET", f"{path}x?{query}").status == 403
            assert stranger("GET", f"{path}?{query}&etl_name=x").status == 403
            unsigned = urlencode([pair for pair in parse_qsl(query) if pair[0] != "sig"])
            assert stranger("GET", f"{path}?{unsigned}").status == 401
            assert stranger("GET", f"{path}?{unsigned}&sig=x").status == 403
            assert stranger("PUT", f"{path}?{unsigned}", b"x").status == 401
        with As(f"http://{location.netloc}", token(guarded3.uuid, 0, {name: access.GET})) as direct:
            assert direct.get(name, "o").body == b"content"
            assert direct("PUT", f"{path}?{unsigned}", b"x").status == 403
        assert user.get(name, "o").body == b"content"
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


def test_the_message_of_a_redirect_is_not_changed(guarded3: Guarded) -> None:
    """What may look at a lock may not rename."""
    name = f"message-{uuid.uuid4().hex[:8]}"
    with guarded3.admin as root:
        root.make_bucket(name)
        assert root.put(name, "o", b"content").status == 200
        connection = http.client.HTTPConnection(urlsplit(guarded3.url).netloc)
        shown = {"Authorization": f"Bearer {token(guarded3.uuid, 0, {name: access.READ})}"}
        asked = json.dumps({"action": "check-lock"}).encode()
        connection.request("POST", f"/v1/objects/{name}/o", asked, shown)
        location = urlsplit(connection.getresponse().headers["Location"])
        connection.close()
        other = json.dumps({"action": "rename-obj", "name": "else"}).encode()
        with As(f"http://{location.netloc}", None) as stranger:
            assert stranger("POST", f"{location.path}?{location.query}", other).status == 403
            assert stranger("POST", f"{location.path}?{location.query}", asked).status == 200
        assert root.get(name, "o").status == 200
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


def asked_at(moment: int) -> tuple[Signer, SimpleNamespace]:
    from types import SimpleNamespace

    signer = Signer(new_key())
    query = signer.marked("GET", "/v1/objects/b/o", "a=1", "p", since=base36(moment))
    return signer, SimpleNamespace(method="GET", path="/v1/objects/b/o", query=query, params=parse_params(query))


@pytest.mark.parametrize(("age", "good"), [(0, True), (50, True), (70, False), (-70, False)])
def test_a_signature_lasts_a_minute(age: int, good: bool) -> None:
    signer, request = asked_at(time.time_ns() - age * 1_000_000_000)
    assert signer.is_good(request) is good  # type: ignore[arg-type]  # as much of a request as it looks at


def test_a_signature_of_another_cluster_is_not_good() -> None:
    _, request = asked_at(time.time_ns())
    assert not Signer(new_key()).is_good(request)  # type: ignore[arg-type]


def test_the_gateway_asks_its_targets(guarded3: Guarded) -> None:
    """Calls that a gateway relays need its signature, not a token."""
    with guarded3.having(access.SHOW_CLUSTER) as user:
        found = json.loads(user("GET", "/v1/cluster?what=sysinfo").body)
        smap = json.loads(user("GET", "/v1/daemon?what=smap").body)
        assert found["target"].keys() == smap["tmap"].keys()
        for target in smap["tmap"]:
            got = user("GET", "/v1/reverse/daemon?what=snode", headers={"Ais-Node-Id": target})
            assert json.loads(got.body)["daemon_id"] == target


def redirected(guarded: Guarded, bearer: str, path: str, method: str = "GET") -> str:
    """Where the gateway sends somebody."""
    connection = http.client.HTTPConnection(urlsplit(guarded.url).netloc)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {bearer}"})
        return connection.getresponse().headers["Location"]
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["utm", "%75tm"])
def test_nobody_chooses_when_a_redirect_is_good(guarded3: Guarded, name: str) -> None:
    """Else a token that ends today would be good for signatures of next year."""
    bucket = f"later-{uuid.uuid4().hex[:8]}"
    later = base36(time.time_ns() + 86_400 * 10**9)
    with guarded3.admin as root:
        root.make_bucket(bucket)
        assert root.put(bucket, "o", b"content").status == 200
        reader = token(guarded3.uuid, 0, {bucket: access.GET})
        location = urlsplit(redirected(guarded3, reader, f"/v1/objects/{bucket}/o?{name}={later}&pid=x&sig="))
        given = parse_qsl(location.query)
        assert [key for key, _ in given] == ["pid", "utm", "sig"]
        assert abs(int(dict(given)["utm"], 36) - time.time_ns()) < 3600 * 10**9
        with As(f"http://{location.netloc}", None) as stranger:
            assert stranger("GET", f"{location.path}?{location.query}").body == b"content"
        root.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck")


def test_a_redirect_that_is_shown_again_gets_no_younger(guarded3: Guarded) -> None:
    bucket = f"again-{uuid.uuid4().hex[:8]}"
    with guarded3.admin as root:
        root.make_bucket(bucket)
        reader = token(guarded3.uuid, 0, {bucket: access.GET})
        first = urlsplit(redirected(guarded3, reader, f"/v1/objects/{bucket}/o"))
        second = urlsplit(redirected(guarded3, "", f"{first.path}?{first.query}"))
        assert dict(parse_qsl(second.query)) == dict(parse_qsl(first.query))
        root.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck")


def test_a_redirect_is_not_good_for_a_bucket_of_the_same_name_elsewhere(guarded3: Guarded) -> None:
    """The provider is read as it was sent: an encoded one is none, and must not become one on the way to a target."""
    bucket = f"elsewhere-{uuid.uuid4().hex[:8]}"
    with guarded3.admin as root:
        root.make_bucket(bucket)
        assert root.put(bucket, "o", b"content").status == 200
        reader = token(guarded3.uuid, 0, {bucket: access.GET})
        location = urlsplit(redirected(guarded3, reader, f"/v1/objects/{bucket}/o?%70rovider=aws"))
        assert "%70rovider=aws" in location.query
        with As(f"http://{location.netloc}", None) as stranger:
            other = location.query.replace("%70rovider", "provider")
            assert stranger("GET", f"{location.path}?{location.query}").body == b"content"
            assert stranger("GET", f"{location.path}?{other}").status == 403
        root.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck")
