"""Messages of batches as users construct and inspect them (protocol/40 A2, A6).

Batches themselves work on plain tuples; the models are made where they are asked for.
"""

from __future__ import annotations

import binascii
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from aistore.sdk.enums import Colocation  # noqa: TC001  pydantic evaluates it
from aistore.wire.batch import decode_opaque

__all__ = ["MossIn", "MossOut", "MossReq", "MossResp"]

Document = dict[str, Any]


class _Message(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    def dict(self, *_args: object, **_kwargs: object) -> Document:
        """Document as it is sent: names of the protocol, nothing that is not set."""
        return self.model_dump(by_alias=True, exclude_none=True)


class MossIn(_Message):
    """One entry of a batch; `opaque` is base64."""

    model_config = ConfigDict(populate_by_name=True, frozen=True)

    obj_name: str = Field(alias="objname")
    bck: str | None = Field(default=None, alias="bucket")
    provider: str | None = None
    uname: str | None = None
    opaque: str | None = None
    archpath: str | None = None
    start: int | None = None
    length: int | None = None


class MossOut(_Message):
    """What became of one entry: `err_msg` says why it is missing, None if it is there. `size` is that of its content."""

    obj_name: str = Field(alias="objname")
    archpath: str | None = None
    bucket: str
    provider: str
    opaque: bytes | None = None
    err_msg: str | None = None
    size: int = 0

    @field_validator("opaque", mode="before")
    @classmethod
    def decode_opaque(cls, opaque_val: object) -> object:
        """The bytes that base64 stands for; None if it is not base64."""
        if not isinstance(opaque_val, str):
            return opaque_val
        try:
            return decode_opaque(opaque_val)
        except (binascii.Error, ValueError):
            return None

    @property
    def bck(self) -> str:
        """The bucket, as `MossIn` names it: lhotse asks for what is missing once more, and takes either for the entry."""
        return self.bucket

    @staticmethod
    def known(values: Document) -> MossOut:
        """Make one of values, for all fields by name, that are what they should be: a batch makes thousands."""
        made = _new(MossOut)
        _set_values(made, values)
        _set_given(made, _ALL)
        _set_extra(made, None)
        _set_private(made, None)
        return made


class MossReq(_Message):
    """A batch: entries, and how they are wanted."""

    moss_in: list[MossIn] = Field(default_factory=list, alias="in")
    output_format: str | None = Field(default=None, alias="mime")
    cont_on_err: bool | None = Field(default=None, alias="coer")
    only_obj_name: bool | None = Field(default=None, alias="onob")
    streaming_get: bool | None = Field(default=None, alias="strm")
    colocation: Colocation | None = Field(default=None, alias="coloc")

    def add(self, moss_in: MossIn) -> None:
        """Append an entry."""
        self.moss_in.append(moss_in)

    def extend(self, moss_ins: list[MossIn]) -> None:
        """Append entries."""
        self.moss_in.extend(moss_ins)


class MossResp(_Message):
    """The metadata of a buffered answer: one record for each entry, in order, and the id of the job."""

    out: list[MossOut] = Field(default_factory=list)
    uuid: str = ""


_new = object.__new__
# The slots themselves take half the time of `object.__setattr__`.
_slots: Final = BaseModel.__dict__
_set_values, _set_given, _set_extra, _set_private = (
    _slots[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)
_ALL = set(MossOut.model_fields)
