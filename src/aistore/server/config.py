"""The cluster's configuration document: `what=cluster_config`, `set-config` (protocol/00 15.2).

New buckets take their properties from it. The other sections are those that the reference's tools read and set; what is said there about
several nodes, networks and disks has no effect on a cluster of one machine and is kept as it was set.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from aistore.wire.errors import ApiError, not_implemented, unsupported
from aistore.wire.messages import BadMessage
from aistore.wire.props import (
    BucketProps,
    Checksum,
    Chunks,
    Decimal,
    ErasureCoding,
    Lru,
    Mirror,
    RateLimit,
    Versioning,
    WritePolicy,
    change,
    pack,
    unpack,
)
from aistore.wire.values import parse_bool, parse_duration, parse_size

if TYPE_CHECKING:
    from aistore.server.store.store import Store

__all__ = ["ClusterConfig", "ConfigKeeper"]

_KEY: Final = "config"
# Sections that cannot be changed in memory only.
_NOT_TRANSIENT: Final = ("auth", "net", "tracing", "memsys", "keepalivetracker")


class _BucketSections(msgspec.Struct, frozen=True):
    """Sections that new buckets inherit."""

    checksum: Checksum = Checksum()
    versioning: Versioning = Versioning()
    mirror: Mirror = Mirror()
    ec: ErasureCoding = ErasureCoding()
    chunks: Chunks = Chunks()
    lru: Lru = Lru()
    rate_limit: RateLimit = RateLimit()
    write_policy: WritePolicy = WritePolicy()
    features: Decimal = Decimal(0)


# The other sections, with the reference's names and defaults. The type of a default is the type of the field; `_TEXTS` are strings
# with a syntax.
_OTHER: Final[dict[str, dict[str, object]]] = {
    "backend": {},
    "log": {
        "level": "3",
        "max_size": "4MiB",
        "max_total": "128MiB",
        "flush_time": "40s",
        "stats_time": "60s",
        "to_stderr": False,
    },
    "periodic": {"stats_time": "10s", "notif_time": "30s", "retry_sync_time": "2s"},
    "timeout": {
        "cplane_operation": "2s",
        "max_keepalive": "4s",
        "max_host_busy": "20s",
        "startup_time": "1m",
        "join_startup_time": "3m",
        "send_file_time": "5m",
        "ec_streams_time": "10m",
        "object_md": "2h",
        "cold_get_conflict": "5s",
    },
    "client": {"client_timeout": "10s", "client_long_timeout": "10m", "list_timeout": "10m"},
    "proxy": {"primary_url": "", "original_url": "", "discovery_url": "", "non_electable": False},
    "space": {
        "cleanupwm": 65,
        "lowwm": 75,
        "highwm": 90,
        "out_of_space": 95,
        "dont_cleanup_time": "30m",
        "batch_size": 32768,
    },
    "disk": {
        "iostat_time_long": "2s",
        "iostat_time_short": "100ms",
        "disk_util_low_wm": 20,
        "disk_util_high_wm": 80,
        "disk_util_max_wm": 95,
    },
    "rebalance": {
        "enabled": True,
        "dest_retry_time": "2m",
        "compression": "never",
        "bundle_multiplier": 2,
        "burst_buffer": 512,
    },
    "resilver": {"enabled": True},
    "net": {
        "l4": {"proto": "tcp", "sndrcv_buf_size": 131072},
        "http": {
            "use_https": False,
            "skip_verify": False,
            "chunked_transfer": True,
            "write_buffer_size": 0,
            "read_buffer_size": 0,
        },
    },
    "fshc": {"enabled": True, "test_files": 4, "error_limit": 2},
    "auth": {"enabled": False, "client_auth_required": False},
    "keepalivetracker": {
        "proxy": {"name": "heartbeat", "interval": "10s", "factor": 3},
        "target": {"name": "heartbeat", "interval": "10s", "factor": 3},
    },
    "downloader": {"timeout": "1h"},
    "distributed_sort": {
        "duplicated_records": "ignore",
        "missing_shards": "ignore",
        "ekm_malformed_line": "abort",
        "ekm_missing_key": "abort",
        "default_max_mem_usage": "80%",
        "call_timeout": "10m",
        "dsorter_mem_threshold": "100GB",
        "compression": "never",
        "bundle_multiplier": 4,
    },
    "transport": {
        "max_header": 4096,
        "burst_buffer": 512,
        "idle_teardown": "4s",
        "quiescent": "10s",
        "lz4_block": "256KiB",
    },
    "memsys": {
        "min_free": "2GiB",
        "default_buf": "32KiB",
        "to_gc": "4GiB",
        "hk_time": "3m",
        "min_pct_total": 0,
        "min_pct_free": 0,
    },
    "tracing": {"enabled": False},
    "get_batch": {"max_soft_errs": 8},
}


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the configuration; immutable."""

    bucket: _BucketSections = _BucketSections()
    other: dict[str, dict[str, object]] = msgspec.field(default_factory=lambda: copy.deepcopy(_OTHER))
    version: int = 1
    updated: str = ""

    def document(self, uuid: str) -> dict[str, object]:
        """The document as clients see it; `wire.props.encode_wire` makes the JSON."""
        sections: dict[str, object] = {
            **self.other,
            **{f: getattr(self.bucket, f) for f in self.bucket.__struct_fields__},
        }
        return {
            **dict(sorted(sections.items())),
            "uuid": uuid,
            "config_version": str(self.version),
            "lastupdate_time": self.updated,
            "ext": None,
        }

    def bucket_props(self) -> BucketProps:
        """Properties of a new native bucket, without its number and time. LRU is off there (protocol/10 9)."""
        sections = {f: getattr(self.bucket, f) for f in self.bucket.__struct_fields__}
        return BucketProps(**{**sections, "lru": replace(self.bucket.lru, enabled=False)})

    def changed(self, value: object) -> ClusterConfig:
        """With a sparse change applied; raises BadMessage."""
        if value is None:
            return self
        if not isinstance(value, dict):
            raise BadMessage(f"readObjectStart: expect {{ or n, but found {type(value).__name__}")
        inherited = {key: inner for key, inner in value.items() if str(key).lower() in self.bucket.__struct_fields__}
        rest = {key: inner for key, inner in value.items() if key not in inherited}
        return replace(
            self,
            bucket=change(self.bucket, inherited),
            other=_merge(self.other, rest, ""),
            version=self.version + 1,
            updated=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        )


def _merge(
    current: dict[str, object] | dict[str, dict[str, object]], value: dict[object, object], path: str
) -> dict[str, dict[str, object]]:
    """Apply a sparse change to plain sections: known keys, same types."""
    merged: dict[str, object] = dict(current)
    names = {key.lower(): key for key in current}
    for key, inner in value.items():
        name = names.get(str(key).lower())
        if name is None:
            raise BadMessage(f"cmn.ConfigToSet: {path}found unknown field: {key}")
        if inner is None:
            continue
        old = current[name]
        if isinstance(old, dict):
            if not isinstance(inner, dict):
                raise BadMessage(f"cmn.ConfigToSet: {path}{name}: expect {{ or n, but found {type(inner).__name__}")
            merged[name] = _merge(old, inner, f"{path}{name}.")
        else:
            merged[name] = _checked(inner, old, f"{path}{name}")
    return merged  # type: ignore[return-value]  # sections are dicts of leaves and sections; the type says so one level deep


def _checked(value: object, old: object, path: str) -> object:
    """A leaf of the same type and syntax as the old one."""
    if type(value) is not type(old):
        raise BadMessage(f"cmn.ConfigToSet: {path}: expect {type(old).__name__}, but found {type(value).__name__}")
    if type(value) is int:
        most = (
            100 if path.endswith("wm") or path == "space.out_of_space" else (1 << 63) - 1
        )  # watermarks are percentages
        if not 0 <= value <= most:
            raise BadMessage(f"cmn.ConfigToSet: {path}: {str(value)[:32]} is not between 0 and {most}")
    if isinstance(old, str) and isinstance(value, str):
        for parse in (parse_duration, parse_size):
            if _parses(old, parse) and not _parses(value, parse):
                try:
                    parse(value)
                except ValueError as error:
                    raise BadMessage(f"cmn.ConfigToSet: {path}: {error}") from None
    return value


def _parses(text: str, parse: object) -> bool:
    # "" is a size and "3" is one too, but what may be anything must stay so.
    if not text or text.isdigit() or not text[0].isdigit():
        return False
    try:
        parse(text)  # type: ignore[operator]  # one of the two functions above
    except ValueError:
        return False
    return True


class ConfigKeeper:
    """The configuration in force, and the one that the catalog keeps."""

    def __init__(self, store: Store) -> None:
        self._store = store
        kept = store.catalog.meta(_KEY)
        self._kept = _decode(kept) if kept else ClusterConfig()
        self.current = self._kept
        self.asks_for_tokens = False
        """Whether the server was started so; the configuration tells it, and does not decide it."""

    def document(self, uuid: str) -> dict[str, object]:
        """The configuration in force as clients see it."""
        document = self.current.document(uuid)
        if self.asks_for_tokens:
            document["auth"] = {"enabled": True, "client_auth_required": True}
        return document

    def reload(self) -> None:
        """Read what the gateway has written meanwhile (target processes)."""
        kept = self._store.catalog.meta(_KEY)
        if kept:
            self.current = self._kept = _decode(kept)

    async def set(self, value: object, *, transient: bool) -> None:
        """Apply a sparse change, in memory only if `transient`. Raises BadMessage, ApiError."""
        if transient and isinstance(value, dict):
            for section in _NOT_TRANSIENT:
                if section in value:
                    raise unsupported("transiently update", f"config.{section}")
            timeout = value.get("timeout")
            if isinstance(timeout, dict) and timeout.keys() & {"max_keepalive", "cplane_operation"}:
                raise unsupported("transiently update", "config.timeout")
        _refuse_authentication(value, asked=self.asks_for_tokens)
        current = self.current.changed(value)
        if not transient:
            kept = self._kept.changed(value)
            await self._store.catalog.set_meta({_KEY: pack(kept).decode()})
            self._kept = kept
            current = replace(current, version=max(current.version, kept.version))
        self.current = current

    def reset(self) -> None:
        """Forget transient changes."""
        self.current = replace(self._kept, version=max(self._kept.version, self.current.version))

    def from_query(self, params: dict[str, str]) -> dict[str, object]:
        """The change that `set-config?lru.enabled=false&...` means. Raises ApiError 400 for an unknown name."""
        document = self.current.document("")
        value: dict[str, object] = {}
        for path, text in params.items():
            known: object = document
            for part in path.split("."):
                known = _member(known, part)
            if known is None or isinstance(known, dict | msgspec.Struct):
                raise ApiError(400, f'unknown property "{path}"')
            at = value
            *sections, leaf = path.split(".")
            for part in sections:
                at = at.setdefault(part, {})  # type: ignore[assignment]  # made here, a dict
            at[leaf] = _as_type_of(known, text, path)
        return value


def _member(value: object, name: str) -> object:
    if isinstance(value, dict):
        return value.get(name)
    return getattr(value, name, None) if isinstance(value, msgspec.Struct) and name in value.__struct_fields__ else None


def _as_type_of(known: object, text: str, path: str) -> object:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ApiError(400, f'failed to parse "{path}": invalid UTF-8') from None
    if isinstance(known, bool):
        return parse_bool(text)
    if type(known) is int:
        try:
            return int(text)
        except ValueError:
            raise ApiError(
                400, f'failed to parse "{path}": strconv.ParseInt: parsing "{text[:64]}": invalid syntax'
            ) from None
    return text


def _refuse_authentication(value: object, *, asked: bool) -> None:
    """Whether tokens are asked for is decided when the server starts."""
    auth = value.get("auth") if isinstance(value, dict) else None
    for key in ("enabled", "client_auth_required"):
        if isinstance(auth, dict) and key in auth and bool(auth[key]) is not asked:
            raise not_implemented("disable" if asked else "enable", "authentication (start the server with --authn)")


def _decode(text: str) -> ClusterConfig:
    kept = unpack(text.encode(), ClusterConfig)
    # Sections that a later version added have their defaults.
    return replace(kept, other={name: {**section, **kept.other.get(name, {})} for name, section in _OTHER.items()})
