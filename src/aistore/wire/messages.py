"""Action messages, and the values they carry (protocol/00 3, protocol/10 1.1)."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final, TypeVar, get_args

import msgspec

from aistore.wire.errors import ApiError, unmarshal_failed
from aistore.wire.names import BucketId, parse_bucket

T = TypeVar("T", bound=msgspec.Struct)

# Decoding holds the interpreter, in whatever thread it runs: half a second for that many of the dearest values.
_VALUES_MAX: Final = 1 << 20
_FIELDS_MAX: Final = 1000  # members of an object that stands for a message; those that no message has are looked at too


class BadMessage(ValueError):
    """What is wrong with a message or its value; the boundary adds the node's and the action's names."""


class ActionMessage(msgspec.Struct):
    """The envelope of every named operation. `value` is plain data, decoded by the operation with `decode_value`."""

    action: str = ""
    name: str = ""
    value: object = None


class NamespaceMessage(msgspec.Struct, forbid_unknown_fields=True):
    uuid: str = ""
    name: str = ""


class BucketMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A bucket inside a message: missing provider means `ais`, missing namespace the global one."""

    name: str = ""
    provider: str = ""
    namespace: NamespaceMessage | None = None

    def bucket_id(self) -> BucketId:
        """Validated identity; raises ApiError 400."""
        namespace = f"@{self.namespace.uuid}#{self.namespace.name}" if self.namespace else ""
        return parse_bucket(self.name, self.provider, namespace)


class ListRange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Selection of objects, and what all multi-object values share (protocol/10 22, 23)."""

    objnames: list[str] = []
    template: str = ""
    num_workers: int = msgspec.field(default=0, name="num-workers")
    coer: bool = False
    non_recurs: bool = msgspec.field(default=False, name="non-recurs")


class CopyBucket(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Value of `copy-bck`; transforming has the same fields, some of which mean nothing to a copy (protocol/10 14)."""

    prefix: str = ""
    prepend: str = ""
    ext: dict[str, str] = {}
    dry_run: bool = False
    force: bool = False
    latest_ver: bool = msgspec.field(default=False, name="latest-ver")
    synchronize: bool = False
    non_recurs: bool = msgspec.field(default=False, name="non-recurs")
    num_workers: int = msgspec.field(default=0, name="num-workers")
    coer: bool = False
    id: str = ""
    pipeline: list[str] = []
    request_timeout: str = ""


class CopyObjects(ListRange, forbid_unknown_fields=True, kw_only=True):
    """Value of `copy-listrange` (protocol/10 23.4)."""

    tobck: BucketMessage | None = None
    prefix: str = ""
    prepend: str = ""
    ext: dict[str, str] = {}
    dry_run: bool = False
    force: bool = False
    latest_ver: bool = msgspec.field(default=False, name="latest-ver")
    synchronize: bool = False
    id: str = ""
    pipeline: list[str] = []
    request_timeout: str = ""


class JobArgs(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Value of `start` and `stop` (protocol/30 4)."""

    id: str = ""
    kind: str = ""
    daemonid: str = ""
    bck: BucketMessage | None = None
    buckets: list[BucketMessage] = []
    timeout: int = 0
    flags: int = 0
    force: bool = False
    onlyrunning: bool = False


class JobQuery(msgspec.Struct, kw_only=True):
    """Body of the four job queries; unknown keys are ignored (protocol/30 6)."""

    id: str = ""
    kind: str = ""
    bck: BucketMessage | None = None
    show_active: bool | None = None


def encode_action(action: str, name: str = "", value: object = None) -> bytes:
    """Body of a request, all three members always present, as the official SDK sends them."""
    return msgspec.json.encode(ActionMessage(action, name, value))


def parse_json(body: bytes) -> object:
    """First JSON document of a body, of at most about a million values; what follows it is ignored. Raises BadMessage."""
    if len(body) > _VALUES_MAX and body.count(b",") + body.count(b"[") + body.count(b"{") > _VALUES_MAX:
        raise BadMessage(f"more than {_VALUES_MAX} values")
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise BadMessage("exceeded max depth") from None
    except UnicodeDecodeError:
        raise BadMessage("invalid UTF-8 in string") from None
    except msgspec.DecodeError as error:
        if not body.strip():
            raise BadMessage("EOF") from None
        if "trailing" not in str(error):
            raise BadMessage(str(error)) from None
    # msgspec has no "first document": the standard library's scanner tells where it ends.
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
        document: object = msgspec.json.decode(text[:end])
    except (ValueError, RecursionError) as error:
        raise BadMessage(str(error)) from None
    return document


def parse_action(body: bytes | None, method: str, node: str) -> ActionMessage:
    """Decode the envelope; raises ApiError 400 with the reference's text."""
    try:
        return _lenient(parse_json(body or b""), ActionMessage)
    except BadMessage as error:
        raise unmarshal_failed(node, "[*apc.ActMsg]", method, str(error)) from None


def parse_query(body: bytes | None, method: str, node: str) -> JobQuery:
    """Decode the body of a job query; raises ApiError 400."""
    try:
        return _lenient(parse_json(body or b""), JobQuery)
    except BadMessage as error:
        raise unmarshal_failed(node, "[*xact.QueryMsg]", method, str(error)) from None


def parse_document(body: bytes | None, kind: type[T]) -> T:
    """Decode a body that is one document; null means all defaults. Raises BadMessage."""
    return _lenient(parse_json(body or b""), kind)


def decode_value(value: object, kind: type[T], action: str, node: str) -> T:
    """Decode an action's value strictly; null means all defaults. Raises ApiError 400 with the reference's text."""
    try:
        return convert(value, kind)
    except BadMessage as error:
        raise value_refused(value, action, node, str(error)) from None


def value_refused(value: object, action: str, node: str, detail: str) -> ApiError:
    return unmarshal_failed(node, action, _go_type(value), detail)


def convert(value: object, kind: type[T]) -> T:
    """Turn plain data into `kind`: keys in any case, null for the default, unknown keys as `kind` says. Raises BadMessage."""
    folded = _fold({} if value is None else value, kind)
    try:
        return msgspec.convert(folded, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadMessage(str(error)) from None


def _lenient(document: object, kind: type[T]) -> T:
    if document is not None and not isinstance(document, dict):
        raise BadMessage(f"readObjectStart: expect {{ or n, but found {type(document).__name__}")
    return convert(document, kind)


@lru_cache(maxsize=64)
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[str, type[msgspec.Struct] | None]]:
    """Lower-case name -> wire name, and the struct type inside the field if it holds one."""
    return {f.encode_name.lower(): (f.encode_name, _struct_in(f.type)) for f in msgspec.structs.fields(kind)}


def _struct_in(annotation: object) -> type[msgspec.Struct] | None:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next(filter(None, map(_struct_in, get_args(annotation))), None)


def _fold(value: object, kind: type[msgspec.Struct]) -> object:
    if not isinstance(value, dict):
        return value
    if len(value) > _FIELDS_MAX:
        raise BadMessage(f"more than {_FIELDS_MAX} members")
    fields = _fields(kind)
    folded: dict[object, object] = {}
    for key, inner in value.items():
        name, struct = fields.get(str(key).lower(), (key, None))
        if inner is None and str(key).lower() in fields:
            continue
        if struct is None:
            folded[name] = inner
        elif isinstance(inner, list):
            folded[name] = [_fold(item, struct) for item in inner]
        else:
            folded[name] = _fold(inner, struct)
    return folded


def _go_type(value: object) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "float64"
