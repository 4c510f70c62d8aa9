"""The page of all limits, made of the places in the code that hold them.

python tests/limits_page.py      writes docs/limits.md
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from aistore.server.limits import RANGES, NodeLimits

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "limits.md"

_HEAD: Final = """# Limits

What clients may take of a server, what happens at each limit, and the test that reaches it. This page is made of the places in the code
(`python tests/limits_page.py`).

Limits with a name in the column "setting" are changed in the file of `ais serve --config`, in the table `[limits]`, or by `limits=` of
`LocalCluster`; the page tells what they are without. `ais serve --grace` sets that one too. A value that cannot be is refused, and the
message says which values can.

```toml
[limits]
connections = 20000
memory = "2GiB"
grace = 30
```

Answers with status 429 or 503 that mean "too much at once" have `Retry-After`, which our SDK, the official one, `requests` with its retries and
boto3 obey (ours up to 120 s: who is told to wait longer learns that at once). What was accepted goes on: a limit refuses what comes after it. Clients on the machine itself share one address, so theirs have no
limit of their own: two thousand local workers are welcome.

All clients of a process have their turns on one loop. What takes long (listings, summaries, batches, archives, hashing of large content) is done in
few threads or in small steps, and waits in line there, however many requests for it come.
"""


class Limit(NamedTuple):
    """One row: where its value is (`module:NAME`, or a field of `NodeLimits`), in what unit, what happens at it, and the test of that."""

    what: str
    place: str
    unit: str
    at: str
    test: str


_CONNECTIONS = "tests/http1/test_server_connections.py::"
_PACE = "tests/http1/test_server_pace.py::"
_REQUESTS = "tests/http1/test_server_requests.py::"
_CHUNKS = "tests/http1/test_chunked.py::"
_HERE = "tests/server/test_limits.py::"
_API, _ARCHIVE, _S3 = "aistore.server.api.", "aistore.server.archive.", "aistore.server.api.s3."
_DSORT, _AUTHN, _ETL = "aistore.server.dsort.", "aistore.server.authn.", "aistore.server.etl."

TABLE: Final[dict[str, list[Limit]]] = {
    "Connections": [
        Limit("connections, as far as descriptors go (three each)", "connections", "", "503, closed; a hundred beyond: closed",
              _CONNECTIONS + "test_connections_beyond_the_limit_are_told_so"),
        Limit("connections from one address of another machine (IPv6: from one /64)", "per_address", "", "503, closed",
              _CONNECTIONS + "test_connections_from_one_address_beyond_the_limit_are_told_so"),
        Limit("time for a head, however slowly it comes", "head", "s", "closed", _CONNECTIONS + "test_a_head_has_to_come_in_time_as_a_whole"),
        Limit("silence between requests", "idle", "s", "closed", _CONNECTIONS + "test_an_idle_client_is_dropped"),
        Limit("silence within a request's body, and time for which it may be slower than `rate`", "body", "s", "closed; nothing is stored",
              _PACE + "test_a_body_has_to_come_at_some_rate"),
        Limit("silence of a client that does not take its answer, and time for which it may be slower than `rate`", "write", "s",
              "closed; the rest is dropped", _PACE + "test_a_file_has_to_be_taken_at_some_rate"),
        Limit("least pace of bodies, both ways", "rate", "bytes/s", "see `body` and `write`", _PACE + "test_an_answer_has_to_be_taken_at_some_rate"),
        Limit("time in which what still comes after the last answer is dropped", "linger", "s", "closed",
              _CONNECTIONS + "test_a_client_that_stalls_is_dropped"),
        Limit("time for what runs when the server is told to stop; a quarter of it for clients that are silent", "grace", "s", "cut off, and logged",
              "tests/life/test_stop.py::test_what_runs_is_finished"),
        Limit("open files", "aistore.server.descriptors:OTHERS", "and three for each connection", "503; nothing is accepted until some are closed",
              "tests/server/test_descriptors.py::test_no_descriptor_left"),
    ],
    "Requests": [
        Limit("lines of headers", "aistore.http1.head:MAX_LINES", "", "431, closed", _REQUESTS + "test_a_head_of_too_many_lines"),
        Limit("head: request line and headers", "aistore.http1.head:MAX_HEAD", "bytes", "431, closed", _REQUESTS + "test_a_head_that_is_too_large"),
        Limit("body", "max_body", "bytes", "413", _REQUESTS + "test_a_body_over_the_limit"),
        Limit("bodies in memory, of all requests", "memory", "bytes", "503", _CONNECTIONS + "test_bodies_in_memory_have_a_common_limit"),
        Limit("answers in memory that clients do not take, of all", "unread", "bytes", "503 instead of a further long answer",
              _CONNECTIONS + "test_long_answers_that_nobody_takes_have_a_common_limit"),
        Limit("pipelined requests that wait for an answer", "aistore.http1.connection:_PIPELINED_MAX", "bytes", "no more is received until it is out",
              _CONNECTIONS + "test_a_flood_of_pipelined_requests_waits_outside"),
        Limit("line with the size of a chunk, extensions included", "aistore.http1.chunked:MAX_CHUNK_LINE", "bytes", "400, closed",
              _CHUNKS + "test_what_the_grammar_does_not_allow_is_refused"),
        Limit("chunk extensions of a body", "aistore.http1.chunked:MAX_EXTENSIONS", "bytes", "400, closed", _CHUNKS + "test_extensions_have_a_limit_together"),
        Limit("trailers", "aistore.http1.chunked:MAX_TRAILERS", "bytes", "400, closed", _CHUNKS + "test_what_the_grammar_does_not_allow_is_refused"),
    ],
    "Messages and names": [
        Limit("message in JSON", _API + "messages:_MESSAGE_MAX", "bytes", "413", "tests/server/test_control_calls.py::test_a_message_beyond_the_limit_is_refused"),
        Limit("values in it", "aistore.wire.messages:_VALUES_MAX", "", "400", "tests/wire/test_messages.py::test_what_takes_long_to_decode_is_refused_unseen"),
        Limit("members of an object that stands for a message", "aistore.wire.messages:_FIELDS_MAX", "", "400",
              "tests/wire/test_messages.py::test_messages_with_too_many_members_are_refused"),
        Limit("arrays and objects within each other", "", "as the interpreter (1,000)", "400", "tests/server/test_bad_input.py::test_messages"),
        Limit("message to one object", _API + "objects:_MESSAGE_MAX", "bytes", "413", "tests/server/test_bad_input.py::test_messages"),
        Limit("name of a bucket", "aistore.wire.names:MAX_BUCKET_NAME", "bytes", "400", "tests/wire/test_names.py::test_bucket_names_refused"),
        Limit("name of an object", "aistore.wire.names:MAX_OBJECT_NAME", "bytes", "400", "tests/server/test_bad_input.py::test_names"),
        Limit("what is between two slashes of it", "aistore.wire.names:MAX_SEGMENT", "bytes", "400", "tests/server/test_bad_input.py::test_names"),
        Limit("custom metadata of a request", "aistore.wire.custom:MAX_BYTES", "bytes", "400", "tests/wire/test_custom.py::test_limits"),
        Limit("custom metadata of an object", "aistore.server.store.rows:_CUSTOM_MAX", "bytes", "400",
              "tests/server/test_bad_input.py::test_custom_metadata_has_an_end"),
        Limit("text in a bucket's property `extra.custom`", "aistore.wire.props:MAX_CUSTOM_NOTE", "bytes", "400", "tests/wire/test_props.py::test_what_is_refused"),
        Limit("template", "aistore.wire.template:_TEXT_MAX", "bytes", "400", "tests/wire/test_template.py::test_templates_that_would_fill_the_memory_are_refused"),
        Limit("names of a template", "aistore.wire.template:MAX_NAMES", "", "400", "tests/wire/test_template.py::test_more_names_than_anyone_means"),
        Limit("form of times in a listing", "aistore.wire.gotime:MAX_LAYOUT", "bytes", "400", _HERE + "test_listings"),
        Limit("target processes", "aistore.server.settings:MAX_TARGETS", "", "the server does not start", "tests/life/test_settings.py::test_refused"),
    ],
    "Listings, jobs and batches": [
        Limit("entries of a page", _API + "listing:_PAGE_MAX", "", "the page ends, with a token", _HERE + "test_listings"),
        Limit("names and custom metadata of a page", _API + "listing:_PAGE_BYTES", "bytes", "the page ends, with a token",
              "tests/server/test_listing_pages.py::test_a_page_of_long_names_ends_before_it_gets_large"),
        Limit("those of a page with members of archives", _API + "archive_listing:_BYTES_MAX", "bytes", "the page ends, with a token",
              _HERE + "test_listings_of_archives"),
        Limit("names in a part of an inventory", _API + "inventory:_CHUNK_MAX", "", "400", _HERE + "test_inventories_have_parts_of_some_size"),
        Limit("prefix of an inventory", _API + "inventory:_PREFIX_MAX", "bytes", "400", _HERE + "test_inventories_have_parts_of_some_size"),
        Limit("jobs that run at once", "jobs", "", "429", "tests/server/test_jobs.py::test_too_many_at_once_are_refused"),
        Limit("names in messages that jobs work on", "aistore.server.jobs.registry:_NAMES_MAX", "bytes", "429 for more than half of what is left", "tests/server/test_jobs.py::test_names_that_jobs_hold_have_a_limit"),
        Limit("summaries of buckets among them", "", "a quarter of `jobs`", "429", _HERE + "test_summaries"),
        Limit("summaries of one bucket", "aistore.server.jobs.summary:_OF_BUCKET_MAX", "", "429", _HERE + "test_summaries"),
        Limit("requests that wait for one job", "aistore.server.jobs.registry:_REQUESTS_MAX", "", "429",
              "tests/server/test_jobs.py::test_too_many_at_once_are_refused"),
        Limit("jobs that have ended and are shown", "aistore.server.jobs.registry:_RECORDS_KEPT", "and those of the last hour", "the oldest are forgotten",
              "tests/server/test_jobs.py::test_old_records_go_when_there_are_many"),
        Limit("batches that are answered at once", "batches", "", "429", _HERE + "test_batches"),
        Limit("entries of all batches that are answered at once", _API + "batch:_ENTRIES_OF_ALL", "", "429", _HERE + "test_batches"),
        Limit("answers of batches that are made whole before they are sent, on the disk", "", "half of what is free", "507", _HERE + "test_batches_leave_half_of_the_disk"),
        Limit("entries of a batch", _API + "batch:_ENTRIES_MAX", "", "400", "tests/server/test_batches.py::test_a_batch_has_a_limit"),
        Limit("buckets that a batch names, in each spelling", _API + "batch:_BUCKETS_MAX", "", "400", "tests/server/test_batches.py::test_a_batch_has_a_limit"),
        Limit("uploads in parts that are under way in a bucket", "aistore.server.store.multipart:_UPLOADS_MAX", "", "429", _HERE + "test_parts_of_uploads"),
        Limit("time after which an upload that nobody goes on with is removed", "aistore.server.store.multipart:KEPT_SECONDS", "s", "its parts go",
              "tests/store/test_multipart.py::test_an_upload_that_nobody_goes_on_with_is_removed"),
        Limit("number of a part of an upload", _API + "multipart:_MOST", "", "400", _HERE + "test_parts_of_uploads"),
    ],
    "Archives": [
        Limit("members", _ARCHIVE + "index:_MEMBERS_MAX", "", "400: damaged", "tests/archive/test_hostile.py::test_too_many_members_are_refused"),
        Limit("their names together", _ARCHIVE + "index:_NAMES_MAX", "bytes", "400: damaged", _HERE + "test_names_of_members"),
        Limit("name of a member", _ARCHIVE + "index:_NAME_MAX", "bytes", "the member is left out", _HERE + "test_names_of_members"),
        Limit("extended header of a TAR", _ARCHIVE + "tar:_EXTENDED_MAX", "bytes", "400: damaged", "tests/archive/test_hostile.py::test_a_tar_that_lies_is_damaged"),
        Limit("extended headers before one member", _ARCHIVE + "tar:_EXTENDED_RUN", "", "400: damaged",
              "tests/archive/test_hostile.py::test_a_tar_that_lies_is_damaged"),
        Limit("what decompression makes of each byte, beyond the first 1 GiB", _ARCHIVE + "source:_RATIO", "bytes", "400: damaged",
              "tests/archive/test_hostile.py::test_a_compressed_bomb_is_given_up"),
        Limit("directory of a ZIP that is written", _ARCHIVE + "zip_writing:_DIRECTORY_MAX", "bytes", "400",
              "tests/archive/test_writing.py::test_a_directory_that_takes_too_much_memory_is_refused"),
        Limit("expression that selects members", _ARCHIVE + "names:_EXPRESSION_MAX", "characters", "400", "tests/archive/test_regexp.py::test_an_expression_has_a_bound"),
        Limit("instructions of an expression", _ARCHIVE + "regexp_syntax:_PROGRAM_MAX", "", "400", "tests/archive/test_regexp.py::test_what_is_no_expression_is_refused"),
        Limit("instructions that it follows through the names of an archive, as far as they are not remembered", _ARCHIVE + "names:_WORK_MAX", "",
              "400; an answer that has begun breaks off", "tests/archive/test_regexp.py::test_an_expression_does_not_work_for_hours"),
        Limit("groups within each other in it", _ARCHIVE + "regexp_syntax:_DEPTH_MAX", "", "400", "tests/archive/test_regexp.py::test_what_is_no_expression_is_refused"),
        Limit("repetitions that it may ask for", _ARCHIVE + "regexp_syntax:_REPEAT_MAX", "", "400", _HERE + "test_repetitions_in_expressions"),
    ],
    "dSort": [
        Limit("input shards", _DSORT + "shards:_SHARDS_MAX", "", "the job is aborted", _HERE + "test_shards_of_a_sort"),
        Limit("members of a record", _DSORT + "records:_RECORD_MEMBERS_MAX", "", "the job is aborted", "tests/dsort/test_faults.py::test_a_record_has_a_limit"),
        Limit("names of a record's members", _DSORT + "records:_RECORD_NAMES_MAX", "bytes", "the job is aborted", "tests/dsort/test_faults.py::test_a_record_has_a_limit"),
        Limit("text in a specification", _DSORT + "spec:_TEXT_MAX", "characters", "400", "tests/dsort/test_calls.py::test_bad_specifications_are_refused_at_once"),
        Limit("memory for sorting (a part of `max_mem_usage`)", _DSORT + "spec:_SORTING_MAX", "bytes", "the rest goes to files",
              "tests/dsort/test_runs.py::test_memory_is_bounded"),
        Limit("key map", _DSORT + "key_map:MAP_MAX", "bytes", "the job is aborted", _HERE + "test_key_maps"),
        Limit("keys in it", _DSORT + "key_map:_KEYS_MAX", "", "the job is aborted", _HERE + "test_key_maps"),
        Limit("templates in it", _DSORT + "key_map:_TEMPLATES_MAX", "", "the job is aborted", "tests/dsort/test_key_map.py::test_templates_have_a_limit"),
        Limit("instructions of its expressions", _DSORT + "key_map:_PROGRAMS_MAX", "", "the job is aborted",
              "tests/dsort/test_key_map.py::test_expressions_have_a_limit_together"),
        Limit("expression that selects jobs", _API + "sort:_PROGRAM_MAX", "instructions", "400",
              "tests/dsort/test_calls.py::test_an_expression_that_would_take_long_is_refused"),
        Limit("jobs that are told of", _DSORT + "registry:_KEPT", "and those of the last day", "the oldest are forgotten",
              "tests/dsort/test_history.py::test_old_jobs_are_forgotten"),
    ],
    "ETL": [
        Limit("name", _ETL + "message:_NAME_MAX", "characters", "400", "tests/etl/test_init.py::test_names_that_are_none"),
        Limit("manifest of a pod", _ETL + "message:_SPEC_MAX", "characters", "400", _HERE + "test_manifests_of_pods"),
        Limit("log of a transformer", _ETL + "processes:LOG_BYTES", "bytes", "the oldest half is dropped", "tests/etl/test_hostile.py::test_a_log_without_end"),
    ],
    "S3": [
        Limit("document in XML", _S3 + "xml:_DOCUMENT_MAX", "bytes", "413", "tests/s3/test_endpoint.py::test_documents_have_a_bound"),
        Limit("elements within each other", _S3 + "xml:_DEPTH_MAX", "", "400", "tests/s3/test_endpoint.py::test_hostile_documents_are_refused"),
        Limit("elements", _S3 + "xml:_ELEMENTS_MAX", "", "400", "tests/s3/test_endpoint.py::test_hostile_documents_are_refused"),
        Limit("tag with its attributes, and the text behind it as it is sent", _S3 + "xml:_TAG_MAX", "bytes", "400", "tests/s3/test_endpoint.py::test_hostile_documents_are_refused"),
        Limit("text of an element", _S3 + "xml:_TEXT_MAX", "bytes", "400", "tests/s3/test_endpoint.py::test_hostile_documents_are_refused"),
        Limit("keys of a page, and of a deletion", _S3 + "listing:_MOST", "", "the page ends; 400", "tests/s3/test_endpoint.py::test_hostile_documents_are_refused"),
        Limit("number of a part of an upload", _S3 + "multipart:_MOST", "", "400", "tests/s3/test_endpoint.py::test_errors_are_xml_with_their_codes"),
        Limit("line within a coded body", _S3 + "body:_LINE_MAX", "bytes", "400", "tests/s3/test_endpoint.py::test_malformed_coding_is_refused"),
        Limit("chunks of a coded body that are shorter than 64 bytes", _S3 + "body:_CRUMBS_MAX", "", "400", "tests/s3/test_endpoint.py::test_a_body_of_crumbs_is_refused"),
        Limit("trailers of a coded body", _S3 + "body:_TRAILERS_MAX", "bytes", "400", "tests/s3/test_endpoint.py::test_malformed_coding_is_refused"),
    ],
    "AuthN": [
        Limit("token", _AUTHN + "tokens:TOKEN_MAX", "characters", "401", "tests/authn/test_tokens.py::test_nonsense_is_refused"),
        Limit("password", _AUTHN + "passwords:PASSWORD_MAX", "bytes", "400, at a login 401", "tests/authn/test_service.py::test_a_long_password_is_refused"),
        Limit("logins and new passwords that wait for their turn", _AUTHN + "passwords:_WAITING_MAX", "", "429", _HERE + "test_logins_at_a_time"),
        Limit("failed logins of an account from one address (IPv6: one /64), before there are pauses", _AUTHN + "throttle:_OF_BOTH", "", "429",
              "tests/authn/test_service.py::test_failures_make_further_attempts_wait_longer_and_longer"),
        Limit("failed logins from one address (IPv6: one /64), before there are pauses", _AUTHN + "throttle:_OF_ADDRESS", "", "429",
              "tests/authn/test_service.py::test_one_address_cannot_try_many_accounts_and_many_cannot_try_one"),
        Limit("connections to an AuthN server", _AUTHN + "service:_CONNECTIONS", "", "503, closed",
              _CONNECTIONS + "test_connections_beyond_the_limit_are_told_so"),
        Limit("message to an AuthN server", _AUTHN + "service:_MESSAGE_MAX", "bytes", "413", _REQUESTS + "test_a_body_over_the_limit"),
    ],
    "Remote buckets": [
        Limit("document of another cluster", "aistore.server.backends.ais:_DOCUMENT_MAX", "bytes", "502",
              "tests/backends/test_hostile_cluster.py::test_an_answer_that_never_ends_does_not_fill_the_memory"),
        Limit("pages of a list of containers", "aistore.server.backends.bucket_lists:_PAGES_MAX", "", "502",
              "tests/backends/test_bucket_lists.py::test_a_list_that_does_not_end_is_given_up"),
    ],
    "Disk": [
        Limit("space that is left free, a quarter of a small disk at most; `--capacity` bounds content besides", "aistore.server.store.room:_KEPT", "bytes",
              "507; deletes go on", "tests/server/test_full.py::test_a_full_disk"),
    ],
}  # fmt: skip


def page() -> str:
    """The whole page."""
    text = _HEAD
    for title, rows in TABLE.items():
        text += f"\n## {title}\n\n| limit | value | at the limit | setting | test |\n|---|---|---|---|---|\n"
        for row in rows:
            test = row.test.partition("::")
            text += f"| {row.what} | {shown(row)} | {row.at} | {_setting(row)} | `{test[2]}` in `{test[0]}` |\n"
    return text


def is_setting(row: Limit) -> bool:
    """Whether an operator may change it."""
    return bool(row.place) and ":" not in row.place


def value(row: Limit) -> float:
    """As the code has it."""
    if is_setting(row):
        return float(getattr(NodeLimits, row.place))
    module, _, name = row.place.partition(":")
    return float(getattr(import_module(module), name))


def shown(row: Limit) -> str:
    """The value as people read it."""
    if not row.place:
        return row.unit
    number = value(row)
    if row.unit == "bytes":
        return _size(int(number))
    if row.unit == "bytes/s":
        return f"{_size(int(number))}/s"
    return f"{number:,.15g} {row.unit}".strip()


def _setting(row: Limit) -> str:
    if not is_setting(row):
        return ""
    low, high = RANGES[row.place]
    if row.unit in ("bytes", "bytes/s"):
        return f"`{row.place}` ({_size(low)} to {_size(high)})"
    return f"`{row.place}` ({low:,} to {high:,})"


def _size(number: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1024 or number % 1024:
            return f"{number:,} {unit}"
        number >>= 10
    return f"{number:,} EiB"


if __name__ == "__main__":
    PAGE.write_text(page())
