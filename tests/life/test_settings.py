"""What a server may be started with, and what a wrong setting says."""

from __future__ import annotations

from pathlib import Path

import pytest

from aistore import LocalCluster
from aistore.server.limits import NodeLimits
from aistore.server.settings import ServerSettings, SettingsError, is_loopback, make_settings, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("1KiB", 1024),
        ("1 kB", 1000),
        ("1.5G", 1_500_000_000),
        ("10GiB", 10 << 30),
        ("2Ti", 2 << 40),
        (7, 7),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1iB", "1XB", "0x10", "1 GiB free"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"port": 70000}, "port 70000 is not between 0"),
        ({"targets": 0}, "targets 0 is not between 1 and"),
        ({"targets": 65}, "targets 65 is not between 1 and 64"),
        ({"durability": "lax"}, "neither 'strict' nor 'relaxed'"),
        ({"promote_root": "here"}, "promote_root 'here' is not an absolute path"),
        ({"capacity": 10}, "capacity 10 bytes is too small"),
        ({"log_level": "loud"}, "none of debug, info"),
        ({"idle_exit": -1.0}, "idle_exit -1.0 is negative"),
        ({"host": "0.0.0.0"}, "--allow-remote"),
        ({"allow_hosts": ["http://a"]}, "'http://a' is not the name of a host"),
        ({"host": "::"}, "--allow-remote"),
        ({"grace": -1.0}, "limits.grace = -1.0 is not between 0 and 3600"),
        ({"public_host": "http://a:80"}, "public_host 'http://a:80' is not a name"),
        ({"host": "example.org"}, "--allow-remote"),
        ({"authn_port": 0}, "--authn local"),
        ({"authn_port": 52001, "authn": "http://127.0.0.1:52001"}, "--authn local"),
        ({"authn_ca": "ca.pem"}, "--authn https://"),
        ({"authn_ca": "ca.pem", "authn": "local"}, "--authn https://"),
    ],
)
def test_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_settings(None, setting, default_port=0)


def test_a_local_cluster_refuses_the_port_of_an_authn_server_that_it_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="authn = 'local'"):
        LocalCluster(tmp_path / "data", authn_port=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert ServerSettings(Path("/data"), host=host).host == host


def test_other_hosts_have_to_be_allowed() -> None:
    assert ServerSettings(Path("/data"), host="0.0.0.0", allow_remote=True).host == "0.0.0.0"


def test_file_and_options(tmp_path: Path) -> None:
    file = tmp_path / "ais.toml"
    file.write_text(
        'data_dir = "here"\nport = 9000\nlimits = {grace = 2.5, memory = "1GiB"}\ncapacity = "1GiB"\ntargets = 2\nallow_hosts = ["dev.example"]\n[backends.aws]\nregion = "eu-north-1"\n'
    )
    settings = make_settings(file, {"port": 9001, "targets": None}, default_port=8080)
    assert settings == ServerSettings(
        tmp_path / "here",
        port=9001,
        targets=2,
        capacity=1 << 30,
        allow_hosts=("dev.example",),
        limits=NodeLimits(grace=2.5, memory=1 << 30),
        backends={"aws": {"region": "eu-north-1"}},
    )
    assert ServerSettings.decode(settings.encode()) == settings
    assert make_settings(file, {"grace": 4.0}, default_port=0).limits == NodeLimits(grace=4.0, memory=1 << 30)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "there is no setting 'prot'; did you mean 'port'"),
        ("role = 'target'", r"there is no setting 'role' \(there are data_dir"),
        ("port = '80'", "port = '80' is not a whole number"),
        ("port = true", "port = True is not a whole number"),
        ("allow_remote = 1", "allow_remote = 1 is not true or false"),
        ("allow_hosts = 'a'", "allow_hosts = 'a' is not a list"),
        ("allow_hosts = [1]", "allow_hosts has to be a list of names"),
        ("capacity = 'lots'", "'lots' is not a size"),
        ("[backends.aws]\nregion = 1", "backends.aws has to be a table of strings"),
        ("limits = 3", "limits = 3 is not a table"),
        ("[limits]\nconections = 3", "limits.conections: there is no such limit; did you mean 'connections'"),
        ("[limits]\nno = 3", r"limits.no: there is no such limit \(there are connections, per_address"),
        ("[limits]\nhead = 0", "limits.head = 0 is not between 1 and 3600"),
        ("[limits]\ngrace = nan", "limits.grace = nan is not between 0 and 3600"),
        ("[limits]\nidle = '1 minute'", "limits.idle = '1 minute' is not a number of seconds"),
        ("[limits]\nmemory = 'much'", "limits.memory = 'much' is not a size; write for example 512MiB"),
        ("[limits]\nmemory = '1KiB'", "limits.memory = '1KiB' is not between"),
        ("[limits]\njobs = 1.5", "limits.jobs = 1.5 is not a whole number"),
        ("[limits]\nconnections = true", "limits.connections = True is not a whole number"),
        ("port = ", "is not TOML"),
    ],
)
def test_wrong_file(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "ais.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        make_settings(file, {}, default_port=0)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere\.toml"):
        make_settings(tmp_path / "nowhere.toml", {}, default_port=0)
