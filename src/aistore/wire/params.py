"""Names of query parameters (protocol/00 5)."""

from __future__ import annotations

PROVIDER = "provider"
NAMESPACE = "namespace"
BCK_TO = "bck_to"
OBJECT_TO = "object_to"
WHAT = "what"
PROPS = "props"
PRESENCE = "presence"
BSUMM_REMOTE = "bsumm_remote"
UUID = "uuid"
REGEX = "regex"
ONLY_ACTIVE = "only_active"
KEEP_BCK_MD = "keep_bck_md"
DONT_ADD_REMOTE_BCK_MD = "dont_add_remote_bck_md"
DONT_HEAD_REMOTE_BCK = "dont_head_remote_bck"
LATEST_VER = "latest-ver"
SYNCHRONIZE = "synchronize"
SKIP_VC = "skip_vc"
FORCE = "frc"
SYSTEM = "sys"

APPEND_TYPE = "append_type"
APPEND_HANDLE = "append_handle"
ARCHPATH = "archpath"
ARCHMIME = "archmime"
ARCHREGX = "archregx"
ARCHMODE = "archmode"
UPLOAD_ID = "uploadId"
PART_NUMBER = "partNumber"
SET_NEW_CUSTOM = "set-new-custom"

ETL_NAME = "etl_name"
ETL_PIPELINE = "etl_pipeline"
ETL_ARGS = "etl_args"

SEVERITY = "severity"
OFFSET = "offset"
ALL = "all"
TRANSIENT = "transient"

PRIMARY_READY = "prr"
NODE_STATE = "cii"
NODE_STATE_OF_PRIMARY = "cii-apr"

# What marks a redirected request: the redirecting gateway's id and its time (Unix nanoseconds, base 36).
PROXY_ID = "pid"
REDIRECT_TIME = "utm"
# What shows that a gateway of ours has checked it.
SIGNATURE = "sig"
