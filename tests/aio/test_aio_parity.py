"""Every public call of the blocking classes has its asyncio twin with the same parameters, and nothing that does I/O is a property."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

import aistore.aio
from aistore.sdk import AuthNClient, Batch, Bucket, Client, Cluster, Etl, Job, Object
from aistore.sdk.authn import ClusterManager
from aistore.sdk.authn.access_key_manager import AccessKeyManager
from aistore.sdk.authn.role_manager import RoleManager
from aistore.sdk.authn.token_manager import TokenManager
from aistore.sdk.authn.user_manager import UserManager
from aistore.sdk.dsort import Dsort
from aistore.sdk.multiobj import ObjectGroup
from aistore.sdk.obj.multipart_upload import MultipartUpload
from aistore.sdk.obj.obj_file.object_file import ObjectFileReader, ObjectFileWriter
from aistore.sdk.obj.object_reader import ObjectReader
from aistore.sdk.obj.object_writer import ObjectWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCKING = (
    Client,
    Cluster,
    Bucket,
    Object,
    ObjectReader,
    ObjectFileReader,
    ObjectWriter,
    ObjectFileWriter,
    ObjectGroup,
    Job,
    Etl,
    MultipartUpload,
    Batch,
    AuthNClient,
    ClusterManager,
    RoleManager,
    TokenManager,
    UserManager,
    AccessKeyManager,
    Dsort,
)
TWINS: dict[type, Any] = {cls: getattr(aistore.aio, f"Async{cls.__name__}") for cls in BLOCKING}

RENAMED = {
    "__iter__": "__aiter__",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
}

LEFT_OUT = {
    "Client.fetch_object_by_url": "removed by official 2.0",
    "Object.get": "removed by official 2.0",
    "Object.head_v2": "removed by official 2.0",
    "Object.put_content": "removed by official 2.0",
    "Object.put_file": "removed by official 2.0",
    "Object.append_content": "removed by official 2.0",
    "Object.set_custom_props": "removed by official 2.0",
    "Object.props": "a property that asks the cluster: await head()",
    "ObjectReader.attributes": "a property that asks the cluster: await head()",
}

LEFT_OUT_PARAMETERS = {
    "Object.get_reader": {"writer"},  # would ask the cluster at once: await reader.copy_to(writer)
}

ASKS_NOTHING = {
    "Client": {"batch", "bucket", "cluster", "dsort", "etl", "job", "get_object_from_url"},
    "Bucket": {"object", "objects", "get_path", "as_model", "verify_cloud_bucket"},
    "Object": {"get_reader", "get_writer", "get_url", "get_semantic_url", "multipart_upload"},
    "ObjectReader": {"as_file"},
    "ObjectFileReader": {"readable", "seekable", "tell"},
    "ObjectWriter": {"as_file"},
    "ObjectGroup": {"list_names"},
    "MultipartUpload": {"add_part"},
    "Batch": {"add", "clear"},
    "Etl": {"init_class", "validate_etl_name"},
    "AuthNClient": {"access_key_manager", "cluster_manager", "role_manager", "token_manager", "user_manager"},
}

PROPERTIES = {
    "Cluster": {"client"},
    "Bucket": {"client", "ref", "qparam", "provider", "name", "namespace"},
    "Object": {"bucket_name", "bucket_provider", "query_params", "name", "uname", "props_cached"},
    "ObjectFileReader": {"closed"},
    "ObjectGroup": {"client"},
    "Etl": {"name", "pipeline"},
    "Job": {"job_id", "job_kind"},
    "MultipartUpload": {"parts", "upload_id"},
    "Batch": {"requests_list"},
    "AuthNClient": {"client"},
    "ClusterManager": {"client"},
    "RoleManager": {"client"},
    "TokenManager": {"client"},
    "UserManager": {"client"},
    "AccessKeyManager": {"client"},
    "Dsort": {"dsort_id"},
}
"""Properties of blocking classes that ask nothing."""


def own_names(cls: type) -> Iterator[str]:
    """Public names that classes of ours give to `cls`, and what makes it a context manager or an iterator."""
    found = {name for base in cls.__mro__ if base.__module__.startswith("aistore.") for name in vars(base)}
    return (name for name in sorted(found) if not name.startswith("_") or name in RENAMED)


def calls() -> list[tuple[type, str]]:
    return [
        (cls, name)
        for cls in BLOCKING
        for name in own_names(cls)
        if f"{cls.__name__}.{name}" not in LEFT_OUT and name not in PROPERTIES.get(cls.__name__, ())
    ]


def parameters(function: Callable[..., object]) -> list[tuple[str, object]]:
    return [(one.name, one.default) for one in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(("cls", "name"), calls(), ids=lambda value: getattr(value, "__name__", value))
def test_every_call_has_its_twin(cls: type, name: str) -> None:
    call, twin = getattr(cls, name), getattr(TWINS[cls], RENAMED.get(name, name))
    assert not isinstance(call, property), "does it ask the cluster? then it is no property in the asyncio face"
    left_out = LEFT_OUT_PARAMETERS.get(f"{cls.__name__}.{name}", set())
    assert parameters(twin) == [one for one in parameters(call) if one[0] not in left_out]
    if name in ASKS_NOTHING.get(cls.__name__, ()) or name == "__iter__":
        assert not inspect.iscoroutinefunction(twin)
    else:
        assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin)


@pytest.mark.parametrize("cls", BLOCKING, ids=lambda cls: cls.__name__)
def test_properties_are_those_that_ask_nothing(cls: type) -> None:
    twin = TWINS[cls]
    names = {name for name in own_names(twin) if isinstance(getattr(twin, name), property)}
    assert names >= PROPERTIES.get(cls.__name__, set())
    assert names - {"closed"} <= PROPERTIES.get(cls.__name__, set())


def test_clients_are_made_alike() -> None:
    assert parameters(aistore.aio.AsyncClient) == parameters(Client)


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_what_is_left_out_is_left_out(left_out: str) -> None:
    cls, _, name = left_out.partition(".")
    (blocking,) = (one for one in BLOCKING if one.__name__ == cls)
    assert hasattr(blocking, name)
    assert not hasattr(TWINS[blocking], name)


def test_every_class_is_public() -> None:
    assert sorted(aistore.aio.__all__) == sorted(twin.__name__ for twin in TWINS.values())
    assert set(aistore.aio.__all__) <= set(dir(aistore.aio))
