"""The asyncio face keeps the promises of the blocking one: the same tests, over an asyncio client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from faces import Faces

MODULES = (
    "sdk.test_sdk_reading",
    "sdk.test_sdk_writing",
    "sdk.test_sdk_listing",
    "sdk.test_sdk_copying",
    "sdk.test_sdk_multipart",
    "sdk.test_sdk_archives",
    "sdk.test_sdk_files",
    "sdk.test_sdk_batch",
    "sdk.test_sdk_datasets",
)

DIFFERENT = {
    "test_several_targets_answer_as_one": "it makes a client of its own",
    "test_raw_answers_are_what_the_server_sent": "they are answers, no files",
    "test_a_raw_answer_that_breaks_off_gives_all_that_came_and_then_raises": "as above",
    "test_raw_is_a_file_with_the_headers_of_the_answer": "it is an answer, no file",
    "test_ranges_of_two_versions_are_not_mixed": "each read asks anew what there is to read",
    "test_an_empty_object_has_no_parts": "the reader asks when it reads",
    "test_a_file_in_a_missing_bucket_cannot_be_opened": "the file is opened by its first call",
    "test_a_replacement_that_failed_can_be_stored_again": "a file that failed is closed",
    "test_handles_of_entries_are_made_when_they_are_asked_for": "they are asyncio objects",
    "test_text_is_read_and_written_through_a_wrapper": "files of the standard library do not wait",
    "test_entries_travel_between_processes": "as above",
}
"""What the asyncio face does its own way, with tests of its own."""

for _name in MODULES:
    for _test, _function in vars(import_module(_name)).items():
        if _test.startswith("test_") and _test not in DIFFERENT:
            globals()[_test] = _function

from sdk.test_sdk_copying import other  # noqa: E402, F401 (a fixture of those tests)
from sdk.test_sdk_datasets import blocking, images  # noqa: E402, F401 (as above)
from sdk.test_sdk_files import far, folder  # noqa: E402, F401 (as above)


@pytest.fixture(autouse=True)
def _asyncio_clients(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        module: Any = import_module(name)
        monkeypatch.setattr(module, "client_of", faces.client_of, raising=False)
