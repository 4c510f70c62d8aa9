"""Names of groups of objects, without a cluster."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest
from braceexpand import braceexpand
from hypothesis import given
from hypothesis import strategies as st

from aistore.sdk import Client
from aistore.sdk.multiobj import ObjectRange, ObjectTemplate
from aistore.sdk.multiobj import _choice as choice

if TYPE_CHECKING:
    from aistore.sdk import Bucket


@pytest.fixture
def bucket() -> Bucket:
    return Client("http://127.0.0.1:9").bucket("b")


_numbers = st.one_of(st.integers(0, 12).map(str), st.integers(0, 12).map("{:03d}".format))
_ranges = st.builds("{{{}..{}{}}}".format, _numbers, _numbers, st.sampled_from(["", "..1", "..7", "..0"]))
_pieces = st.one_of(_ranges, st.sampled_from(["a", "-", ".tar", "{x,y}", "{a..c}", "", "é/"]))


@given(st.lists(_pieces, min_size=1, max_size=3).map("".join))
def test_templates_are_expanded_as_bash_does(template: str) -> None:
    assert list(ObjectTemplate(template)) == list(braceexpand(template))


def test_names_without_end_come_one_at_a_time(bucket: Bucket) -> None:
    many = bucket.objects(obj_template="s/{0..99999999999}-{00..99}.tar")
    assert [found.name for found in islice(many.list_all_objects_iter(props=None), 2)] == ["s/0-00.tar", "s/0-01.tar"]
    assert len(list(islice(many.list_urls(), 101))) == 101


@pytest.mark.parametrize("template", ["{x,y}{0..99999999}", "{99999999..0}"])
def test_ranges_that_would_fill_the_memory_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="more than 10,000,000"):
        iter(ObjectTemplate(template))


def test_a_list_of_names_has_a_bound(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MAX_NAMES", 100)
    assert len(bucket.objects(obj_template="{1..100}").list_names()) == 100
    for group in (bucket.objects(obj_template="{0..100}"), bucket.objects(obj_range=ObjectRange("o", 0, 100))):
        with pytest.raises(ValueError, match="more than 100 names"):
            group.list_names()
