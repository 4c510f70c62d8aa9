"""Errors: which one an answer means, what it says, and that it travels between processes."""

from __future__ import annotations

import errno
import io
import pickle
import tarfile
from typing import TYPE_CHECKING

import pytest
import requests

from aistore.calls.judge import error_class
from aistore.sdk import ArchiveConfig, Namespace, errors
from aistore.sdk.archive_config import ArchiveMode
from aistore.sdk.obj.obj_file import errors as file_errors
from answering import answering, client_of, refusal
from peer import Peer, always

if TYPE_CHECKING:
    from aistore.sdk import Bucket, Client

BUCKET = 'bucket "ais://abc" does not exist'
OBJECT = "t[x]: ais://abc/obj does not exist"


@pytest.mark.parametrize(
    ("status", "method", "text", "expected"),
    [
        (404, "GET", BUCKET, errors.ErrBckNotFound),
        (404, "GET", OBJECT, errors.ErrObjNotFound),
        (404, "GET", 'aws bucket "s3://abc" does not exist', errors.ErrRemoteBckNotFound),
        (404, "GET", 'azure bucket "az://abc" does not exist', errors.AISError),
        (404, "GET", "etl job[x] not found, ais://abc/obj", errors.ErrETLNotFound),
        (409, "GET", "t[x] is busy", errors.ErrGETConflict),
        (409, "POST", 'bucket "ais://abc" already exists', errors.ErrBckAlreadyExists),
        (409, "PUT", "etl job[x] exists", errors.ErrETLAlreadyExists),
        (400, "GET", BUCKET, errors.AISError),
        # A namespace looks like an object in the text; the type of the error knows better.
        (404, "GET", 'bucket "ais://@u#n/abc" does not exist', errors.ErrObjNotFound),
        (404, "GET", '{"tcode":"ErrBckNotFound","message":"bucket \\"ais://@u#n/abc\\"..."}', errors.ErrBckNotFound),
    ],
)
def test_what_an_answer_means(status: int, method: str, text: str, expected: type) -> None:
    assert error_class(status, method, text) is expected


def test_a_refusal_tells_what_came_back_and_what_to_do() -> None:
    with Peer(always(404, refusal(BUCKET, 404, "ErrBckNotFound"))) as peer:
        with pytest.raises(errors.ErrBckNotFound) as caught:
            client_of(peer).bucket("abc").list_objects()
        error = caught.value
        assert str(error).startswith(
            f"STATUS:404, MESSAGE:{error.message}, REQ_URL:{peer.url}/v1/buckets/abc?provider=ais"
        )
        assert str(error).endswith(f"{BUCKET} on {peer.url} (create it with bucket.create())")
        assert error.detail == BUCKET
        assert error.tcode == "ErrBckNotFound"
        assert isinstance(error.req, requests.PreparedRequest)
        assert (error.req.method, error.req.url) == ("GET", f"{peer.url}/v1/buckets/abc?provider=ais")


def test_what_is_missing_is_named(client: Client, bucket: Bucket) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("member"))
    shard = bucket.object("s.tar")
    shard.get_writer().put_content(made.getvalue())
    for config, what in (
        (ArchiveConfig(archpath="gone"), "gone"),
        (ArchiveConfig(mode=ArchiveMode.PREFIX, regex="none"), "none"),
    ):
        with pytest.raises(errors.ErrObjNotFound) as caught:
            shard.get_reader(archive_config=config).read_all()
        assert caught.value.advice.endswith(f"matches '{what}' (see bucket.list_archive('s.tar'))")
    with pytest.raises(errors.ErrObjNotFound) as caught:
        bucket.object("t.tar").get_reader(archive_config=ArchiveConfig(archpath="gone")).read_all()
    assert caught.value.advice.startswith(f"object 't.tar' is not in bucket '{bucket.name}'")

    upload = shard.multipart_upload().create()
    upload.abort()
    with pytest.raises(errors.AISError) as refused:
        upload.abort()
    assert refused.value.advice == ""
    with pytest.raises(errors.AISError) as refused:
        client.bucket("b", namespace=Namespace(uuid="far")).object("x").get_reader().read_all()
    assert "remote cluster" in refused.value.advice
    assert "ais serve --backend ais=URL" in refused.value.advice


def test_advice_is_given_once() -> None:
    def said(text: str) -> str:
        answer = refusal(text, 404, "ErrRemoteBckNotFound").decode()
        return errors.ErrRemoteBckNotFound(404, answer, "http://host:1/v1/buckets/b", None).advice

    assert said('aws bucket "s3://b" does not exist').endswith("has for that backend)")
    assert said('aws bucket "s3://b" does not exist at http://s3 (create it)').endswith(" (create it)")
    missing = said("failed to lookup bucket s3://b, err: AWS backend is missing in the cluster configuration")
    assert missing.endswith("http://host:1 has none (it is configured by `ais serve --backend`)")


def test_a_refusal_is_an_error_of_requests_too() -> None:
    with Peer(always(403, b"no")) as peer:
        with pytest.raises(requests.HTTPError) as caught:
            client_of(peer).bucket("b").object("o").get_reader().read_all()
        assert caught.value.response.status_code == 403
        assert caught.value.response.text == "no"
        assert isinstance(caught.value.__cause__, requests.HTTPError)


def test_missing_things_are_what_python_calls_them() -> None:
    with Peer(always(404, refusal(OBJECT, 404))) as peer:
        reader = client_of(peer).bucket("abc").object("obj").get_reader()
        with pytest.raises(FileNotFoundError) as missing:
            reader.read_all()
        assert missing.value.errno == errno.ENOENT
    assert issubclass(errors.ErrBckAlreadyExists, FileExistsError)
    assert issubclass(errors.Timeout, TimeoutError)


def test_a_refused_head_tells_as_much_as_other_refusals() -> None:
    error_header = f"Hdr-Error: {refusal(OBJECT, 404).decode().strip()}"
    with Peer(always(404, b"", error_header)) as peer, pytest.raises(errors.ErrObjNotFound) as caught:
        client_of(peer).bucket("abc").object("obj").head()
    assert caught.value.detail == OBJECT


def test_creating_a_busy_bucket_is_no_success() -> None:
    busy = refusal('bucket "ais://b" is currently busy, please try again', 409, "ErrBusy")
    with Peer(always(409, busy)) as peer, pytest.raises(errors.ErrBckAlreadyExists):
        client_of(peer).bucket("b").create(exist_ok=True)


def _refused(client: Client) -> list[Exception]:
    caught: list[Exception] = []
    for call in (
        client.bucket("b").object("o").get_reader().read_all,
        lambda: client.bucket("b").object("o").get_writer().put_content(io.BytesIO(b"x")),
        lambda: client.bucket("b").make_request("POST", "x"),
    ):
        with pytest.raises(errors.AISError) as one:
            call()
        caught.append(one.value)
    return caught


def test_errors_of_calls_pickle() -> None:
    with Peer(answering(lambda _: (409, refusal("t[x] is busy", 409)))) as peer:
        for error in _refused(client_of(peer)):
            back = pickle.loads(pickle.dumps(error))
            assert type(back) is type(error)
            assert str(back) == str(error)
            assert isinstance(back, errors.AISError)
            assert back.req is not None
            assert back.req.url == back.req_url


@pytest.mark.parametrize(
    "error",
    [
        errors.ErrObjNotFound(404, "gone", "http://h/v1/objects/b/o", None),
        errors.InvalidBckProvider("x"),
        errors.InvalidBckProvider("x", "one of y"),
        errors.InvalidURLException("x"),
        errors.InvalidObjectRangeIndex("x"),
        errors.InvalidPipelineError("x"),
        errors.Timeout("job to finish", "more"),
        errors.JobInfoNotFound("x"),
        errors.NoTargetError(3),
        errors.UnexpectedHTTPStatusCode([200, 202], 500),
        file_errors.ObjectFileReaderStreamError("x"),
        file_errors.ObjectFileReaderUnexpectedEOF(1, 2),
        file_errors.ObjectFileReaderMaxResumeError(ValueError("x"), 2),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_made_by_hand_pickle(error: Exception) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)


def test_a_plain_error_is_shown_as_the_official_sdk_shows_it() -> None:
    error = errors.AISError(404, "gone", "http://x/y", None)
    assert str(error) == "STATUS:404, MESSAGE:gone, REQ_URL:http://x/y"
    assert error.detail == "gone"
