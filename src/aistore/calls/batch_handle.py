"""What a batch knows without asking the cluster, in both faces."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final, TypeVar, cast

from aistore.calls.batch_delivery import Delivery, Entry, Settings
from aistore.calls.bucket_handle import BucketHandle
from aistore.calls.object_handle import ObjectHandle
from aistore.calls.query import extend, quote_name
from aistore.sdk.enums import Colocation
from aistore.wire import params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistore.calls.bucket_ref import BucketRef
    from aistore.sdk.batch.types import MossIn

__all__ = ["BatchHandle", "ref_of"]

B = TypeVar("B", bound="BatchHandle")

_FORMATS: Final = (".tar", ".tgz", ".tar.gz", ".zip")
_NO_BUCKET: Final = "Bucket must be provided when objects are specified as raw names (str or list of str)"


def ref_of(bucket: BucketHandle | None) -> BucketRef | None:
    """Identity of the bucket that names are in. Raises TypeError for what is none, its name for one."""
    if bucket is None:
        return None
    if not isinstance(bucket, BucketHandle):
        raise TypeError(f"{bucket!r} is no bucket: give client.bucket({str(bucket)!r})")
    return bucket.ref


class BatchHandle:
    """Entries of a batch, and how they are wanted."""

    __slots__ = ("_entries", "_ref", "_settings")

    def __init__(
        self,
        ref: BucketRef | None,
        objects: Sequence[ObjectHandle | str] | ObjectHandle | str | None,
        output_format: str,
        cont_on_err: bool,
        only_obj_name: bool,
        streaming_get: bool,
        colocation: Colocation,
    ) -> None:
        mime = output_format.lower()
        if mime not in _FORMATS:
            raise ValueError(f"output_format {output_format!r} is not one of {', '.join(_FORMATS)}")
        if colocation not in tuple(Colocation):
            raise ValueError(f"colocation {colocation!r} is not one of 0, 1")
        if colocation == Colocation.TARGET_AND_SHARD_AWARE:
            raise NotImplementedError("Colocation.TARGET_AND_SHARD_AWARE is for servers to come")
        path, query = "ml/moss", ""
        if ref is not None:
            path, query = f"{path}/{quote_name(ref.name)}", ref.query
        if colocation:
            query = extend(query, coloc=int(colocation))
        self._ref = ref
        self._settings = Settings(
            path,
            query,
            ref.name if ref is not None else "",
            ref.provider if ref is not None else "",
            mime,
            bool(cont_on_err),
            bool(only_obj_name),
            bool(streaming_get),
            int(colocation),
        )
        self._entries: list[Entry | str] = []
        if isinstance(objects, (str, ObjectHandle)):
            objects = [objects]
        elif objects is not None and not isinstance(objects, (list, tuple)):
            raise ValueError(f"objects are names, objects or a list of them, not {type(objects).__name__}")
        if ref is not None and objects and set(map(type, objects)) == {str}:  # names alone, as nearly all are
            self._entries += cast("Sequence[str]", objects)
            return
        for one in objects or ():
            self.add(one)

    def add(
        self: B,
        obj: ObjectHandle | str,
        opaque: bytes | None = None,
        archpath: str | None = None,
        start: int | None = None,
        length: int | None = None,
        bck: str | None = None,
        provider: str | None = None,
    ) -> B:
        """Append an entry, and return the batch.

        `obj` is an object, or a name in the batch's bucket, or in `bck` of `provider`. `archpath` is a member of it, an archive. `start` and
        `length` are bytes of it, or of the member; a length of -1 reaches to the end. `opaque` comes back with the entry. Raises
        ValueError for a range that cannot be, and for a name without a bucket.
        """
        # A name alone, as nearly all are.
        if obj.__class__ is str and not (opaque or archpath or start or length or bck or provider):
            if self._ref is None:
                raise ValueError(_NO_BUCKET)
            self._entries.append(obj)
            return self
        self._entries.append(self._entry(obj, opaque, archpath or "", start or 0, length or 0, bck, provider))
        return self

    def _entry(
        self,
        obj: ObjectHandle | str,
        opaque: bytes | None,
        path: str,
        start: int,
        length: int,
        bucket: str | None,
        provider: str | None,
    ) -> Entry:
        if start < 0 or length < -1 or (start and not length):
            raise ValueError(
                f"start={start}, length={length}: start is at least 0, length at least 1, or -1 for the rest"
            )
        if bool(bucket) != bool(provider):
            raise ValueError("bck and provider are given together")
        opaque = opaque or None
        if isinstance(obj, ObjectHandle):
            if bucket:
                raise ValueError("bck and provider are for names: an object has its bucket")
            uname = ""
            if params.NAMESPACE in obj.query_params:
                uname = obj.uname.removesuffix(obj.name)
            where = obj.query_params[params.PROVIDER]
            return Entry(obj.name, obj.bucket_name, where, uname, opaque, path, start, length)
        if not isinstance(obj, str):
            raise ValueError(f"an entry is an object or a name, not {type(obj).__name__}")  # noqa: TRY004 (the documented type)
        if bucket and provider:
            return Entry(
                str(obj), str(bucket), str(getattr(provider, "value", provider)), "", opaque, path, start, length
            )
        if self._ref is None:
            raise ValueError(_NO_BUCKET)
        return Entry(str(obj), "", "", "", opaque, path, start, length)

    def clear(self) -> None:
        """Forget the entries."""
        self._entries = []

    @property
    def requests_list(self) -> list[MossIn]:
        """The entries, made for this call."""
        from aistore.sdk.batch.types import MossIn

        settings = self._settings
        return [
            MossIn(
                objname=one.name,
                bucket=one.bucket or settings.bucket,
                provider=one.provider or settings.provider,
                uname=one.uname or None,
                opaque=b64encode(one.opaque).decode() if one.opaque else None,
                archpath=one.path or None,
                start=one.start if one.length else None,
                length=one.length or None,
            )
            for one in (entry if isinstance(entry, Entry) else Entry(entry) for entry in self._entries)
        ]

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"{type(self).__name__.removeprefix('Async')}(objects={len(self)}, format={self._settings.mime})"

    # -- for the faces --

    def _delivery(self, raw: bool, tar_buffer_size: int | None) -> Delivery:
        """Raises ValueError for an empty batch, and for a buffer that cannot be."""
        if not self._entries:
            raise ValueError("No objects added to batch")
        if tar_buffer_size is not None:
            if isinstance(tar_buffer_size, bool) or not isinstance(tar_buffer_size, int) or tar_buffer_size <= 0:
                raise ValueError(f"tar_buffer_size {tar_buffer_size!r} is not a positive number of bytes")
            if raw or self._settings.mime == ".zip":
                raise ValueError("tar_buffer_size is for TAR formats that are taken apart (raw=False)")
        return Delivery(self._settings, list(self._entries))
