"""What imports load, and what the packages export."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aistore
import aistore.client
import aistore.sdk

HEAVY = ("asyncio", "msgspec", "pydantic", "requests", "ssl", "tenacity", "urllib3", "dataclasses", "inspect")


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Which of the heavy modules a program loads."""
    tell = f"import sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}", *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_else() -> None:
    assert loaded_by("import aistore, sys; assert not [n for n in sys.modules if n.startswith('aistore.sdk')]") == set()


def test_a_client_and_a_read_load_no_heavy_module(cluster: aistore.LocalCluster) -> None:
    bucket = cluster.client().bucket("lazy-imports").create(exist_ok=True)
    bucket.object("o").get_writer().put_content(b"content")
    code = (
        "import sys\n"
        "from aistore.sdk import Client\n"
        "reader = Client(sys.argv[1]).bucket('lazy-imports').object('o').get_reader()\n"
        "assert reader.read_all() == b'content'"
    )
    assert loaded_by(code, cluster.url) == set()


def test_a_listing_loads_no_models(cluster: aistore.LocalCluster) -> None:
    cluster.client().bucket("lazy-imports").create(exist_ok=True)
    code = "import sys\nfrom aistore.sdk import Client\nClient(sys.argv[1]).bucket('lazy-imports').list_all_objects()"
    assert not loaded_by(code, cluster.url) & {"pydantic", "requests", "ssl", "tenacity", "asyncio"}


def test_public_names() -> None:
    assert aistore.__all__ == ["AISError", "AsyncClient", "Client", "LocalCluster", "__version__"]
    assert aistore.sdk.__all__ == [
        "AISSource",
        "ArchiveConfig",
        "Batch",
        "BlobDownloadConfig",
        "Bucket",
        "Client",
        "Cluster",
        "ColdGetConf",
        "DataShard",
        "Etl",
        "Job",
        "ListObjectFlag",
        "Namespace",
        "Object",
        "RetryConfig",
        "WaitResult",
    ]


@pytest.mark.parametrize("name", aistore.sdk.__all__)
def test_names_of_the_sdk_are_there_and_listed(name: str) -> None:
    assert getattr(aistore.sdk, name).__name__ == name
    assert name in dir(aistore.sdk)


@pytest.mark.parametrize("module", [aistore, aistore.sdk, aistore.client])
def test_unknown_names_are_attribute_errors(module: object) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # type: ignore[attr-defined]  # noqa: B018  that is the point


def test_the_oldest_import_path_still_leads_to_the_client() -> None:
    with pytest.warns(DeprecationWarning, match=r"aistore\.sdk\.client"):
        assert aistore.client.Client is aistore.sdk.Client
    with pytest.warns(DeprecationWarning, match="BucketModel"):
        assert aistore.client.Bck(name="b", provider="ais").as_dict() == {"name": "b", "provider": "ais"}
