"""One job: read the shards, put their records in order, write new shards (protocol/40 B4)."""

from __future__ import annotations

import os
import time
from array import array
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.archive.building import ArchiveBuilder
from aistore.server.archive.errors import BadArchive
from aistore.server.archive.formats import Format, by_mime, by_name
from aistore.server.dsort.contents import key_content, new_members, spans
from aistore.server.dsort.keys import content_key, extension_of_member, order_key
from aistore.server.dsort.records import ShardReader, decode_record, encode_record
from aistore.server.dsort.runs import Run, RunSorter
from aistore.server.dsort.shards import KeptShards, OpenShards, Part
from aistore.server.dsort.spec import count_of, shard_names
from aistore.server.jobs.parallel import in_parallel
from aistore.server.store.content import in_thread
from aistore.wire import dsort
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator

    from aistore.server.archive.archives import Archives, Content
    from aistore.server.archive.writing import NewMember, TarSpan
    from aistore.server.dsort.key_map import KeyMap
    from aistore.server.dsort.progress import Progress
    from aistore.server.dsort.records import Record
    from aistore.server.dsort.shards import KeptShard
    from aistore.server.dsort.spec import Order
    from aistore.server.store.content import Upload
    from aistore.server.store.store import Store
    from aistore.wire.template import Template

__all__ = ["Made", "Places", "sort_shards"]

_STEP_SECONDS: Final = 0.05
_NUMBER_BITS: Final = 40
_MEMBER_HEADER: Final = 512
_GROUP_BYTES: Final = 4
_SEVERAL_MAX: Final = 1_000_000
_HELD_COST: Final = 4096  # bytes of memory that a shard takes while it waits
_HELD_MAX: Final = 16_384  # shards that are made visible together, while nobody else has a turn


class Made(NamedTuple):
    """A shard that is written but not yet there."""

    name: str
    content: bytes | Upload
    checksum: tuple[str, str]


class Places(NamedTuple):
    """Where shards come from and go to."""

    shards: Callable[[], AsyncIterator[tuple[str, Content | None]]]
    """Gives name and content of each input shard, None for one that is missing; whoever takes a content closes it."""
    publish: Callable[[list[Made]], Awaitable[None]]
    """Makes shards visible; those of one call together. What it is given belongs to it."""
    at_once: bool
    """Whether all shards are published together, at the end: they may replace those that are sorted."""
    replacing: bool
    """Whether a shard may have the name of one that is sorted: not where they cannot be made visible together."""
    checksum_type: str


class _Section(NamedTuple):
    """Records that go into one shard: a part of the plan."""

    name: str
    start: int
    end: int


async def sort_shards(
    store: Store, archives: Archives, order: Order, places: Places, key_map: KeyMap | None, progress: Progress
) -> None:
    """Do the job. Nothing but published shards is left, whatever happens. Raises `ApiError`, `StoreError`.

    The last phase ends with the job (`Progress.finish`).
    """
    job = _Sorting(store, archives, order, places, key_map, progress)
    try:
        await job.run()
    finally:
        await job.close()


class _Sorting:
    def __init__(
        self,
        store: Store,
        archives: Archives,
        order: Order,
        places: Places,
        key_map: KeyMap | None,
        progress: Progress,
    ) -> None:
        self._store = store
        self._archives = archives
        self._order = order
        self._places = places
        self._key_map = key_map
        self._templates = _templates(order, key_map)
        self._progress = progress
        self._folder = store.work.root
        self._kept = KeptShards(store)
        self._sorter = RunSorter(self._folder, order.memory, decreasing=_decreases(order))
        self._plan: Run | None = None
        self._ends = array("Q")
        self._groups = array("I")
        self._stored = 0
        """Bytes of the input shards as they are stored."""
        seed = time.time_ns() if order.seed is None else order.seed
        self._key = order_key(order.algorithm.kind, seed)
        self._seen: set[str] = set()
        """Names of the shards that were read."""
        self._counts: dict[int, int] = {}
        self._held: list[Made] = []
        self._held_size = 0

    async def run(self) -> None:
        progress = self._progress
        progress.extraction.start()
        progress.named = self._order.named
        await self._extract()
        progress.extraction.end()
        progress.sorting.start()
        await self._arrange()
        progress.sorting.end()
        progress.creation.start()
        await self._create()

    async def close(self) -> None:
        self._sorter.close()
        if self._plan is not None:
            self._plan.close()
        for made in self._held:
            if not isinstance(made.content, bytes):
                made.content.abandon()
        await self._kept.close()

    # -- extraction --

    async def _extract(self) -> None:
        order, progress = self._order, self._progress
        async for name, content in self._places.shards():
            if name in self._seen:  # named twice: its records are there already
                if content is not None:
                    content.close()
                continue
            if content is None:
                self._react(order.reactions.missing_shards, f"shard {order.source.object_cname(name)} does not exist")
                continue
            try:
                await self._take(name, content)
            except BadArchive as error:
                raise ApiError(400, f"shard {order.source.object_cname(name)} cannot be read: {error}") from error
            finally:
                content.close()
            self._seen.add(name)
            progress.shards += 1
        if not self._seen:
            progress.warn(f"no shard of the input is in {order.source.cname}: nothing is made")

    async def _take(self, name: str, content: Content) -> None:
        progress = self._progress
        form = by_name(name) or by_mime(self._order.input_extension)
        number, shard = await self._kept.keep(name, content, form)
        self._stored += content.row.size
        if shard.file < 0:
            progress.on_disk += 1
            progress.on_disk_size += shard.size
        fd = self._kept.open(number)
        try:
            source = Part(fd, shard.base, shard.size)
            # A shard is grouped by a sort of its own, beside what is held of those before it.
            with closing(ShardReader(number, source, shard.form, self._folder, self._order.memory // 2)) as reader:
                await self._drive(self._read(reader))
                await self._drive(self._add(reader, shard, source))
            if reader.left_out:
                progress.warn(f"shard {name}: {reader.left_out} members that are no files were left out")
        finally:
            os.close(fd)

    def _read(self, reader: ShardReader) -> Iterator[None]:
        progress = self._progress
        members, size = progress.members, progress.size
        for _ in reader.read():
            progress.members, progress.size = members + reader.members, size + reader.size
            yield None

    def _add(self, reader: ShardReader, shard: KeptShard, source: Part) -> Iterator[None]:
        algorithm = self._order.algorithm
        by_content = algorithm.kind == dsort.CONTENT

        def duplicate(name: bytes) -> None:
            shown = name[:100].decode("utf-8", "replace")
            self._react(
                self._order.reactions.duplicated_records, f"shard {shard.name} has more than one member {shown!r}"
            )

        for first, record in reader.records(duplicate):
            number = record.shard << _NUMBER_BITS | first
            name = record.key_name
            if by_content:
                name = self._content_of_key(shard, source, record)
                key = content_key(name, algorithm.content_key_type)
            else:
                key = self._key(name, number)
            group = yield from self._group(name)
            if group >= 0:
                self._sorter.add(group.to_bytes(_GROUP_BYTES, "big") + key, number, encode_record(record))
            yield None

    def _content_of_key(self, shard: KeptShard, source: Part, record: Record) -> bytes:
        wanted = self._order.algorithm.extension.encode()
        for member in record.members:
            if extension_of_member(member.name) == wanted:
                return key_content(source, shard.form, member)
        shown = record.key_name[:200].decode("utf-8", "replace")
        raise ApiError(
            400, f"key is missing for {shown!r} in shard {shard.name}: no member with extension {wanted.decode()}"
        )

    def _group(self, name: bytes) -> Generator[None, None, int]:
        """The number of the template that a record's shards are named by, -1 if it goes into none; yields while it searches."""
        if self._key_map is None:
            return 0
        text = name.decode("utf-8", "replace")
        group = yield from self._key_map.find(text)
        if group < 0:
            reaction = self._order.reactions.ekm_missing_key
            self._react(reaction, f"record {text[:200]!r} matches no key of the key map, or more than one")
        return group

    def _react(self, reaction: str, text: str) -> None:
        if reaction == dsort.ABORT:
            raise ApiError(400, text)
        if reaction == dsort.WARN:
            self._progress.warn(text)

    async def _drive(self, work: Iterator[None]) -> None:
        """Go on in a thread, with a look at the disk's room and at whether to go on every now and then."""

        def step() -> bool:
            deadline = time.monotonic() + _STEP_SECONDS
            return any(time.monotonic() > deadline for _ in work)

        more, seen = True, self._on_disk()
        while more:
            more = await self._archives.run(step)
            now = self._on_disk()
            self._store.check_room(max(now - seen, 0))
            seen = now

    def _on_disk(self) -> int:
        return self._sorter.on_disk + (self._plan.size if self._plan is not None else 0)

    # -- sorting --

    async def _arrange(self) -> None:
        """Write the records in order into the plan, and find out where each shard ends."""
        self._plan = Run(self._folder)
        await self._drive(self._arranged(self._plan))
        await in_thread(self._plan.flush)
        self._progress.to_create = len(self._ends)

    def _full_at(self) -> int:
        """Bytes of content that fill a shard."""
        order, size = self._order, self._progress.size
        if not order.shard_size:
            assert order.output is not None
            return max(-(-size // count_of(order.output)), 1)
        if by_mime(order.input_extension) is Format.TAR or not size:
            return order.shard_size
        return max(int(order.shard_size / min(self._stored / size, 1.0)), 1)

    def _arranged(self, plan: Run) -> Iterator[None]:
        full = self._full_at()
        mapped = self._key_map is not None
        current, records, filled = 0, 0, 0
        for key, number, data in self._sorter.sorted():
            group = int.from_bytes(key[:_GROUP_BYTES], "big")
            if records and group != current:
                self._end(plan, current)
                records = filled = 0
            current = group
            record = decode_record(data)
            plan.append((b"", number, data))
            records += 1
            filled += record.size + (_MEMBER_HEADER * len(record.members) if mapped else 0)
            if filled > full or (filled == full and not mapped):
                self._end(plan, current)
                records = filled = 0
            yield None
        if records:
            self._end(plan, current)

    def _end(self, plan: Run, group: int) -> None:
        """A shard ends here. Raises `ApiError` if there is no name for it."""
        self._ends.append(plan.size)
        self._groups.append(group)
        self._counts[group] = self._counts.get(group, 0) + 1
        most = count_of(self._templates[group])
        if self._counts[group] > most:
            raise ApiError(400, f"number of shards to be created exceeds expected number of shards ({most})")

    # -- creation --

    async def _create(self) -> None:
        assert self._plan is not None
        self._sorter.close()  # its files are not needed any more
        if self._places.at_once and len(self._ends) > _HELD_MAX and not self._order.dry_run:
            raise _too_many_held(_HELD_MAX)
        await in_parallel(self._sections(), self._order.workers, self._make)
        if self._held:
            held, self._held = self._held, []
            await self._places.publish(held)

    async def _sections(self) -> AsyncIterator[_Section]:
        mapped = self._key_map is not None
        extension = self._order.output_extension
        names: dict[int, Iterator[str]] = {}
        # More than one range, or template, may give a name twice.
        several = len(self._templates) > 1 or len(self._templates[0].ranges) > 1
        taken: set[str] = set()
        start = 0
        for end, group in zip(self._ends, self._groups, strict=True):
            if group not in names:
                names[group] = shard_names(self._templates[group], "" if mapped else extension)
            name = next(names[group])
            if several and name in taken:
                raise ApiError(400, f"two output shards would have the name {name!r}: change the templates")
            if several:
                taken.add(name)
                if len(taken) > _SEVERAL_MAX:
                    raise ApiError(400, f"more than {_SEVERAL_MAX} output shards need a template with one range")
            yield _Section(name, start, end)
            start = end

    async def _make(self, section: _Section) -> None:
        """Write one shard, and publish it, or keep it for the end."""
        if not self._places.replacing and section.name in self._seen:
            cname = self._order.target.object_cname(section.name)
            raise ApiError(400, f"{cname} is one of the input shards, which stay as they are: choose other names")
        form = by_name(section.name) or by_mime(self._order.output_extension)
        builder = await ArchiveBuilder.begin(self._store, form, self._places.checksum_type)
        try:
            # Closed here: what went wrong with a member would keep the files of its shard open.
            with closing(self._contents(section, form)) as contents:
                await builder.add(contents)
        except BadArchive as error:
            builder.abandon()
            raise ApiError(400, f"output shard {section.name!r} cannot be made: {error}") from error
        except BaseException:
            builder.abandon()
            raise
        if self._order.dry_run:
            builder.abandon()
            self._progress.created += 1
            return
        made = Made(section.name, *await builder.finish())
        if not self._places.at_once:
            await self._places.publish([made])
        else:
            self._held.append(made)
            self._held_size += _HELD_COST + (len(made.content) if isinstance(made.content, bytes) else 0)
            if self._held_size > self._order.memory:
                raise _too_many_held(len(self._held))
        self._progress.created += 1

    def _contents(self, section: _Section, form: Format) -> Generator[NewMember | TarSpan, None, None]:
        assert self._plan is not None
        with OpenShards(self._kept) as opened:
            for _, _, data in self._plan.items(section.start, section.end):
                record = decode_record(data)
                shard, fd = opened.source(record.shard)
                if shard.form is Format.TAR and form is not Format.ZIP:
                    yield from spans(shard, fd, record)
                else:
                    yield from new_members(shard, fd, record)


def _too_many_held(most: int) -> ApiError:
    return ApiError(400, f"more than {most} output shards for the bucket of the input: sort into another bucket")


def _decreases(order: Order) -> bool:
    return order.algorithm.decreasing and order.algorithm.kind not in (dsort.SHUFFLE, dsort.NONE)


def _templates(order: Order, key_map: KeyMap | None) -> list[Template]:
    if key_map is not None:
        return key_map.templates
    assert order.output is not None
    return [order.output]
