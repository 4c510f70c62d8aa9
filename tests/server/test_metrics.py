"""`/metrics`: valid, true, and as its page says."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from aistore.http1.message import Reply
from aistore.server.api import health
from aistore.server.exposition import Exposition, merge
from aistore.server.metrics import FAMILIES
from aistore.server.stats import Stats
from aistore.server.traffic import KINDS
from calling import Caller
from monitoring_page import PAGE, page_with_metrics

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from aistore import LocalCluster
    from aistore.sdk import Bucket
    from aistore.server.node import Node
    from guarding import AuthnServer, Guarded

_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\b(?:ais|process)_\w+")


def scraped(url: str) -> dict[str, Metric]:
    """The families of a server by their names."""
    with Caller(url) as call:
        got = call("GET", "/metrics")
    assert got.status == 200
    assert got.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    names = [line.split()[2] for line in got.body.decode().splitlines() if line.startswith("# TYPE")]
    assert len(set(names)) == len(names), "a family that stands twice"
    return dict(zip(names, text_string_to_metric_families(got.body.decode()), strict=True))


def values(families: dict[str, Metric], name: str, **labels: str) -> list[float]:
    """Values of the samples of a name with these labels."""
    # The parser gives counters the suffix of OpenMetrics, which those of the reference do not have.
    names = {name, f"{name}_total"}
    return [
        float(sample.value)
        for family in families.values()
        for sample in family.samples
        if sample.name in names and labels.items() <= sample.labels.items()
    ]


def test_all_metrics_are_told_and_no_others(where: LocalCluster, guarded: Guarded, authn: AuthnServer) -> None:
    families = scraped(where.url)
    known = {*FAMILIES, *(f"ais_{role}_{name}" for role in ("target", "proxy") for name, *_ in Stats().exported())}
    assert set(families) <= known
    elsewhere = {"ais_authn_refusals_total", "ais_etls"} | ({"ais_targets", "ais_targets_up"} - set(families))
    assert set(FAMILIES) - set(families) == elsewhere
    assert "ais_authn_refusals_total" in scraped(guarded.url)
    assert set(scraped(authn.url)) <= set(FAMILIES)
    for name, family in families.items():
        if name in FAMILIES:
            assert (family.type, family.documentation) == (FAMILIES[name].kind, FAMILIES[name].help)
            for sample in family.samples:
                assert set(sample.labels) <= {"node_id", *FAMILIES[name].labels}, sample


def test_gateway_tells_of_its_targets(cluster3: LocalCluster) -> None:
    families = scraped(cluster3.url)
    assert values(families, "ais_targets") == values(families, "ais_targets_up") == [3]
    roles = [sample.labels["role"] for sample in families["ais_build_info"].samples]
    assert sorted(roles) == ["gateway", "target", "target", "target"]
    assert len(values(families, "process_start_time_seconds")) == 4
    assert len(values(families, "ais_stored_bytes")) == 1, "what all share was told by each"


def test_a_target_that_is_silent_hides_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cluster:
        smap = SimpleNamespace(targets={"silent": "silent", "good": "good"})

        async def ask(self, url: str, method: str, target: str) -> Reply:
            if url == "silent":
                raise asyncio.TimeoutError
            return Reply(200, [], f"# HELP m {method} {target}\nm 1\n".encode())

    monkeypatch.setattr(health, "node_metrics", lambda _: "")
    monkeypatch.setattr(health, "targets_up", lambda _, answered: f"# HELP up targets\nup {answered}\n")
    told = asyncio.run(health._metrics_of_all(cast("Node", Cluster()))).body
    assert told == b"# HELP up targets\nup 1\n# HELP m GET /metrics\nm 1\n"


def test_requests_are_counted_and_timed(cluster: LocalCluster, bucket: Bucket) -> None:
    before = scraped(cluster.url)
    bucket.object("o").get_writer().put_content(b"x" * 1000)
    for _ in range(40):
        bucket.object("o").get_reader().read_all()
    with Caller(cluster.url) as call:
        for _ in range(3):
            assert call("GET", f"/v1/objects/{bucket.name}/missing").status == 404
    after = scraped(cluster.url)

    def grown(name: str, **labels: str) -> float:
        return sum(values(after, name, **labels)) - sum(values(before, name, **labels))

    assert grown("ais_target_get_count") >= 40
    assert grown("ais_request_seconds_count", kind="put") == 1
    # One of 16 small reads is timed, and counts for those before it.
    assert 40 - 15 <= grown("ais_request_seconds_count", kind="get") - 3 <= 40 + 15
    assert grown("ais_request_errors_total", kind="get", code="404") == 3
    assert grown("ais_received_bytes_total", kind="put") == 1000
    assert grown("ais_catalog_changes_total") >= 1
    assert grown("ais_catalog_commit_seconds_total") > 0
    assert grown("ais_request_seconds_sum", kind="put") > 0
    assert sum(values(after, "ais_objects")) >= 1
    assert sum(values(after, "process_open_fds")) > 5
    assert sum(values(after, "ais_connections")) >= 1


def test_buckets_of_a_histogram_grow_to_its_count(cluster: LocalCluster) -> None:
    families = scraped(cluster.url)
    for kind in KINDS:
        counts = values(families, "ais_request_seconds_bucket", kind=kind)
        assert counts == sorted(counts)
        assert counts[-1] == values(families, "ais_request_seconds_count", kind=kind)[0]


def test_connections_that_are_no_requests_are_counted(cluster: LocalCluster) -> None:
    before = sum(values(scraped(cluster.url), "ais_heads_refused_total"))
    with Caller(cluster.url) as call:
        assert call("GET", "/v1/health", headers={"X-Long": "x" * 200_000}).status == 431
    assert sum(values(scraped(cluster.url), "ais_heads_refused_total")) == before + 1


def test_refused_tokens_are_counted(guarded: Guarded) -> None:
    def refused(reason: str) -> float:
        return sum(values(scraped(guarded.url), "ais_authn_refusals_total", reason=reason))

    before = {reason: refused(reason) for reason in ("no token", "bad token", "no right")}
    with Caller(guarded.url) as call:
        assert call("GET", "/v1/buckets").status == 401
        assert call("GET", "/v1/buckets", headers={"Authorization": "Bearer x.y.z"}).status == 401
    with guarded.having(0) as nobody:
        assert nobody("GET", "/v1/cluster?what=smap").status == 403
    assert {reason: refused(reason) for reason in before} == {reason: n + 1 for reason, n in before.items()}


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb"])
def test_labels_are_escaped(value: str) -> None:
    out = Exposition({"node_id": value})
    out.family("m", "gauge", "a\nmeaning \\")
    out.sample(1)
    (family,) = text_string_to_metric_families(out.text())
    assert family.samples[0].labels == {"node_id": value}
    assert family.documentation == "a\nmeaning \\"


def test_merged_expositions_have_each_family_once() -> None:
    texts = []
    for node in "ab":
        out = Exposition({"node_id": node})
        for name in ("x", "y") if node == "a" else ("y", "x", "z"):
            out.family(name, "gauge", "m")
            out.sample(1)
        texts.append(out.text())
    merged = {family.name: len(family.samples) for family in text_string_to_metric_families(merge(texts))}
    assert merged == {"x": 2, "y": 2, "z": 1}


def test_page_has_the_metrics_that_there_are() -> None:
    text = PAGE.read_text()
    assert text == page_with_metrics(), "python tests/monitoring_page.py renews it"
    for kind in KINDS:
        assert f"`{kind}`" in text or kind.startswith("s3-"), kind


def test_configuration_and_rules_of_the_page_are_good() -> None:
    scrape, rules = (yaml.safe_load(block) for block in _BLOCK.findall(PAGE.read_text()))
    assert all(job["static_configs"][0]["targets"] for job in scrape["scrape_configs"])
    known = {*FAMILIES, *(f"ais_request_seconds_{suffix}" for suffix in ("bucket", "sum", "count"))}
    for rule in rules["groups"][0]["rules"]:
        named = set(_NAME.findall(rule["expr"]))
        assert named <= known, rule
        assert named or rule["expr"].startswith("up{")
        assert rule["expr"].count("(") == rule["expr"].count(")")
        for name in named & FAMILIES.keys():
            told = re.findall(rf"{name}\{{(\w+)", rule["expr"])
            assert set(told) <= set(FAMILIES[name].labels)
