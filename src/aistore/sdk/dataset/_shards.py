"""The shards of a data set, as files."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from aistore.sdk.dataset.dataset_config import DatasetConfig

__all__ = ["Shards"]

_MAXCOUNT: Final = 100_000
_PATTERN: Final = "dataset"
_log = logging.getLogger("aistore.sdk.dataset.dataset_config.write_shards")


class Shards:
    """Writes the shards of a data set, one after the other, and gives the path of each that is whole.

    While it is written, a shard has another name (`.part`); what is not whole is removed. Memory holds one sample, whatever the shards'
    size.
    """

    def __init__(
        self, config: DatasetConfig, skip_missing: bool, options: dict[str, object], keep: bool = True
    ) -> None:
        # Any: these are ShardWriter's arguments, which checks them.
        rest: dict[str, Any] = dict(options)
        self._config = config
        self._skip_missing = skip_missing
        self._keep = keep
        self._maxcount = rest.setdefault("maxcount", _MAXCOUNT)
        if isinstance(self._maxcount, bool) or not isinstance(self._maxcount, int) or self._maxcount < 1:
            raise ValueError(f"maxcount is a positive number of samples, not {self._maxcount!r}")
        prefix = str(rest.pop("pattern", None) or _PATTERN).replace("%", "%%")
        rest["pattern"] = f"{prefix}-%0{len(str(self._maxcount))}d.tar"
        rest.setdefault("verbose", 0)  # it would print
        self._post = cast("Callable[[str], object] | None", rest.pop("post", None))
        self._open = cast("Callable[[str], Any]", rest.pop("opener", None) or _open)
        self._options = rest
        self._new_writer = _shard_writer()
        self._writer: Any = None
        self._file: Any = None
        self._part: Path | None = None
        self._whole: list[str] = []
        self.done = 0
        """Samples that are through: written, or skipped."""
        self.bytes = 0
        """Bytes of the shards that are whole."""
        self.on_sample: Callable[[], object] | None = None
        """Called after each sample."""

    def paths(self) -> Generator[str, None, None]:
        """The paths, which begin with `pattern`; without `keep` each file is removed when the next one is asked for.

        Raises ValueError if there is nothing to write, OSError for what cannot be read or written, and what `post` raises.
        """
        lacked = ""
        try:
            for sample, lacking in self._config.generate_dataset(self._maxcount):
                if lacking:
                    lacked = lacked or lacking[0]
                    _log.warning("Missing attributes: %s", ", ".join(lacking))
                if not (lacking and self._skip_missing):
                    if self._writer is None:
                        self._writer = self._new_writer(**self._options, opener=self._begin, post=self._end)
                    self._writer.write(sample)
                    yield from self._given()
                self.done += 1
                if self.on_sample is not None:
                    self.on_sample()
            if self._writer is None:
                raise ValueError(self._nothing(lacked))
            self._writer.finish()
            yield from self._given()
        finally:
            self._drop()

    def _begin(self, path: str) -> object:
        if not self._keep and Path(path).exists():
            raise FileExistsError(f"{path!r} is there already, and would be removed: choose another pattern")
        part = Path(f"{path}.part")
        self._file = self._open(str(part))
        self._part = part
        return self._file

    def _end(self, path: str) -> None:
        assert self._part is not None
        self._file.close()
        self._part.replace(path)
        self._part = None
        self.bytes += Path(path).stat().st_size
        self._whole.append(path)
        if self._post is not None:
            self._post(path)

    def _given(self) -> Iterator[str]:
        while self._whole:
            yield self._whole[0]
            self._let_go()

    def _let_go(self) -> None:
        path = Path(self._whole.pop(0))
        if not self._keep:
            path.unlink(missing_ok=True)  # `post` may have moved it

    def _drop(self) -> None:
        """Remove what is not whole, and what is whole and was not taken."""
        if self._part is not None:
            # Else they are closed when they are collected, which fails then. The disk may be full.
            for file in (getattr(self._writer, "tarstream", None), self._file):
                with suppress(OSError):
                    if file is not None:
                        file.close()
            self._part.unlink(missing_ok=True)
            self._part = None
        while self._whole:
            self._let_go()

    def _nothing(self, lacked: str) -> str:
        primary = self._config.primary_attribute
        if lacked:
            return f"no sample is complete: {lacked} is missing, for one (skip_missing=False writes what there is)"
        return f"there are no files *.{primary.file_type} in {str(primary.path)!r}"


def _open(path: str) -> object:
    return open(path, "wb")  # noqa: PTH123  as ShardWriter opens files; closed when the shard ends


def _shard_writer() -> Callable[..., Any]:  # Any: the package has no types
    try:
        from webdataset import ShardWriter
    except ImportError as error:
        raise ImportError(
            "shards are written by the package webdataset, which is not installed: pip install webdataset"
        ) from error
    return cast("Callable[..., Any]", ShardWriter)
