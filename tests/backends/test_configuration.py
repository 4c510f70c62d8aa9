"""How backends are configured, and what is said where they are not, or wrongly."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from aistore import LocalCluster
from aistore.sdk.errors import AISError
from aistore.server.backends.options import check_backends, cloud_config, configured_clouds
from aistore.server.settings import ServerSettings, SettingsError, make_settings, parse_backends
from aistore.wire.props import Extra, ExtraAws, ExtraGcp
from backends.places import CloudPlace
from calling import Caller

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.sdk import Client
    from backends.places import Place

_CLOUD_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_", "STORAGE_EMULATOR")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without cloud settings; the home folder."""
    for name in list(os.environ):
        if name.startswith(_CLOUD_VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_provider_is_configured_by_table_or_by_its_usual_variables(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured_clouds({}) == []
    assert configured_clouds({"gcp": {}}) == ["gcp"]
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert configured_clouds({}) == ["aws"]


def test_the_bucket_comes_before_the_table_and_that_before_the_environment(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"endpoint": "http://table", "region": "eu-table", "access_key_id": "T", "ranges": "cache"}
    found = cloud_config("aws", table, Extra())
    assert found == {"endpoint": "http://table", "region": "eu-table", "access_key_id": "T"}
    nearest = Extra(aws=ExtraAws(cloud_region="eu-bucket", endpoint="http://bucket"))
    assert cloud_config("aws", table, nearest)["endpoint"] == "http://bucket"
    assert cloud_config("aws", table, nearest)["region"] == "eu-bucket"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://environment")  # read by obstore where nothing else is said
    assert "endpoint" not in cloud_config("aws", {}, Extra())


def test_profiles_of_the_shared_files_are_read(bare: Path) -> None:
    (bare / ".aws").mkdir()
    (bare / ".aws" / "credentials").write_text("[work]\naws_access_key_id = A\naws_secret_access_key = S\n")
    (bare / ".aws" / "config").write_text("[profile work]\nregion = eu-west-3\n")
    found = cloud_config("aws", {}, Extra(aws=ExtraAws(profile="work")))
    assert found == {"access_key_id": "A", "secret_access_key": "S", "region": "eu-west-3"}
    with pytest.raises(SettingsError, match="'other' is in neither"):
        cloud_config("aws", {"profile": "other"}, Extra())


def test_a_malformed_file_of_profiles_is_not_shown(bare: Path) -> None:
    (bare / ".aws").mkdir()
    (bare / ".aws" / "credentials").write_text("aws_secret_access_key = S3CRET\n")
    with pytest.raises(SettingsError, match="not a file of profiles") as caught:
        cloud_config("aws", {}, Extra(aws=ExtraAws(profile="work")))
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [None, "S3CRET", '"S3CRET"', '{"type": "S3CRET"}', "[1]", "[" * 60_000, b"\xff\xfe"]
)
def test_a_file_that_a_client_names_is_not_shown(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as caught:
        cloud_config("gcp", {}, Extra(gcp=ExtraGcp(application_creds=str(path))))
    assert str(caught.value).endswith("does not name a file with credentials that this server can read")


def test_a_pipe_that_a_client_names_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError):
        cloud_config("gcp", {}, Extra(gcp=ExtraGcp(application_creds=str(tmp_path / "pipe"))))


def test_credentials_that_a_bucket_names_are_used(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"type": "service_account"}')
    found = cloud_config("gcp", {}, Extra(gcp=ExtraGcp(application_creds=str(tmp_path / "key.json"))))
    assert found["application_credentials"] == str(tmp_path / "key.json")


@pytest.mark.parametrize(
    ("backends", "said"),
    [
        ({"oci": {}}, "supported are ais"),
        ({"ht": {}}, "supported are ais"),
        ({"ais": {"far": "somewhere"}}, "not the URL of a cluster"),
        ({"aws": {"ranges": "some"}}, "neither 'pass' nor 'cache'"),
        ({"aws": {"skip_verify": "yes"}}, "neither 'true' nor 'false'"),
        ({"ais.far": {"endpoint": "somewhere"}}, "not the URL of a cluster"),
        ({"ais.far": {"tokn": "x"}}, "there are endpoint, token"),
        ({"ais.far": {"token": "x"}}, "no endpoint that it is for"),
    ],
)
def test_what_cannot_be_a_backend_is_refused(backends: dict[str, dict[str, str]], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_backends(backends)


@pytest.mark.parametrize(("text", "said"), [("aws=foo", "write for example aws,"), ("ais", "which cluster")])
def test_what_the_command_line_cannot_mean_is_refused(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_backends([text])


@pytest.mark.parametrize(
    "backends",
    [
        {"aws": {"endpoint": "http://user:S3CRET@127.0.0.1"}},
        {"gcp": {"base_url": "https://S3CRET@host/x"}},
        {"ais": {"far": "http://user:S3CRET@host"}},
        {"ais.far": {"endpoint": "http://user:S3CRET@host"}},
    ],
)
def test_an_endpoint_with_a_password_is_refused_and_not_shown(backends: dict[str, dict[str, str]]) -> None:
    with pytest.raises(SettingsError, match="has a user or a password in it") as caught:
        check_backends(backends)
    assert "S3CRET" not in str(caught.value)
    check_backends({"aws": {"endpoint": "http://127.0.0.1:9000/a@b"}})


def test_settings_do_not_show_keys(tmp_path: Path) -> None:
    assert "S3CRET" not in repr(ServerSettings(tmp_path, backends={"aws": {"secret_access_key": "S3CRET"}}))


def test_options_of_the_command_line_come_over_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "ais.toml"
    file.write_text('[backends.aws]\nregion = "eu-west-1"\nendpoint = "http://old"\n[backends.gcp]\n')
    given = parse_backends(["aws=http://127.0.0.1:9000", "azure"])
    settings = make_settings(file, {"data_dir": tmp_path, "backends": given}, 0)
    assert settings.backends == {
        "aws": {"region": "eu-west-1", "endpoint": "http://127.0.0.1:9000"},
        "gcp": {},
        "azure": {},
    }
    with pytest.raises(SettingsError, match="aws=http"):
        parse_backends(["aws=9000"])


def test_a_wrong_key_is_refused_with_bucket_and_endpoint_named(places: dict[str, Place]) -> None:
    place = places.get("s3")
    if not isinstance(place, CloudPlace):
        pytest.skip("no S3 server")
    name = place.new_bucket()
    options = {**place.options, "secret_access_key": "wrong"}
    with LocalCluster(backends={"aws": options}) as near, near.client() as client:
        with pytest.raises(AISError) as caught:
            client.bucket(name, "aws").object("x").get_reader().read_all()
        assert caught.value.status_code == 403
        for part in (f"s3://{name}", place.relay.address, "SignatureDoesNotMatch", "credentials"):
            assert part in str(caught.value)
        assert client.cluster().list_buckets("aws") == []
        logs = "".join(path.read_text() for path in near.path.glob("*.log"))
        assert "wrong" not in logs


def test_an_option_that_there_is_not_is_named(bare: Path) -> None:
    with LocalCluster(backends={"aws": {"bogus": "1"}}) as near, near.client() as client:
        with pytest.raises(AISError) as caught:
            client.bucket("b", "aws").object("x").get_reader().read_all()
        assert caught.value.status_code == 400
        assert "bogus" in str(caught.value)


def test_buckets_of_an_account_are_listed_with_those_that_were_asked_for(
    places: dict[str, Place], near: LocalCluster, near_client: Client
) -> None:
    for place in places.values():
        if place.provider not in ("aws", "azure"):
            continue
        names = {place.new_bucket() for _ in range(2)}
        listed = {bucket.name for bucket in near_client.cluster().list_buckets(place.provider)}
        assert names <= listed
        with Caller(near.url) as call:
            present = call("GET", f"/v1/buckets?provider={place.provider}&presence=2", b'{"action": "list"}')
        assert not names & {bucket["name"] for bucket in json.loads(present.body)}


def test_buckets_of_an_account_that_cannot_be_listed_are_those_that_were_asked_for(
    places: dict[str, Place], near_client: Client
) -> None:
    for place in places.values():
        if place.provider in ("aws", "azure"):
            name = place.new_bucket()
            place.seen_from(near_client, name).head()
            place.relay.cut_off()
            try:
                assert name in {bucket.name for bucket in near_client.cluster().list_buckets(place.provider)}
            finally:
                place.relay.restore()


def test_a_provider_that_is_not_configured_is_said_to_be(near_client: Client) -> None:
    with pytest.raises(AISError, match="OCI backend is missing"):
        near_client.bucket("b", "oci").object("x").get_reader().read_all()
