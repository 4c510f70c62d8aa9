from __future__ import annotations

import json
import pickle

import pytest

from aistore.wire import errors
from aistore.wire.errors import ApiError, classify, error_body

FIELDS = ["tcode", "message", "method", "url_path", "remote_addr", "caller", "node", "status"]


def test_body_has_the_fields_in_order_and_a_final_newline() -> None:
    body = error_body(errors.bucket_not_found("ais://b"), "GET", "/v1/objects/b/o x", "127.0.0.1:5", "", "p[abc]")
    assert body.endswith(b"}\n")
    document = json.loads(body)
    assert list(document) == FIELDS
    assert document["message"] == 'bucket "ais://b" does not exist'
    assert (document["status"], document["node"], document["caller"]) == (404, "p[abc]", "")


def test_body_without_type_omits_tcode_and_does_not_escape_markup() -> None:
    body = error_body(ApiError(400, "a <b> & c"), "GET", "/", "", "", "p[x]")
    assert b"a <b> & c" in body
    assert "tcode" not in json.loads(body)


def test_body_of_a_path_that_is_no_utf8() -> None:
    path = b"/v1/objects/b/\xff".decode("utf-8", "surrogateescape")
    document = json.loads(error_body(ApiError(400, path), "GET", path, "", "", "p[x]"))
    assert document["url_path"] == "/v1/objects/b/?"


def test_error_pickles() -> None:
    again = pickle.loads(pickle.dumps(ApiError(416, "no", "ErrX", {"Content-Range": "bytes */3"})))
    assert (again.status, again.message, again.tcode, again.headers) == (
        416,
        "no",
        "ErrX",
        {"Content-Range": "bytes */3"},
    )


@pytest.mark.parametrize(
    ("status", "method", "text", "kind"),
    [
        (404, "GET", 'bucket \\"ais://abc\\" does not exist', "bucket-not-found"),
        (404, "GET", 'aws bucket \\"s3://abc\\" does not exist', "remote-bucket-not-found"),
        (404, "GET", 'remote bucket \\"ais://@test-bck\\" does not exist', "remote-bucket-not-found"),
        (404, "GET", 'remote bucket \\"ais://@uuid/bck\\" does not exist', "object-not-found"),
        (404, "GET", 'azure bucket \\"az://abc\\" does not exist', "other"),
        (404, "GET", "t[x]: ais://abc/o does not exist", "object-not-found"),
        (404, "GET", "p[x]: etl job e does not exist", "etl-not-found"),
        (404, "HEAD", "", "other"),
        (409, "GET", 'bucket "ais://abc" is currently busy', "get-conflict"),
        (409, "POST", 'bucket "ais://abc" already exists', "bucket-exists"),
        (409, "PUT", "p[x]: etl job e already exists", "etl-exists"),
        (409, "POST", "ais://abc/o is busy", "other"),
        (400, "POST", 'bucket "ais://abc" already exists', "other"),
        (404, "GET", "ais://" + "b" * 133, "other"),
        (404, "GET", "xais://b", "bucket-not-found"),
    ],
)
def test_classify(status: int, method: str, text: str, kind: str) -> None:
    assert classify(status, method, text) == kind
