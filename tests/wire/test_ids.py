from __future__ import annotations

import pytest

from aistore.wire import ids


def test_fresh_job_ids_are_well_formed_and_distinct() -> None:
    made = {ids.new_job_id() for _ in range(500)}
    assert len(made) == 500
    for one in made:
        assert len(one) == 9
        assert ids.is_job_id(one)
        assert one[0].isalpha()
    assert ids.is_job_id(f"inv-{ids.new_job_id()}")


def test_fresh_letters_and_node_ids() -> None:
    assert ids.new_letters("tco-").startswith("tco-")
    assert ids.new_letters().isalpha()
    node = ids.new_node_id("t")
    assert len(node) == 8
    assert node.startswith("t")
    assert ids.is_node_id(node)


@pytest.mark.parametrize("text", ["NMQF6sJ9x", "tco-kQxVbTzaYw", "g12", "a" * 32])
def test_job_ids_accepted(text: str) -> None:
    assert ids.is_job_id(text)


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 33, "-abcdefghi", "abcdefghi_", "abc defghij", "abcdefghi\n", "g", "gx", "abcdefghé"]
)
def test_job_ids_refused(text: str) -> None:
    assert not ids.is_job_id(text)
