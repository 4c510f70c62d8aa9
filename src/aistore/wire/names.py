"""Names of providers, namespaces, buckets and objects (protocol/00 6)."""

from __future__ import annotations

import re
from typing import NamedTuple

from aistore.wire.errors import ApiError, invalid_object_name
from aistore.wire.ids import MAX_ID, is_node_id

# canonical provider -> scheme in messages and URIs
SCHEMES = {"ais": "ais", "aws": "s3", "azure": "az", "gcp": "gs", "oci": "oc"}
# what servers accept -> canonical
PROVIDERS = {**{name: name for name in SCHEMES}, "": "ais", "s3": "aws", "az": "azure", "gs": "gcp", "oc": "oci"}
# cloud provider -> its name in messages
BACKENDS = {"aws": "AWS", "azure": "Azure", "gcp": "GCP", "oci": "OCI"}

SYSTEM_BUCKETS = frozenset({".sys-inventory", ".sys-shardidx"})
MAX_BUCKET_NAME = 64
# The reference keeps longer ones under a hashed name; names here are keys of the catalog, and every input has a bound.
MAX_SEGMENT = 1024
MAX_OBJECT_NAME = 8192

_BUCKET = re.compile(r"[A-Za-z0-9._-]+")
_DOTS = re.compile(r"(?:\A|/)\.{1,2}(?:/|\Z)")
_SLASHES = re.compile(r"//+")


def parse_provider(text: str) -> str:
    """Canonical name of a provider or alias; empty means `ais`. Raises ApiError 400."""
    try:
        return PROVIDERS[text]
    except KeyError:
        expected = "must be one of [ais, aws (s3://), gcp (gs://), azure (az://), oci (oc://)]"
        raise ApiError(400, f'invalid backend provider "{text}": {expected}', "ErrInvalidBackendProvider") from None


def parse_namespace(text: str) -> tuple[str, str]:
    """Split `@uuid#name` into uuid and name; both may be empty (protocol/00 6.2)."""
    uuid, _, name = text.removeprefix("@").partition("#")
    return uuid, name


class BucketId(NamedTuple):
    """What identifies a bucket; sorts as bucket lists do."""

    provider: str
    uuid: str
    namespace: str
    name: str

    @property
    def namespace_uname(self) -> str:
        return f"@{self.uuid}#{self.namespace}"

    @property
    def uname(self) -> str:
        """Unique name, with its final slash: `ais/@#/data/` (protocol/00 6.3)."""
        return f"{self.provider}/@{self.uuid}#{self.namespace}/{self.name}/"

    @property
    def cname(self) -> str:
        """Printable name: `ais://data`, `ais://@uuid#ns/data`."""
        scheme = SCHEMES.get(self.provider, self.provider)
        printed = (f"@{self.uuid}" if self.uuid else "") + (f"#{self.namespace}" if self.namespace else "")
        return f"{scheme}://{printed}/{self.name}" if printed else f"{scheme}://{self.name}"

    @property
    def is_remote(self) -> bool:
        """Cloud, or in another AIStore cluster. A bucket with a backend is remote too, which its properties tell."""
        return self.provider != "ais" or bool(self.uuid)

    def object_cname(self, name: str) -> str:
        return f"{self.cname}/{name}"

    def validate(self) -> BucketId:
        """Check name and namespace; returns itself. Raises ApiError 400."""
        check_bucket_name(self.name)
        if self.uuid and not is_node_id(self.uuid):
            what = f'bucket namespace (uuid: "{self.uuid}", name: "{self.namespace}")'
            limits = f"must be less than {MAX_ID} characters and may only contain letters, numbers, dashes (-), underscores (_)"
            raise ApiError(400, f"{what} {limits}")
        if self.namespace:
            _check_characters("namespace", self.namespace)
        return self


def parse_bucket(name: str, provider: str = "", namespace: str = "") -> BucketId:
    """Bucket of a call, from path and query, validated. Raises ApiError 400."""
    uuid, ns = parse_namespace(namespace) if namespace else ("", "")
    return BucketId(parse_provider(provider), uuid, ns, name).validate()


def parse_uname(uname: str) -> tuple[BucketId, str]:
    """Split a unique name into bucket (validated) and object name, which is empty for a bucket. Raises ApiError 400."""
    provider, _, rest = uname.partition("/")
    namespace, _, rest = rest.partition("/")
    # Without its final slash a bucket's name is not a name: the reference reads it as empty (protocol/10 2).
    bucket, slash, name = rest.partition("/")
    return parse_bucket(bucket if slash else "", provider, namespace), name


def check_bucket_name(name: str) -> None:
    """Raise ApiError 400 unless `name` may name a bucket (protocol/00 6.4)."""
    if name.startswith("."):
        if name not in SYSTEM_BUCKETS:
            raise ApiError(400, f'reserved bucket name "{name}" (unknown system bucket)')
        return
    if not name:
        raise ApiError(400, "bucket name is missing")
    _check_characters("bucket name", name)


def _check_characters(what: str, name: str) -> None:
    if len(name) > MAX_BUCKET_NAME:
        raise ApiError(400, f"{what} is too long: {len(name)} > {MAX_BUCKET_NAME}(max length)")
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise ApiError(
            400, f"{what} is invalid: may only contain letters, numbers, dashes (-), underscores (_), and dots (.)"
        )


def check_object_name(name: str, directory: bool = False) -> str:
    """Return the object name as it is stored; raises ApiError 400 for the names of protocol/00 6.5.

    A leading slash and doubled slashes vanish, as they do where objects are files. `directory` allows a trailing
    slash (HEAD). Control character NUL and segments over 1 KiB are refused too.
    """
    if (  # nearly all names; substring tests cost a fraction of one regular expression
        name
        and len(name) <= MAX_SEGMENT
        and name.isascii()
        and "//" not in name
        and "/." not in name
        and "\0" not in name
        and name[0] not in "./~"
        and name[-1] != "/"
    ):
        return name
    if (
        not name
        or name.startswith("~/")
        or _DOTS.search(name)
        or "\0" in name
        or (name.endswith("/") and not directory)
    ):
        raise invalid_object_name(name)
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise invalid_object_name(name.encode("utf-8", "replace").decode()) from None
    if len(encoded) > MAX_OBJECT_NAME or any(len(segment) > MAX_SEGMENT for segment in encoded.split(b"/")):
        raise invalid_object_name(name)
    return _SLASHES.sub("/", name).removeprefix("/")


def check_prefix(prefix: str, what: str) -> str:
    """Return a name prefix without its one trailing `*`; raises ApiError 400 (`<what>: invalid prefix "<p>"`)."""
    prefix = prefix.removesuffix("*")
    if prefix.startswith("~/") or _DOTS.search(prefix):
        raise ApiError(400, f'{what}: invalid prefix "{prefix}"', "errInvalidPath")
    return prefix
