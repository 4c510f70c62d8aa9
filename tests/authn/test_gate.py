"""Around the gate: whose rights count, and ways round it that there are not."""

from __future__ import annotations

import json
import time
import uuid

import pytest

from aistore import Client, LocalCluster
from aistore.sdk.errors import AISError
from aistore.wire import access
from guarding import SECRET, As, AuthnServer, Guarded, token

# -- whose entry counts --


def test_the_entry_of_a_bucket_counts_alone(there: Guarded, bucket: str) -> None:
    with there.having(access.ALL, {bucket: access.PUT}) as user:
        assert user.get(bucket, "o").status == 403
    with there.having(0, {bucket: access.GET}) as user:
        assert user.get(bucket, "o").status == 200
        assert user.put(bucket, "n", b"1").status == 403


def test_the_entry_for_any_cluster_counts_where_there_is_no_own_one(there: Guarded, bucket: str) -> None:
    anywhere = {"id": "", "perm": str(access.GET)}
    other = {"id": "another", "perm": str(access.ALL)}
    here = {"id": there.uuid, "perm": str(access.PUT)}
    for entries, status in (([anywhere], 200), ([anywhere, here], 403), ([other], 403)):
        with As(there.url, token(clusters=entries)) as user:
            assert user.get(bucket, "o").status == status


def test_the_right_of_administrators_is_no_right_on_objects(there: Guarded, bucket: str) -> None:
    with there.having(access.ADMIN) as user:
        assert user.get(bucket, "o").status == 403


def test_a_mask_of_the_bucket_binds_administrators_who_can_take_it_back(there: Guarded) -> None:
    name = f"mask-{uuid.uuid4().hex[:8]}"
    with there.admin as root:
        root.make_bucket(name)
        assert root.action("PATCH", f"/v1/buckets/{name}", "set-bprops", {"access": str(access.GET)}).status == 200
        assert root.put(name, "o", b"1").status == 403
        assert root("HEAD", f"/v1/buckets/{name}").status == 403
        mask = str(access.ALL)
        assert root.action("PATCH", f"/v1/buckets/{name}", "set-bprops", {"access": mask}).status == 200
        assert root.put(name, "o", b"1").status == 200
        root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


def test_buckets_of_the_system_are_for_administrators(there: Guarded) -> None:
    with there.having(access.ALL & ~access.ADMIN) as user, there.admin as root:
        for who, known in ((user, {403, 404}), (root, {200, 404})):
            assert who("HEAD", "/v1/buckets/.sys-inventory").status in known


def test_the_configuration_tells_that_tokens_are_asked_for_and_cannot_end_it(there: Guarded) -> None:
    with there.admin as root:
        told = json.loads(root("GET", "/v1/cluster?what=cluster_config").body)["auth"]
        assert told == {"enabled": True, "client_auth_required": True}
        for off in ({"auth": {"enabled": False}}, {"auth": {"client_auth_required": False}}):
            assert root.action("PUT", "/v1/cluster", "set-config", off).status == 501
        assert root("PUT", "/v1/cluster/set-config?auth.enabled=false").status == 501
    with As(there.url, None) as stranger:
        assert stranger("GET", "/v1/daemon?what=smap").status == 401


# -- which tokens --


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_without_a_token_nothing_is_done(there: Guarded, bucket: str, method: str) -> None:
    with As(there.url, None) as stranger, there.admin as root:
        got = stranger(method, f"/v1/objects/{bucket}/o", b"other" if method == "PUT" else None)
        assert got.status == 401
        if method == "HEAD":
            assert json.loads(got.headers["Hdr-Error"])["message"] == "token required"
        assert root.get(bucket, "o").body == b"content"


def test_the_words_of_a_refusal_do_not_show_the_token(there: Guarded, bucket: str) -> None:
    bad = token(secret="x" * 32)
    with As(there.url, bad) as stranger:
        got = stranger.get(bucket, "o")
    assert got.status == 401
    assert bad.split(".")[2].encode() not in got.body


def test_a_good_token_that_expires_is_refused(there: Guarded, bucket: str) -> None:
    until = int(time.time()) + 3
    with As(there.url, token(there.uuid, access.ALL, exp=until)) as user:
        assert user.get(bucket, "o").status in (200, 401)  # a slow machine may take as long
        while time.time() <= until:
            time.sleep(0.05)
        assert user.get(bucket, "o").status == 401


def test_easy_urls_and_surplus_slashes_are_no_way_round(there: Guarded, bucket: str) -> None:
    paths = (
        f"/ais/{bucket}/o",
        f"//v1/objects/{bucket}/o",
        f"/s3/{bucket}/o",
        f"/s3//{bucket}/o",
        f"//s3/{bucket}/o",
        f"/v1/objects/{bucket}//o",
    )
    with As(there.url, None) as stranger, there.having(access.CLUSTER_READ) as user, there.admin as root:
        for path in paths:
            assert stranger("GET", path).status in (401, 403), path
            assert user("GET", path).status == 403, path
            assert root("GET", path).status == 200, path


def test_names_are_read_without_regard_to_case_where_the_call_reads_them_so(there: Guarded, bucket: str) -> None:
    """A destination that the check overlooks would be written to."""
    value = {"objnames": ["o"], "TOBCK": {"name": "nowhere-else", "provider": "ais"}}
    with there.having(0, {bucket: access.WRITE}) as user:
        assert user.action("POST", f"/v1/buckets/{bucket}", "copy-listrange", value).status in (400, 403)
    with there.admin as root:
        assert root("HEAD", "/v1/buckets/nowhere-else").status == 404


def test_encoded_names_of_parameters_are_no_way_round(there: Guarded, bucket: str) -> None:
    """A copy whose destination the check overlooks."""
    other = f"other-{uuid.uuid4().hex[:8]}"
    with there.admin as root, there.having(0, {bucket: access.WRITE}) as user:
        root.make_bucket(other)
        for name in ("object_to", "object%5Fto", "%6fbject_to", "object%5fto"):
            got = user("PUT", f"/v1/objects/{bucket}/o?{name}=ais/@%23/{other}/stolen")
            assert got.status == 403, name
        assert root.names(other) == []
        root.action("DELETE", f"/v1/buckets/{other}", "destroy-bck")


def test_a_message_longer_than_what_is_read_at_once_is_checked_too(there: Guarded, bucket: str) -> None:
    names = {"objnames": ["x" * 500 + str(number) for number in range(400)] + ["o"]}
    with there.having(0, {bucket: access.READ}) as user, there.admin as root:
        assert user.action("DELETE", f"/v1/buckets/{bucket}", "delete-listrange", names).status == 403
        assert root.get(bucket, "o").status == 200


def test_transformers_are_for_administrators_and_transformed_objects_for_readers(
    authn: AuthnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aistore.sdk.etl import ETLConfig
    from aistore.sdk.etl.webserver import HTTPMultiThreadedServer

    class Upper(HTTPMultiThreadedServer):
        def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
            assert isinstance(data, bytes)
            return data.upper()

    monkeypatch.setenv("AIS_AUTHN_SECRET_KEY", SECRET)
    with LocalCluster(authn=authn.url, targets=2) as cluster:
        root = Client(cluster.url, token=token(admin=True))
        uuid = root.cluster().get_uuid()
        root.bucket("b").create().object("o").get_writer().put_content(b"one")
        for mask in (access.ALL & ~access.ADMIN, access.READ):
            with pytest.raises(AISError) as refused:
                Client(cluster.url, token=token(uuid, mask)).etl("etl-upper").init_class()(Upper)
            assert refused.value.status_code == 403
        root.etl("etl-upper").init_class()(Upper)
        mine = Client(cluster.url, token=token(uuid, 0, {"b": access.GET})).bucket("b").object("o")
        assert mine.get_reader(etl=ETLConfig("etl-upper")).read_all() == b"ONE"
        with pytest.raises(AISError) as refused:
            Client(cluster.url, token=token(uuid, 0, {"b": access.PUT})).bucket("b").object("o").get_reader(
                etl=ETLConfig("etl-upper")
            ).read_all()
        assert refused.value.status_code == 403
        job = root.bucket("b").transform(etl_name="etl-upper", to_bck=root.bucket("c"))
        root.job(job).wait()
        assert root.bucket("c").object("o").get_reader().read_all() == b"ONE"


def test_web_pages_are_kept_from_the_authn_server(authn: AuthnServer) -> None:
    with As(authn.url, None) as page:
        assert page("GET", "/v1/clusters").status == 200
        assert page("GET", "/v1/clusters", None, {"Host": "evil.example"}).status == 421
        assert page("POST", "/v1/users/admin", b"{}", {"Origin": "http://evil.example"}).status == 403


def test_clients_of_s3_show_a_token_as_that_of_their_session(there: Guarded, bucket: str) -> None:
    bearer = token(there.uuid, 0, {bucket: access.GET})
    with As(there.url, None) as user:
        session = {"X-Amz-Security-Token": bearer, "Authorization": "AWS4-HMAC-SHA256 Credential=x"}
        assert user("GET", f"/s3/{bucket}/o", None, session).body == b"content"
        assert user("PUT", f"/s3/{bucket}/n", b"1", session).status == 403
        got = user("GET", f"/s3/{bucket}/o")
        assert got.status == 403
        assert b"<Code>AccessDenied</Code>" in got.body


def test_what_another_bucket_holds_is_not_told_by_the_job_that_counts_it(there: Guarded, bucket: str) -> None:
    other = f"other-{uuid.uuid4().hex[:8]}"
    with there.admin as root, there.having(access.SHOW_CLUSTER, {other: access.HEAD_BUCKET}) as user:
        root.make_bucket(other)
        job = root.action("GET", f"/v1/buckets/{bucket}", "summary-bck", {}).body.decode()
        asked = {"uuid": job}
        assert user.action("GET", f"/v1/buckets/{bucket}", "summary-bck", asked).status == 403
        assert user.action("GET", f"/v1/buckets/{other}", "summary-bck", asked).status == 404
        assert user("HEAD", f"/v1/buckets/{other}?bsumm_remote=true&uuid={job}").status == 404
        assert root.action("GET", f"/v1/buckets/{bucket}", "summary-bck", asked).status in (200, 202)
        root.action("DELETE", f"/v1/buckets/{other}", "destroy-bck")


def test_buckets_of_the_system_are_made_by_administrators(there: Guarded, bucket: str) -> None:
    """Else whoever may copy could write what others take for an inventory."""
    system = ".sys-inventory"
    uname = f"ais/@%23/{system}/"
    rights = access.ALL & ~access.ADMIN
    with there.having(rights, {bucket: rights}) as user, there.admin as root:
        copied = user.action("POST", f"/v1/buckets/{bucket}?bck_to={uname}", "copy-bck", {})
        made = user.action("POST", f"/v1/buckets/{system}", "create-bck")
        moved = user.action("POST", f"/v1/buckets/{bucket}?bck_to={uname}", "move-bck")
        over_s3 = user("PUT", f"/s3/{system}")
        assert [got.status for got in (made, copied, moved, over_s3)] == [403] * 4
        assert root("HEAD", f"/v1/buckets/{bucket}").status == 200
        assert root("HEAD", f"/v1/buckets/{system}").status == 404
