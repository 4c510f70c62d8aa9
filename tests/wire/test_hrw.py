"""The vectors of protocol/00 10.2."""

from __future__ import annotations

import pytest

from aistore.wire import hrw

NODES = {"tAAAAAAA": 1333887715834303025, "tBBBBBBB": 11155039405691702241, "tCCCCCCC": 14593299021317336071}
OWNERS = {
    "ais/@#/bucket/object": (2227721572765460226, 16595636763162244578, "A"),
    "ais/@#/bucket/dir/object-1.txt": (1837006852399161796, 10204638124060327632, "A"),
    "aws/@#/my-bucket/a.tar": (4419691491554047255, 14918185353379434853, "B"),
    "ais/@#ns1/bucket/object": (14339758813996290537, 6219690156555102687, "B"),
    "ais/@Xy12345AB#ns1/bucket/object": (491721962943214840, 16895563973363814427, "A"),
    "ais/@#/bucket/こんにちは世界": (17907109175412574985, 13037608732388451710, "A"),
    "ais/@#/test/obj-0": (12621148143452181939, 6804968354878799031, "B"),
}
RANKING = ["BCA", "BCA", "BAC", "ACB", "CBA", "BCA", "ACB", "ACB", "BAC", "BCA", "CBA", "ABC"]


def test_mix_and_digest() -> None:
    assert hrw.mix(0) == 1905207664160064169
    assert hrw.mix(4573842) == 5026071747115404967
    assert hrw.placement_digest("") == 12295767445558623539
    assert hrw.placement_digest("a") == 6843093361001225328
    assert {node: hrw.placement_digest(node) for node in NODES} == NODES


@pytest.mark.parametrize("uname", OWNERS)
def test_owner(uname: str) -> None:
    digest, weight_of_a, letter = OWNERS[uname]
    assert hrw.placement_digest(uname) == digest
    assert hrw.mix(NODES["tAAAAAAA"] ^ digest) == weight_of_a
    assert hrw.owner(uname, NODES) == f"t{letter * 7}"


@pytest.mark.parametrize("index", range(12))
def test_ranking_as_targets_leave(index: int) -> None:
    left = dict(NODES)
    for letter in RANKING[index]:
        node = hrw.owner(f"ais/@#/test/obj-{index}", left)
        assert node == f"t{letter * 7}"
        del left[node]
    with pytest.raises(LookupError):
        hrw.owner("ais/@#/test/obj-0", left)
