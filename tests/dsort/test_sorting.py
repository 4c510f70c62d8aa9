"""What comes out of a dSort job: every record once and whole, in the order that was asked for (protocol/40 B3, B4)."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from archives import Members, packed, tar, unpacked, zipped
from shards import DEADLINE, merged, records, shards

if TYPE_CHECKING:
    from shards import Places

MADE = records(120)
BY_NAME = merged(sorted(MADE, key=lambda record: record[0][0]))
EXTENSIONS = (".tar", ".tgz", ".tar.lz4", ".zip")


@pytest.mark.parametrize("into", EXTENSIONS)
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_records_by_name_from_every_format_into_every_format(one: Places, extension: str, into: str) -> None:
    one.put(shards(MADE, 4, extension))
    made = one.sorted(input_extension=extension, output_extension=into)
    assert merged(made) == BY_NAME
    assert len(made) > 2
    assert all(entry.name.endswith(into) for entry in one.target.list_all_objects())


def test_on_all_kinds_of_clusters(places: Places) -> None:
    places.put(shards(MADE, 4))
    result, infos = places.sort()
    assert result
    made = places.made(places.target)
    assert merged(made) == BY_NAME
    # A shard is full with the record that makes it so.
    for members in made[:-1]:
        sizes = [len(content) for _, content in members]
        last = next(len(record) for record in MADE if record[-1] == members[-1])
        assert sum(sizes) >= 2048 > sum(sizes[:-last])
    assert len(infos) == len(places.client.cluster().get_info().tmap)
    total = {
        key: sum(int(getattr(info.metrics.local_extraction, key)) for info in infos.values())
        for key in ("total_count", "extracted_count", "extracted_record_count", "extracted_size")
    }
    assert total == {
        "total_count": 10,
        "extracted_count": 4,
        "extracted_record_count": len(BY_NAME),
        "extracted_size": sum(len(content) for _, content in BY_NAME),
    }
    assert sum(int(info.metrics.shard_creation.created_count) for info in infos.values()) == len(made)
    assert all(info.archived and not info.aborted and info.metrics.meta_sorting.finished for info in infos.values())


def test_a_time_that_no_calendar_has_is_none_in_a_zip(one: Places) -> None:
    info = tarfile.TarInfo("a.x")
    info.mtime = 1 << 61
    one.put({"in-0.tar": info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)})
    assert merged(one.sorted(output_extension=".zip")) == [("a.x", b"")]


def test_decreasing(one: Places) -> None:
    one.put(shards(MADE, 4))
    made = one.sorted(algorithm={"kind": "alphanumeric", "decreasing": True})
    assert merged(made) == merged(sorted(MADE, key=lambda record: record[0][0], reverse=True))


def test_a_seed_gives_one_order_and_another_seed_another(places: Places) -> None:
    places.put(shards(MADE, 4))
    found = []
    for seed in ("7", "7", "8"):
        made = places.sorted(algorithm={"kind": "shuffle", "seed": seed})
        found.append(merged(made))
        assert sorted(found[-1]) == sorted(BY_NAME)
    assert found[0] == found[1] != found[2]
    assert found[0] not in (BY_NAME, merged(MADE))


def test_a_seed_gives_the_same_order_for_ever(one: Places) -> None:
    one.put({"in-0.tar": tar([(f"{i}.x", b"%d" % i) for i in range(8)])})
    made = one.sorted(algorithm={"kind": "shuffle", "seed": "42"})
    assert [name for name, _ in merged(made)] == ORDER_OF_42


ORDER_OF_42 = ["4.x", "5.x", "2.x", "7.x", "1.x", "0.x", "3.x", "6.x"]


def test_without_a_seed_every_job_has_an_order_of_its_own(one: Places) -> None:
    one.put(shards(MADE, 2))
    first = merged(one.sorted(algorithm={"kind": "shuffle"}))
    second = merged(one.sorted(algorithm={"kind": "shuffle"}))
    assert sorted(first) == sorted(second) == sorted(BY_NAME)
    assert first != second


def test_no_order_is_that_of_the_input(one: Places) -> None:
    one.put(shards(MADE, 4))
    assert merged(one.sorted(algorithm={"kind": "none"})) == merged(MADE)


def test_md5_keeps_everything(one: Places) -> None:
    one.put(shards(MADE, 4))
    made = merged(one.sorted(algorithm={"kind": "md5"}))
    assert sorted(made) == sorted(BY_NAME)
    assert made != BY_NAME


@pytest.mark.parametrize("extension", [".tar", ".zip"])
def test_by_content(one: Places, extension: str) -> None:
    one.put(shards(MADE, 4, extension))
    algorithm = {"kind": "content", "extension": ".cls", "content_key_type": "int"}
    made = one.sorted(input_extension=extension, algorithm=algorithm)
    assert merged(made) == merged(sorted(MADE, key=lambda record: int(record[0][1])))


@pytest.mark.parametrize(
    ("key_type", "contents"),
    [
        ("int", ["-5", "-05", "0", "+3", "12", "9223372036854775807"]),
        ("float", ["-inf", "-2e10", "-1.5", "-0", "0", "1e-3", ".5", "1.", "1e300", "inf"]),
        ("string", ["", " ", "10", "9", "a", "ab", "\u00e9"]),
    ],
)
def test_keys_compare_as_their_values(one: Places, key_type: str, contents: list[str]) -> None:
    members = [(f"{i}.key", content.encode()) for i, content in enumerate(contents)]
    mixed = [members[i] for i in sorted(range(len(members)), key=lambda i: (i * 7 % 5, i))]
    # Equal ones stay in the order of the input.
    one.put({"in-0.tar": tar(sorted(mixed, key=lambda member: member[0]))})
    algorithm = {"kind": "content", "extension": ".key", "content_key_type": key_type}
    assert merged(one.sorted(algorithm=algorithm)) == members


@pytest.mark.parametrize("content", [" 5", "5\n", "", "five", "1e3", "9223372036854775808", "1_0", "\u0665"])
def test_a_key_that_is_no_integer_ends_the_job(one: Places, content: str) -> None:
    one.put({"in-0.tar": tar([("a.key", content.encode())])})
    error = one.failed(algorithm={"kind": "content", "extension": ".key", "content_key_type": "int"})
    assert "integer" in error


@pytest.mark.parametrize("content", ["nan", "1e400", "0x", "", "1.5 ", "--1", "9" * 65_000 + "x"], ids=range(7))
def test_a_key_that_is_no_number_ends_the_job(one: Places, content: str) -> None:
    one.put({"in-0.tar": tar([("a.key", content.encode())])})
    error = one.failed(algorithm={"kind": "content", "extension": ".key", "content_key_type": "float"})
    assert "number" in error


def test_a_record_without_its_key_ends_the_job(one: Places) -> None:
    one.put({"in-0.tar": tar([("a.key", b"1"), ("b.keys", b"1")])})
    error = one.failed(algorithm={"kind": "content", "extension": ".key", "content_key_type": "int"})
    assert "key is missing for 'b.keys'" in error


def test_equal_names_of_two_shards_are_two_records(one: Places) -> None:
    members: Members = [("a.x", b"one"), ("a.y", b"uno")]
    other: Members = [("a.x", b"two"), ("a.y", b"due")]
    one.put({"in-0.tar": tar(members), "in-1.tar": tar(other)})
    assert merged(one.sorted(output_shard_size="1")) == members + other
    assert len(one.made(one.target)) == 2


def test_members_of_a_record_need_not_lie_together(one: Places) -> None:
    one.put({"in-0.tar": tar([("b.x", b"1"), ("a.x", b"2"), ("b.y", b"3"), ("a.y", b"4")])})
    assert merged(one.sorted()) == [("a.x", b"2"), ("a.y", b"4"), ("b.x", b"1"), ("b.y", b"3")]


@pytest.mark.parametrize("extension", [".tar", ".zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_a_member_that_comes_twice_the_later_one_counts(one: Places, extension: str) -> None:
    one.put({f"in-0{extension}": packed(extension, [("a.x", b"old"), ("a.y", b"1"), ("a.x", b"new")])})
    for reaction in ("ignore", "warn"):
        result, infos = one.sort(input_extension=extension, Config={"duplicated_records": reaction})
        assert result
        assert merged(one.made(one.target)) == [("a.y", b"1"), ("a.x", b"new")]
        warnings = [text for info in infos.values() for text in info.metrics.warnings or ()]
        assert [("a.x" in text) for text in warnings] == ([True] if reaction == "warn" else [])
    assert "a.x" in one.failed(input_extension=extension, Config={"duplicated_records": "abort"})


def test_missing_shards(places: Places) -> None:
    places.put({"in-3.tar": tar([("a.x", b"1")])})
    assert merged(places.sorted()) == [("a.x", b"1")]
    result, infos = places.sort(Config={"missing_shards": "warn"})
    assert result
    assert sum(len(info.metrics.warnings or ()) for info in infos.values()) == 9 * len(infos)
    assert "in-0.tar does not exist" in places.failed(Config={"missing_shards": "abort"})


def test_an_input_without_any_shard_is_told(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    places.put({"in-3.tar": tar([("a.x", b"1")])})
    job = places.client.dsort()
    job.start(places.spec(input_format={"template": "ni-{0..9}"}))
    assert job.wait(DEADLINE)
    told = [text for info in job.get_job_info().values() for text in info.metrics.warnings or ()]
    assert set(told) == {f"no shard of the input is in ais://{places.source.name}: nothing is made"}
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == told


def test_a_list_of_names_counts_each_once(one: Places) -> None:
    one.put({"x": tar([("b.x", b"1")]), "y.tgz": packed(".tgz", [("a.x", b"2")]), "z.tar": tar([("c.x", b"3")])})
    made = one.sorted(input_format={"objnames": ["x", "y.tgz", "x"]})
    assert merged(made) == [("a.x", b"2"), ("b.x", b"1")]


def test_a_prefix_selects_nothing(one: Places) -> None:
    one.put({"in-0.tar": tar()})
    assert one.sorted(input_format={"template": "in-"}) == []


def test_a_template_with_another_extension_selects_only_its_own(one: Places) -> None:
    one.put({"in-0.tgz": packed(".tgz", [("a.x", b"1")]), "in-0.tar": tar([("b.x", b"2")])})
    made = one.sorted(input_format={"template": "in-{0..3}.tgz"}, input_extension=".tar.gz")
    assert merged(made) == [("a.x", b"1")]


def test_headers_of_a_tar_are_kept(one: Places) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("n" * 200 + ".b", "a.b"):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime, info.uid, info.uname = 3, 0o640, 1_600_000_000, 1234, "somebody"
            archive.addfile(info, io.BytesIO(b"abc"))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "a.b"
        archive.addfile(link)
    one.put({"in-0.tar": out.getvalue()})
    result, infos = one.sort()
    assert result
    assert ["1 members that are no files" in text for info in infos.values() for text in info.metrics.warnings or ()]
    data = one.target.object("out-0000.tar").get_reader().read_all()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(m.name, m.mode, m.mtime, m.uid, m.uname) for m in archive] == [
            (name, 0o640, 1_600_000_000, 1234, "somebody") for name in ("a.b", "n" * 200 + ".b")
        ]


def test_what_holds_for_a_whole_archive_does_not_spread_to_others(one: Places) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"uname": "intruder", "comment": "x"}) as archive:
        archive.addfile(tarfile.TarInfo("a.b"))
    one.put({"in-0.tar": out.getvalue(), "in-1.tar": tar([("b.b", b"1")])})
    assert one.sorted()
    data = one.target.object("out-0000.tar").get_reader().read_all()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(m.name, m.uname) for m in archive] == [("a.b", ""), ("b.b", "")]


def test_names_that_are_no_text_stay_what_they_are(one: Places) -> None:
    names = [b"\xff\xfe.x", b"\xff\xfd.x", b"caf\xe9.x"]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name.decode("latin-1"))
            info.size = 1
            archive.addfile(info, io.BytesIO(b"%d" % number))
    one.put({"in-0.tar": out.getvalue()})
    assert one.sort()[0]
    data = one.target.object("out-0000.tar").get_reader().read_all()
    with tarfile.open(fileobj=io.BytesIO(data), encoding="latin-1") as archive:
        assert [m.name.encode("latin-1") for m in archive] == sorted(names)
    assert "not text" in one.failed(output_extension=".zip")


def test_without_a_size_all_names_are_used(one: Places) -> None:
    one.put(shards(MADE, 4))
    made = one.sorted(output_shard_size="", output_format="out-{0..4}")
    assert merged(made) == BY_NAME
    assert 4 <= len(made) <= 5


def test_an_extension_in_the_output_format(one: Places) -> None:
    one.put(shards(MADE, 4))
    made = one.sorted(output_format="out-%03d.tar", output_extension="")
    assert merged(made) == BY_NAME
    assert one.target.object("out-000.tar").head()


def test_too_few_names_make_no_shard(one: Places) -> None:
    one.put(shards(MADE, 4))
    error = one.failed(output_format="out-{0..2}", output_shard_size="1KB")
    assert "number of shards to be created exceeds expected number of shards (3)" in error
    assert one.made(one.target) == []


def test_two_shards_never_get_one_name(one: Places) -> None:
    one.put(shards(MADE, 4))
    assert "two output shards" in one.failed(output_format="out-{1..11}{1..11}", output_shard_size="1")


def test_into_the_bucket_and_the_names_of_the_input(places: Places) -> None:
    places.put(shards(MADE, 4))
    bucket = places.source.as_model().as_dict()
    result, _ = places.sort(output_bck=bucket, output_format="in-{0..999}", output_shard_size="500")
    assert result
    made = places.made(places.source)
    assert sorted(merged(made)) == sorted(BY_NAME)
    assert merged(made) != merged(MADE)


def test_a_dry_run_writes_nothing(places: Places) -> None:
    places.put(shards(MADE, 4))
    result, infos = places.sort(dry_run=True)
    assert result
    assert places.made(places.target) == []
    assert sum(int(info.metrics.shard_creation.created_count) for info in infos.values()) > 1
    missing = {"name": "nowhere-at-all", "provider": "ais"}
    assert places.sort(dry_run=True, output_bck=missing)[0]
    assert not any(bucket.name == "nowhere-at-all" for bucket in places.client.cluster().list_buckets())


def test_small_memory_gives_the_same(one: Places) -> None:
    made = records(12_000, size=20)
    one.put(shards(made, 4))
    spec = {"output_shard_size": "40KB", "algorithm": {"kind": "alphanumeric", "decreasing": True}}
    little = one.sorted(max_mem_usage="1KB", **spec)
    assert merged(little) == merged(sorted(made, key=lambda record: record[0][0], reverse=True))
    assert one.sorted(max_mem_usage="50%", **spec) == little


def test_deflated_and_stored_members(one: Places) -> None:
    import zipfile

    members = [("b.x", b"b" * 400_000), ("a.x", b"a")]
    one.put({"in-0.zip": zipped(members), "in-1.zip": zipped([("c.x", b"c" * 300_000)], zipfile.ZIP_STORED)})
    made = one.sorted(input_extension=".zip", output_extension=".tgz")
    assert merged(made) == [members[1], members[0], ("c.x", b"c" * 300_000)]


def test_empty_members_and_empty_shards(one: Places) -> None:
    one.put({"in-0.tar": tar([]), "in-1.tar": tar([("a.x", b""), ("b.x", b"")])})
    assert merged(one.sorted()) == [("a.x", b""), ("b.x", b"")]
    assert unpacked(".tar", one.source.object("in-0.tar").get_reader().read_all()) == []
