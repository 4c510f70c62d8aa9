"""Messages and records about ETLs (protocol/50), a part of `aistore.sdk.types`."""

from __future__ import annotations

import base64
from typing import Any

from pydantic import BaseModel, field_validator

__all__ = [
    "ETLDetails",
    "ETLInfo",
    "ETLInitMsg",
    "ETLNodeLogs",
    "ETLObjError",
    "ETLRuntimeSpec",
    "ETLSpecMsg",
    "EnvVar",
    "InitETLArgs",
    "InitSpecETLArgs",
]

Document = dict[str, Any]


class EnvVar(BaseModel):
    """An environment variable of an ETL."""

    name: str
    value: str

    @field_validator("value", mode="before")
    @classmethod
    def convert_to_str(cls, v: object) -> str:
        """Numbers and booleans become text."""
        return str(v)

    def as_dict(self) -> Document:
        """Document of the variable."""
        return {"name": self.name, "value": self.value}


class ETLRuntimeSpec(BaseModel):
    """How an ETL runs: image, command, environment."""

    image: str
    command: list[str] | None = None
    env: list[EnvVar] | None = None

    def as_dict(self) -> Document:
        """Document of the specification; what is not set is left out."""
        document: Document = {"image": self.image}
        if self.command:
            document["command"] = self.command
        if self.env:
            document["env"] = [variable.as_dict() for variable in self.env]
        return document


class InitETLArgs(BaseModel):
    """What all ways to start an ETL have in common."""

    name: str
    comm_type: str
    init_timeout: str | None = None
    obj_timeout: str | None = None
    direct_put: bool = False


class ETLSpecMsg(InitETLArgs):
    """Arguments of an ETL given by its runtime."""

    runtime: ETLRuntimeSpec

    def as_dict(self) -> Document:
        """Document of the message (protocol/50)."""
        return {
            "name": self.name,
            "communication": f"{self.comm_type}://",
            "init_timeout": self.init_timeout,
            "obj_timeout": self.obj_timeout,
            "support_direct_put": self.direct_put,
            "runtime": self.runtime.as_dict(),
        }


class InitSpecETLArgs(InitETLArgs):
    """Arguments of an ETL given by a Kubernetes specification, in base64 (servers before 5.0)."""

    spec: str

    def as_dict(self) -> Document:
        """Document of the message."""
        return {
            "name": self.name,
            "init_timeout": self.init_timeout,
            "obj_timeout": self.obj_timeout,
            "communication": f"{self.comm_type}://",
            "spec": self.spec,
        }


class ETLInitMsg(BaseModel):
    """How an ETL was started, as the cluster tells it."""

    name: str
    communication: str
    init_timeout: str | None = None
    obj_timeout: str | None = None
    code: bytes | None = None
    spec: bytes | None = None
    dependencies: bytes | None = None
    chunk_size: int = 0
    runtime: str | ETLRuntimeSpec | None = None

    @field_validator("code")
    @classmethod
    def set_code(cls, code: bytes | None) -> bytes | None:
        """Code arrives in base64."""
        return None if code is None else base64.b64decode(code)

    @field_validator("spec")
    @classmethod
    def set_spec(cls, spec: bytes | None) -> bytes | None:
        """So does a specification."""
        return None if spec is None else base64.b64decode(spec)


class ETLObjError(BaseModel):
    """An object that an ETL could not transform."""

    obj_name: str
    msg: str
    ecode: int


class ETLDetails(BaseModel):
    """An ETL: how it was started, and what failed."""

    init_msg: ETLInitMsg
    obj_errors: list[ETLObjError] | None = None


class ETLInfo(BaseModel):
    """An ETL as lists show it."""

    id: str = ""
    xaction_id: str = ""
    stage: str = ""
    obj_count: int = 0
    in_bytes: int = 0
    out_bytes: int = 0


class ETLNodeLogs(BaseModel):
    """What an ETL logged on one target."""

    target_id: str = ""
    logs: str = ""


# Documented and pickled under the name that users import them by.
for _model in (
    EnvVar,
    ETLRuntimeSpec,
    InitETLArgs,
    ETLSpecMsg,
    InitSpecETLArgs,
    ETLInitMsg,
    ETLObjError,
    ETLDetails,
    ETLInfo,
    ETLNodeLogs,
):
    _model.__module__ = "aistore.sdk.types"
