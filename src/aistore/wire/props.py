"""Bucket properties: their JSON, their defaults, sparse changes and what is refused (protocol/10 9, 10).

The sections are also those of the cluster's configuration, from which a new bucket takes them.
"""

from __future__ import annotations

import time
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from aistore.wire.checksum import DIGITS
from aistore.wire.errors import ApiError
from aistore.wire.messages import BadMessage
from aistore.wire.names import PROVIDERS, BucketId
from aistore.wire.values import SECOND, format_duration, format_size, parse_duration, parse_size

S = TypeVar("S", bound=msgspec.Struct)

CHECKSUM_TYPES = (*sorted(DIGITS), "none")
MAX_CUSTOM_NOTE = 128
# Bucket ids of native buckets have the top bit set.
NATIVE_BID = 1 << 63
_MAX_COPIES = 32
_MAX_SLICES = 32
_GIB = 1 << 30


class Size(int):
    """Bytes, on the wire a size string."""


class Duration(int):
    """Nanoseconds, on the wire a Go duration string."""


class Decimal(int):
    """A 64-bit number, on the wire a decimal string."""


class Namespace(msgspec.Struct, frozen=True):
    uuid: str = ""
    name: str = ""


class BackendBucket(msgspec.Struct, frozen=True):
    name: str = ""
    provider: str = ""
    namespace: Namespace = Namespace()


class WritePolicy(msgspec.Struct, frozen=True):
    data: str = "immediate"
    md: str = "immediate"


class Checksum(msgspec.Struct, frozen=True):
    type: str = "xxhash2"
    validate_cold_get: bool = False
    validate_warm_get: bool = False
    validate_obj_move: bool = False
    enable_read_range: bool = False


class ExtraAws(msgspec.Struct, frozen=True, omit_defaults=True):
    cloud_region: str = ""
    endpoint: str = ""
    profile: str = ""
    max_pagesize: int = 0
    multipart_size: Size = Size(0)


class ExtraGcp(msgspec.Struct, frozen=True, omit_defaults=True):
    application_creds: str = ""


class ExtraOci(msgspec.Struct, frozen=True, omit_defaults=True):
    region: str = ""


class Extra(msgspec.Struct, frozen=True):
    aws: ExtraAws = ExtraAws()
    gcp: ExtraGcp = ExtraGcp()
    oci: ExtraOci = ExtraOci()
    custom: str | UnsetType = UNSET


class BackendRate(msgspec.Struct, frozen=True):
    interval: Duration = Duration(60 * SECOND)
    max_tokens: int = 1000
    per_op_max_tokens: str | UnsetType = UNSET
    enabled: bool = False
    num_retries: int = 3


class FrontendRate(msgspec.Struct, frozen=True):
    interval: Duration = Duration(60 * SECOND)
    max_tokens: int = 1000
    per_op_max_tokens: str | UnsetType = UNSET
    enabled: bool = False
    burst_size: int = 375


class RateLimit(msgspec.Struct, frozen=True):
    backend: BackendRate = BackendRate()
    frontend: FrontendRate = FrontendRate()


class ErasureCoding(msgspec.Struct, frozen=True):
    compression: str = "never"
    bundle_multiplier: int = 2
    burst_buffer: int = 512
    objsize_limit: int = 262144
    data_slices: int = 2
    parity_slices: int = 2
    enabled: bool = False
    disk_only: bool = False


class Chunks(msgspec.Struct, frozen=True):
    objsize_limit: Size = Size(0)
    max_monolithic_size: Size = Size(1 << 40)
    chunk_size: Size = Size(_GIB)
    checkpoint_every: int | UnsetType = UNSET
    flags: int | UnsetType = UNSET


class Mirror(msgspec.Struct, frozen=True):
    copies: int = 2
    burst_buffer: int = 512
    enabled: bool = False


class Lru(msgspec.Struct, frozen=True):
    dont_evict_time: Duration = Duration(7200 * SECOND)
    capacity_upd_time: Duration = Duration(600 * SECOND)
    batch_size: int = 32768
    enabled: bool = False


class Versioning(msgspec.Struct, frozen=True):
    enabled: bool = True
    validate_warm_get: bool = False
    synchronize: bool = False


class BucketProps(msgspec.Struct, frozen=True, kw_only=True):
    """All properties of a bucket; immutable, changed by `change_props`.

    Sizes are bytes and durations nanoseconds (both `int`); the wire's strings are made by `encode_wire`.
    """

    backend_bck: BackendBucket = BackendBucket()
    write_policy: WritePolicy = WritePolicy()
    provider: str = "ais"
    renamed: str = msgspec.field(default="", name="Renamed")
    checksum: Checksum = Checksum()
    extra: Extra = Extra()
    rate_limit: RateLimit = RateLimit()
    ec: ErasureCoding = ErasureCoding()
    chunks: Chunks = Chunks()
    mirror: Mirror = Mirror()
    lru: Lru = Lru()
    access: Decimal = Decimal((1 << 64) - 1)
    features: Decimal = Decimal(0)
    bid: Decimal = Decimal(0)
    created: Decimal = Decimal(0)
    versioning: Versioning = Versioning()


def backend_of(props: BucketProps) -> BucketId | None:
    """The bucket behind a native one (property `backend_bck`), if there is one."""
    behind = props.backend_bck
    if not behind.name:
        return None
    return BucketId(PROVIDERS[behind.provider], behind.namespace.uuid, behind.namespace.name, behind.name)


# Not settable: unknown keys in a change.
_FIXED = frozenset({"provider", "Renamed", "bid", "created"})


def _to_wire(value: object) -> str:
    if isinstance(value, Size):
        return format_size(value)
    if isinstance(value, Duration):
        return format_duration(value)
    if isinstance(value, Decimal):
        return str(int(value))
    raise NotImplementedError(f"{type(value).__name__} is not part of a protocol document")


def _from_wire(kind: type, value: object) -> object:
    if kind is Decimal:
        if not isinstance(value, str):
            raise BadMessage(f'stringModeNumberDecoder: expect ", but found {value}')
        if not (value.isascii() and value.isdigit()) or len(value) > 20 or int(value) >> 64:
            raise BadMessage("readUint64: unexpected character or overflow")
        return Decimal(value)
    if not isinstance(value, str):
        raise BadMessage(f"unmarshalerDecoder: expect a string, but found {value}")
    return Size(parse_size(value)) if kind is Size else Duration(parse_duration(value))


def _from_kept(kind: type, value: object) -> object:
    # msgspec asks for `object` too, which anything is.
    return value if kind is object else kind(value)


_wire = msgspec.json.Encoder(enc_hook=_to_wire)
# Kept properties are exact: the wire rounds sizes. Files and catalog hold plain numbers.
_kept = msgspec.json.Encoder(enc_hook=int)


def encode_wire(document: object) -> bytes:
    """JSON of properties or a document with their sections, as clients see it."""
    return _wire.encode(document)


def pack(document: msgspec.Struct) -> bytes:
    """Exact JSON for the store; read by `unpack`."""
    return _kept.encode(document)


def pack_native(props: BucketProps, number: int) -> bytes:
    """The properties of a new native bucket, for the store, which numbers it."""
    return pack(replace(props, bid=Decimal(NATIVE_BID + number), created=Decimal(time.time_ns())))


def unpack(data: bytes, kind: type[S]) -> S:
    """The inverse of `pack`."""
    return msgspec.json.decode(data, type=kind, dec_hook=_from_kept)


def change(current: S, value: object, fixed: frozenset[str] = frozenset()) -> S:
    """A copy of `current` with the given leaves changed: keys in any case, null leaves a leaf alone. Raises BadMessage.

    `fixed` names the fields that cannot be set; they are unknown keys.
    """
    if value is None:
        return current
    if not isinstance(value, dict):
        raise BadMessage(f"readObjectStart: expect {{ or n, but found {type(value).__name__}")
    fields = {f.encode_name.lower(): f for f in msgspec.structs.fields(current) if f.encode_name not in fixed}
    changed: dict[str, object] = {}
    for key, inner in value.items():
        field = fields.get(str(key).lower())
        if field is None:
            raise BadMessage(f"{type(current).__name__}: found unknown field: {key}")
        if inner is None:
            continue
        try:
            old = getattr(current, field.name)
            if isinstance(old, msgspec.Struct):
                changed[field.name] = change(old, inner)
            else:
                changed[field.name] = msgspec.convert(_of_64_bits(inner), field.type, dec_hook=_from_wire)
        except (BadMessage, msgspec.ValidationError, ValueError) as error:
            raise BadMessage(f"{field.encode_name}: {error}") from None
    return replace(current, **changed)


def _of_64_bits(value: object) -> object:
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        raise BadMessage("readInt64: overflow")
    return value


def change_props(props: BucketProps, value: object, targets: int, default_copies: int = 2) -> BucketProps:
    """Apply a sparse change (value of `set-bprops` or `create-bck`) and validate what comes out of it.

    `targets` says what the cluster has for erasure coding. Raises BadMessage for what cannot be decoded and ApiError 400 for what
    cannot be.
    """
    if isinstance(value, dict):
        # `force` overrides checks that are made here anyhow; it is not stored.
        force = [key for key in value if str(key).lower() == "force"]
        if any(not isinstance(value[key], bool | None) for key in force):
            raise BadMessage("force: ReadBool: expect t or f")
        value = {key: inner for key, inner in value.items() if key not in force}
    new = change(props, value, _FIXED)
    if new.mirror.copies == 1:
        copies = (
            max(default_copies, 2)
            if new.mirror.enabled and not props.mirror.enabled and props.mirror.copies == 1
            else 1
        )
        new = replace(new, mirror=replace(new.mirror, copies=copies, enabled=copies > 1))
    validate(new, targets)
    return new


def validate(props: BucketProps, targets: int) -> None:
    """Raise ApiError 400 for properties that contradict the protocol or what the cluster has."""
    if props.checksum.type not in CHECKSUM_TYPES:
        raise _refuse(f'invalid checksum type "{props.checksum.type}" (expecting [{" ".join(CHECKSUM_TYPES)}])')
    _validate_policies(props)
    copies = props.mirror.copies
    if copies not in (0, 1) and not 2 <= copies <= _MAX_COPIES:
        raise _refuse(
            f"invalid mirror.copies: {copies} (expected value in range [2, {_MAX_COPIES}] or zero for default)"
        )
    if props.mirror.enabled and props.chunks.objsize_limit:
        both = "n-way mirroring and chunking cannot be enabled at the same time on the same bucket"
        raise _refuse(f"{both} (MPU chunking is still allowed)")
    _validate_erasure_coding(props.ec, targets)


def _validate_policies(props: BucketProps) -> None:
    policies = ("immediate", "delayed", "never")
    for policy in (props.write_policy.data, props.write_policy.md):
        if policy not in policies:
            raise _refuse(f'invalid write policy "{policy}" (expecting one of [{" ".join(policies)}])')
    if props.write_policy.data != "immediate":
        raise _refuse(f'invalid write policy for data: "{props.write_policy.data}" not implemented yet')
    note = props.extra.custom or ""
    if len(note.encode()) > MAX_CUSTOM_NOTE:
        raise _refuse(f"invalid extra.custom: too long ({len(note.encode())} > {MAX_CUSTOM_NOTE})")
    if any(ord(c) < 32 or ord(c) == 127 for c in note):
        raise _refuse("invalid extra.custom: contains control characters")
    if props.chunks.chunk_size <= 0 or props.chunks.max_monolithic_size < _GIB:
        raise _refuse("invalid chunks: chunk_size must be positive and max_monolithic_size at least 1GiB")
    limits = (props.rate_limit.backend, props.rate_limit.frontend)
    if any(limit.enabled and (limit.interval <= 0 or limit.max_tokens <= 0) for limit in limits):
        raise _refuse("invalid rate_limit: interval and max_tokens must be positive")
    if props.lru.dont_evict_time < 0 or props.lru.capacity_upd_time < 0:
        raise _refuse("invalid lru: durations must not be negative")


def _validate_erasure_coding(ec: ErasureCoding, targets: int) -> None:
    for name, slices in (("data_slices", ec.data_slices), ("parity_slices", ec.parity_slices)):
        if not 0 <= slices <= _MAX_SLICES:
            raise _refuse(f"invalid ec.{name}: {slices} (expected value in range [1, {_MAX_SLICES}])")
    if not ec.enabled:
        return
    data, parity = max(ec.data_slices, 1), max(ec.parity_slices, 1)
    needed = data + parity + 1
    if targets < needed:
        layout = f"EC configuration (D = {data}, P = {parity}) requires at least {needed} targets (have {targets})"
        raise _refuse(f"not enough target nodes: {layout}", "ErrNotEnoughTargets")


def _refuse(text: str, tcode: str = "") -> ApiError:
    return ApiError(400, text, tcode)
