"""What the driver tells its service of answers that took more than a call."""

from __future__ import annotations

from serving import Serving, request

SIZES = {"/raw/5": None, "/file/70000": 70_000, "/pieces/70000": 70_000, "/ignore": 13, "/pending": 1, "/refuse": 7}


def test_every_answer_but_those_made_at_once_is_told_when_it_is_out() -> None:
    with Serving() as serving:
        with serving.connect() as raw:
            for path in SIZES:
                raw.send(request("GET", path))
                _ = raw.answer()
            raw.send(request("HEAD", "/file/70000"))
            _ = raw.answer("HEAD")
            serving.until(lambda: len(serving.service.answers) == len(SIZES))
        told = {path: (status, sent) for path, status, sent, whole in serving.service.answers[:-1] if whole}
        last = serving.service.answers[-1]
    assert told.keys() == SIZES.keys() - {"/raw/5"}
    for path, (status, sent) in told.items():
        size = SIZES[path]
        assert size is not None
        assert size < sent < size + 300  # with the head
        assert status == {"/ignore": 404, "/refuse": 500}.get(path, 200)
    assert last[:2] == ("/file/70000", 200)
    assert last[2] < 300


def test_an_answer_that_breaks_off_is_told_as_such() -> None:
    with Serving() as serving:
        with serving.connect() as raw:
            raw.send(request("GET", "/broken"))
            while raw.sock.recv(65536):
                pass
        serving.until(lambda: bool(serving.service.answers))
        assert [(path, whole) for path, _, _, whole in serving.service.answers] == [("/broken", False)]
