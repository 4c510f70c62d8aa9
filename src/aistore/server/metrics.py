"""What `/metrics` tells: the counters that the reference has, under its names, and what this server knows beside them."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from aistore.server.about import VERSION, resident_bytes
from aistore.server.exposition import Exposition
from aistore.wire.kinds import KINDS as JOB_KINDS

if TYPE_CHECKING:
    from aistore.http1.server import HttpServer
    from aistore.server.authn.service import AuthnService
    from aistore.server.node import Node
    from aistore.server.traffic import Traffic

__all__ = ["FAMILIES", "Family", "node_metrics", "service_metrics", "targets_up"]


class Family(NamedTuple):
    """A metric: its type, what it means, and the labels it has beside `node_id` (which those of AuthN servers do not have)."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()


FAMILIES: Final = {
    "ais_build_info": Family("gauge", "what runs; always 1", ("version", "python", "role", "durability")),
    "ais_request_seconds": Family(
        "histogram",
        "time from a request's arrival (with a body of up to 64 KiB) to its answer; small objects that are answered at once are counted 16 at a time",
        ("kind", "le"),
    ),
    "ais_request_errors_total": Family("counter", "requests answered with a status from 400 on", ("kind", "code")),
    "ais_received_bytes_total": Family("counter", "bytes of request bodies", ("kind",)),
    "ais_sent_bytes_total": Family("counter", "bytes of answers; those of small objects are extrapolated", ("kind",)),
    "ais_connections": Family("gauge", "connections that are open"),
    "ais_connections_limit": Family("gauge", "how many there may be"),
    "ais_connections_accepted_total": Family("counter", "connections so far"),
    "ais_connections_refused_total": Family("counter", "connections that were too many"),
    "ais_heads_refused_total": Family(
        "counter", "answers to what is no request, or beyond a limit, and to connections that were too many"
    ),
    "ais_body_memory_bytes": Family("gauge", "memory that request bodies hold"),
    "ais_body_memory_limit_bytes": Family("gauge", "how much they may"),
    "ais_catalog_commits_total": Family("counter", "commits of the catalog"),
    "ais_catalog_changes_total": Family("counter", "changes in those commits"),
    "ais_catalog_commit_seconds_total": Family("counter", "time that commits took: with durability strict, mostly fsync"),
    "ais_content_damaged": Family("gauge", "content known to be damaged, whose objects answer an error"),
    "ais_content_damage_found_total": Family("counter", "times that reading came upon content that is damaged"),
    "ais_remote_cache_hits_total": Family("counter", "reads of remote buckets' objects that were on this disk"),
    "ais_remote_cache_misses_total": Family("counter", "reads of remote buckets' objects that were not"),
    "ais_authn_refusals_total": Family("counter", "requests refused for their token or its rights", ("reason",)),
    "ais_buckets": Family("gauge", "buckets"),
    "ais_objects": Family("gauge", "objects in all buckets, cached ones of remote buckets included"),
    "ais_stored_bytes": Family("gauge", "bytes that are stored; content that objects share counts once"),
    "ais_disk_size_bytes": Family("gauge", "size of the data folder's disk"),
    "ais_disk_free_bytes": Family("gauge", "what is free on it"),
    "ais_capacity_bytes": Family("gauge", "how much may be stored: --capacity, or else the disk's size"),
    "ais_jobs_running": Family("gauge", "jobs that run", ("kind",)),
    "ais_jobs_ended_total": Family("counter", "jobs that ended since the start", ("kind", "outcome")),
    "ais_etls": Family("gauge", "transformers", ("stage",)),
    "ais_targets": Family("gauge", "target processes that should run"),
    "ais_targets_up": Family("gauge", "target processes that do, and whose metrics are here"),
    "process_cpu_seconds_total": Family("counter", "CPU time, of user and system"),
    "process_resident_memory_bytes": Family("gauge", "resident memory"),
    "process_open_fds": Family("gauge", "open file descriptors"),
    "process_max_fds": Family("gauge", "how many there may be"),
    "process_start_time_seconds": Family("gauge", "start of the process, Unix time"),
}  # fmt: skip
"""All metrics but those that are named as the reference does: `ais_target_...`, and `ais_proxy_...` of a gateway (`Stats.exported`)."""

_STARTED: Final = time.time()
_STAGES: Final = ("Initializing", "Running", "Aborted")


def node_metrics(node: Node) -> str:
    """The metrics of a node's process, in Prometheus' text format."""
    node_id = node.target_id or node.gateway_id
    out = Exposition({"node_id": node_id})
    role = "target" if node.target_id else "proxy"
    for name, kind, meaning, value in node.stats.exported():
        out.family(f"ais_{role}_{name}", kind, meaning)
        out.sample(value)
    of = "gateway" if not node.target_id else "target" if node.is_target else "node"
    build = {"version": VERSION, "python": platform.python_version(), "role": of}
    _add(out, "ais_build_info", 1, {**build, "durability": node.settings.durability})
    _expose_traffic(out, node.traffic, node.server)
    _expose_store(out, node)
    _add(out, "ais_content_damage_found_total", node.store.verifier.damage.found)
    _add(out, "ais_remote_cache_hits_total", node.stats.cache_hits)
    _add(out, "ais_remote_cache_misses_total", node.stats.cache_misses)
    if node.guarded is not None:
        _begin(out, "ais_authn_refusals_total")
        for reason, count in node.guarded.gate.refusals.items():
            out.sample(count, {"reason": reason})
    if node.is_gateway:  # what all processes share, told once
        _expose_cluster(out, node)
    _expose_process(out)
    return out.text()


def service_metrics(service: AuthnService) -> str:
    """The metrics of an AuthN server's own process, or of its part of a node's, in Prometheus' text format."""
    out = Exposition({})
    build = {"version": VERSION, "python": platform.python_version(), "role": "authn"}
    _add(out, "ais_build_info", 1, {**build, "durability": service.settings.durability})
    _expose_traffic(out, service.traffic, service.server)
    _expose_process(out)
    return out.text()


def _begin(out: Exposition, name: str) -> None:
    family = FAMILIES[name]
    out.family(name, family.kind, family.help)


def _add(out: Exposition, name: str, value: float, labels: dict[str, str] | None = None) -> None:
    _begin(out, name)
    out.sample(value, labels)


def _expose_traffic(out: Exposition, traffic: Traffic, server: HttpServer) -> None:
    """Requests and connections."""
    _begin(out, "ais_request_seconds")
    for name, kind in traffic.kinds.items():
        out.histogram(kind.cumulated(), sum(kind.counts), kind.seconds, {"kind": name})
    _begin(out, "ais_request_errors_total")
    for (name, status), count in sorted(traffic.errors.items()):
        out.sample(count, {"kind": name, "code": str(status)})
    _begin(out, "ais_received_bytes_total")
    for name, kind in traffic.kinds.items():
        out.sample(kind.received, {"kind": name})
    _begin(out, "ais_sent_bytes_total")
    for name, kind in traffic.kinds.items():
        out.sample(kind.sent, {"kind": name})
    _add(out, "ais_connections", server.connections)
    _add(out, "ais_connections_limit", server.limits.connections)
    _add(out, "ais_connections_accepted_total", server.accepted)
    _add(out, "ais_connections_refused_total", server.turned_away)
    _add(out, "ais_heads_refused_total", server.heads_refused)
    _add(out, "ais_body_memory_bytes", server.memory.used)
    _add(out, "ais_body_memory_limit_bytes", server.memory.limit)


def _expose_store(out: Exposition, node: Node) -> None:
    """What this process does with the catalog."""
    catalog = node.store.catalog
    _add(out, "ais_catalog_commits_total", catalog.commits)
    _add(out, "ais_catalog_changes_total", catalog.changes)
    _add(out, "ais_catalog_commit_seconds_total", catalog.commit_seconds)


def _expose_cluster(out: Exposition, node: Node) -> None:
    """What the data folder holds, jobs and transformers."""
    store = node.store
    size, free = store.disk()
    _add(out, "ais_buckets", len(store.buckets()))
    _add(out, "ais_objects", store.objects)
    _add(out, "ais_stored_bytes", store.bytes)
    _add(out, "ais_content_damaged", len(store.verifier.damage))
    _add(out, "ais_disk_size_bytes", size)
    _add(out, "ais_disk_free_bytes", free)
    _add(out, "ais_capacity_bytes", size if store.capacity is None else store.capacity)
    jobs = node.control.jobs
    running = [job.kind for job in jobs.select(running=True)]
    _begin(out, "ais_jobs_running")
    for kind in JOB_KINDS:
        if kind in running:
            out.sample(running.count(kind), {"kind": kind})
    _begin(out, "ais_jobs_ended_total")
    for (kind, aborted), count in sorted(jobs.ended.items()):
        out.sample(count, {"kind": kind, "outcome": "aborted" if aborted else "finished"})
    if node.etls is not None:
        stages = [one.stage for one in node.etls.all()]
        _begin(out, "ais_etls")
        for stage in _STAGES:
            out.sample(stages.count(stage), {"stage": stage})
    if node.redirects:
        _add(out, "ais_targets", node.settings.targets)


def targets_up(node: Node, answered: int) -> str:
    """How many target processes answered for themselves."""
    out = Exposition({"node_id": node.gateway_id})
    _add(out, "ais_targets_up", answered)
    return out.text()


def _expose_process(out: Exposition) -> None:
    """What every process tells, under the names that Prometheus' client libraries use."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _add(out, "process_cpu_seconds_total", used.ru_utime + used.ru_stime)
    _add(out, "process_resident_memory_bytes", resident_bytes())
    folder = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else Path("/dev/fd")
    _add(out, "process_open_fds", len(os.listdir(folder)) - 1)  # noqa: PTH208  paths would be made and thrown away
    _add(out, "process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    _add(out, "process_start_time_seconds", _STARTED)
