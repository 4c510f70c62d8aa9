"""Names of headers, in canonical case, and rules about their values (protocol/00 7)."""

from __future__ import annotations

CHECKSUM_TYPE = "Ais-Checksum-Type"
CHECKSUM_VALUE = "Ais-Checksum-Value"
ATIME = "Ais-Atime"
VERSION = "Ais-Version"
CUSTOM_MD = "Ais-Custom-Md"
NAME = "Ais-Name"
LOCATION = "Ais-Location"
PRESENT = "Ais-Present"
MIRROR_COPIES = "Ais-Mirror-Copies"
MIRROR_PATHS = "Ais-Mirror-Paths"
BUCKET_NAME = "Ais-Bucket-Name"
BUCKET_PROVIDER = "Ais-Bucket-Provider"
BUCKET_NAMESPACE_UUID = "Ais-Bucket-Namespace-Uuid"
BUCKET_NAMESPACE_NAME = "Ais-Bucket-Namespace-Name"
CHUNKS_COUNT = "Ais-Chunks-Count"
CHUNKS_MAX_CHUNK_SIZE = "Ais-Chunks-Max-Chunk-Size"

BUCKET_PROPS = "Ais-Bucket-Props"
BUCKET_SUMMARY = "Ais-Bucket-Summ"
XACTION_ID = "Ais-Xaction-Id"
APPEND_HANDLE = "Ais-Append-Handle"
INVENTORY_NAME = "Ais-Inv-Name"

NODE_ID = "Ais-Node-Id"
NODE_UPTIME = "Ais-Node-Uptime"
CLUSTER_UPTIME = "Ais-Cluster-Uptime"
# Only between nodes: a client's request that carries the id is refused, the name is quoted in error documents.
CALLER_ID = "Ais-Caller-Id"
CALLER_NAME = "Ais-Caller-Name"

# Which request it is, in the logs of all that have to do with it; not of the reference.
REQUEST_ID = "X-Request-Id"

BLOB_DOWNLOAD = "Ais-Blob-Download"
BLOB_CHUNK = "Ais-Blob-Chunk"
BLOB_WORKERS = "Ais-Blob-Workers"

MSGPACK = "application/msgpack"
JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
OCTETS = "application/octet-stream"


def accepts_msgpack(accept: str) -> bool:
    """Whether an `Accept` value names msgpack, in a list and with parameters or not (protocol/00 4.1)."""
    return MSGPACK in accept and any(item.partition(";")[0].strip() == MSGPACK for item in accept.split(","))
