"""What a client asks for, checked: from a specification to an order (protocol/40 B3)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from msgspec.structs import replace

from aistore.server.archive.formats import EXTENSIONS, by_mime, by_name, extension_of
from aistore.wire import dsort
from aistore.wire.dsort import Algorithm, Reactions
from aistore.wire.errors import ApiError
from aistore.wire.names import check_object_name
from aistore.wire.template import Template, parse_counter, parse_template
from aistore.wire.values import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aistore.wire.dsort import Specification
    from aistore.wire.messages import BucketMessage
    from aistore.wire.names import BucketId

__all__ = ["Order", "check_specification", "count_of", "shard_names"]

T = TypeVar("T")

_SORTERS: Final = ("", "dsort_general", "dsort_mem")
_PERCENT: Final = re.compile(r"([0-9]{1,3})%")
_SEED: Final = re.compile(r"[0-9]{1,19}")
_SEED_MAX: Final = (1 << 63) - 1
_DEFAULT_SEPARATOR: Final = "\t"
_DEFAULT_EXTENSION: Final = ".tar"
_WORKERS: Final = 2
_WORKERS_MAX: Final = 16
_TEXT_MAX: Final = 4096
_SCHEMES: Final = ("http", "https")
# Of the memory that a job may take, items that are being sorted get this part; the rest is for what is read and written at the time.
_SORTING_PART: Final = 4
_SORTING_MIN: Final = 2 << 20
_SORTING_MAX: Final = 512 << 20


class Order(NamedTuple):
    """A checked specification."""

    source: BucketId
    target: BucketId
    objnames: list[str]
    """Names of input shards; if there are none, those of the template."""
    template: Template
    input_extension: str
    output: Template | None
    """None with a key map, which has templates of its own."""
    output_extension: str
    shard_size: int
    """Bytes of content after which a shard is full; 0: the content's size, divided by the number of names."""
    algorithm: Algorithm
    seed: int | None
    reactions: Reactions
    memory: int
    """Bytes of records that are held in memory while they are sorted."""
    workers: int
    """Output shards written at a time."""
    dry_run: bool
    description: str
    key_map: str
    """URL of an external key map."""
    separator: str

    @property
    def named(self) -> int:
        """Input shards that are named."""
        if self.objnames:
            return len(self.objnames)
        return count_of(self.template) if self.template.ranges else 0

    def input_names(self) -> Iterator[str]:
        """Names of input shards; of a template those that can be of the format, with its extension."""
        if self.objnames or not self.template.ranges:
            yield from self.objnames
            return
        form = by_mime(self.input_extension)
        for name in self.template.names():
            known = by_name(name)
            if known is None:
                yield check_object_name(name + self.input_extension)
            elif known is form:
                yield check_object_name(name)


def shard_names(template: Template, extension: str) -> Iterator[str]:
    """Names of output shards; those with no known extension get `extension`."""
    for name in template.names():
        yield check_object_name(name if by_name(name) is not None else name + extension)


def count_of(template: Template) -> int:
    """How many names a template with ranges has."""
    count = 1
    for one in template.ranges:
        count *= one.total
    return count


def check_specification(spec: Specification, section: Mapping[str, object]) -> Order:
    """The order that a specification is; `section` has the cluster's reactions. Raises `ApiError` 400."""
    source = _bucket("input_bck", spec.input_bck)
    target = source if spec.output_bck is None or not spec.output_bck.name else _bucket("output_bck", spec.output_bck)
    selection = spec.input_format
    if selection is None or not (selection.objnames or selection.template):
        raise _bad("input_format", "missing: expected a template or a list of names")
    names = [_checked("input_format", check_object_name, name) for name in selection.objnames]
    template = Template(("",)) if names else _checked("input_format", parse_template, selection.template)
    _check_first("input_format", template)
    input_extension = _extension(
        "input_extension", spec.input_extension, "" if names else selection.template, _DEFAULT_EXTENSION
    )
    output_extension = _extension(
        "output_extension", spec.output_extension, "" if spec.ekm_file else spec.output_format, input_extension
    )
    output = None if spec.ekm_file else _output(spec.output_format)
    size = _size("output_shard_size", spec.output_shard_size)
    if not size and (output is None or parse_counter(spec.output_format) is not None):
        raise _bad("output_shard_size", "output shard size must be set (cannot be 0 and cannot be omitted)")
    for field in ("extract_concurrency_max_limit", "create_concurrency_max_limit"):
        if getattr(spec, field) < 0:
            raise _bad(field, f"must not be negative, and is {getattr(spec, field)}")
    if spec.dsorter_type not in _SORTERS:
        raise _bad("dsorter_type", f"unknown type {spec.dsorter_type[:100]!r}")
    for field in ("description", "ekm_file", "ekm_file_sep"):
        if len(getattr(spec, field)) > _TEXT_MAX:
            raise _bad(field, f"is longer than {_TEXT_MAX} characters")
    return Order(
        source=source,
        target=target,
        objnames=names,
        template=template,
        input_extension=input_extension,
        output=output,
        output_extension=output_extension,
        shard_size=size,
        algorithm=_algorithm(spec.algorithm),
        seed=_seed(spec.algorithm.seed),
        reactions=_reactions(spec.config, section),
        memory=_memory(spec.max_mem_usage or str(section.get("default_max_mem_usage", ""))),
        workers=min(spec.create_concurrency_max_limit or _WORKERS, _WORKERS_MAX),
        dry_run=spec.dry_run,
        description=spec.description,
        key_map=_url("ekm_file", spec.ekm_file) if spec.ekm_file else "",
        separator=spec.ekm_file_sep or _DEFAULT_SEPARATOR,
    )


def _bad(field: str, reason: str) -> ApiError:
    return ApiError(400, f'[dsort] parse-spec: "{field}" {reason}')


def _checked(field: str, check: Callable[[str], T], text: str) -> T:
    """What `check` makes of a text; its refusal names the field."""
    try:
        return check(text)
    except ApiError as error:
        raise _bad(field, error.message) from error


def _bucket(field: str, message: BucketMessage | None) -> BucketId:
    if message is None or not message.name:
        raise _bad(field, "missing source bucket")
    try:
        return message.bucket_id()
    except ApiError as error:
        raise _bad(field, error.message) from error


def _extension(field: str, text: str, template: str, default: str) -> str:
    """An extension that is given, or else that of a template; both have to mean one format."""
    given = _checked(field, extension_of, text) if text else ""
    known = by_name(template)
    if known is None:
        return given or default
    if given and by_mime(given) is not known:
        raise _bad(field, f"{given} is not the extension of {template[:300]!r}")
    return given or next(one for one in EXTENSIONS if template.endswith(one))


def _output(text: str) -> Template:
    if not text:
        raise _bad("output_format", "empty range template")
    found = _checked("output_format", lambda one: parse_counter(one) or parse_template(one), text)
    if not found.ranges:
        raise _bad("output_format", "prefix-only template not supported")
    _check_first("output_format", found)
    return found


def _check_first(field: str, template: Template) -> None:
    """Raise `ApiError` for a template whose names are none: they differ in their numbers only, and a job is not begun to find that out."""
    if template.ranges:
        _checked(field, check_object_name, next(template.names()))


def _size(field: str, text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise _bad(field, str(error)) from None


def _url(field: str, text: str) -> str:
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise _bad(field, "a URL with a user or a password in it, which jobs and logs would show")
    try:
        url = urlsplit(text)
        known = url.hostname and url.scheme in _SCHEMES and url.port != 0  # one that is no port raises
    except ValueError as error:
        raise _bad(field, f"{text[:300]!r} is no URL: {error}") from error
    if not known:
        raise _bad(field, f"{text[:300]!r} does not begin with http:// or https://, and a host")
    return text


def _algorithm(algorithm: Algorithm) -> Algorithm:
    kind = algorithm.kind or dsort.ALPHANUMERIC
    if kind not in dsort.KINDS:
        raise _bad("algorithm", f"unknown kind {kind[:100]!r} (expected one of: {', '.join(dsort.KINDS)})")
    if kind == dsort.CONTENT:
        if not algorithm.extension.startswith("."):
            raise _bad("algorithm", f"extension {algorithm.extension[:100]!r} does not begin with a dot")
        if algorithm.content_key_type not in dsort.KEY_TYPES:
            known = ", ".join(dsort.KEY_TYPES)
            raise _bad("algorithm", f"content_key_type {algorithm.content_key_type[:100]!r} is none of: {known}")
    return replace(algorithm, kind=kind)


def _seed(text: str) -> int | None:
    if not text:
        return None
    if not _SEED.fullmatch(text) or int(text) > _SEED_MAX:
        raise _bad("algorithm", f"seed {text[:100]!r} is not a number that is not negative")
    return int(text)


def _reactions(wanted: Reactions, section: Mapping[str, object]) -> Reactions:
    chosen = {}
    for situation in Reactions.__struct_fields__:
        chosen[situation] = getattr(wanted, situation) or str(section.get(situation) or dsort.IGNORE)
        if chosen[situation] not in dsort.REACTIONS:
            known = ", ".join(dsort.REACTIONS)
            raise _bad(situation, f"{chosen[situation][:100]!r} is none of: {known}")
    return Reactions(**chosen)


def _memory(text: str) -> int:
    """The part of the job's memory in which records are sorted."""
    found = _PERCENT.fullmatch(text)
    if found is None:
        limit = _size("max_mem_usage", text) if text else 0
    elif 1 <= int(found[1]) <= 99:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * int(found[1]) // 100
    else:
        raise _bad("max_mem_usage", f"{text} is not between 1% and 99%")
    return min(max((limit or _SORTING_MAX) // _SORTING_PART, _SORTING_MIN), _SORTING_MAX)
