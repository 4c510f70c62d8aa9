"""What a node tells about itself, its machine and its cluster (protocol/00 12, 13).

A process that is gateway and target at once speaks as either; `role` says as which.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from aistore.server.stats import CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRES_SOON, HEALTHY
from aistore.version import __version__
from aistore.wire import headers

if TYPE_CHECKING:
    from aistore.server.node import Node

__all__ = [
    "SpokenRole",
    "bucket_metadata",
    "capacity",
    "mountpaths",
    "node_config",
    "node_state",
    "node_stats",
    "node_status",
    "resident_bytes",
    "system",
]

SpokenRole = Literal["proxy", "target"]

# The reference version whose protocol this server speaks, and what it is.
VERSION = f"5.0.py{__version__}"


def node_entry(node: Node, role: SpokenRole) -> dict[str, object]:
    """The node's own entry of the cluster map."""
    return node.smap.node(node.gateway_id if role == "proxy" else node.target_id)


def node_status(node: Node, role: SpokenRole) -> dict[str, object]:
    """`what=node_status`."""
    return {
        **node_stats(node, role),
        "status": "",
        "deployment": sys.platform,
        "ais_version": VERSION,
        "build_time": "",
        "k8s_pod_name": "",
        "cluster": node_state(node),
        "sys_info": system(node, "proxy"),
        "smap_version": str(node.smap.version),
    }


def node_stats(node: Node, role: SpokenRole) -> dict[str, object]:
    """`what=node_stats`."""
    return {"snode": node_entry(node, role), "tracker": node.stats.tracker(), "capacity": capacity(node, role)}


def node_state(node: Node) -> dict[str, object]:
    """The node-state document, also of `health?cii=true`."""
    smap = node.smap
    return {
        "smap": {
            "Primary": {"pub_url": smap.gateway_url, "control_url": smap.gateway_url, "id": smap.gateway},
            "uuid": smap.uuid,
            "version": str(smap.version),
        },
        "bmd": {"uuid": smap.uuid, "version": str(1 + node.store.catalog.buckets_made())},
        "rmd": {"version": "0"},
        "config": {"version": str(node.control.config.current.version)},
        "etlmd": {"version": "0"},
        "flags": HEALTHY | _certificate_flags(node),
    }


def _certificate_flags(node: Node) -> int:
    """What is wrong with the certificate, or soon will be (protocol/00 13.2)."""
    if node.tls is None:
        return 0
    return CERTIFICATE_EXPIRED if node.tls.expired else CERTIFICATE_EXPIRES_SOON * node.tls.expires_soon


def bucket_metadata(node: Node) -> dict[str, object]:
    """`what=bmd`: all buckets with their properties."""
    providers: dict[str, dict[str, dict[str, object]]] = {"ais": {}}
    for bucket in node.store.buckets():
        namespaces = providers.setdefault(bucket.id.provider, {})
        namespaces.setdefault(bucket.id.namespace_uname, {})[bucket.id.name] = node.props(bucket)
    return {"providers": providers, "uuid": node.smap.uuid, "version": str(1 + node.store.catalog.buckets_made())}


def mountpaths(node: Node) -> dict[str, object]:
    """`what=mountpaths`."""
    return {"available": [node.mountpath], "waiting_dd": [], "disabled": []}


def capacity(node: Node, role: SpokenRole) -> dict[str, object]:
    """The capacity block; a gateway has none."""
    if role == "proxy":
        nothing = {"mountpaths": None, "cs_err": "", "total_used": "0", "total_avail": "0"}
        return {**nothing, "pct_max": 0, "pct_avg": 0, "pct_min": 0}
    used, available = _space(node)
    percent = round(100 * used / (used + available)) if used + available else 0
    path = {
        "mountpath_label": "",
        "fs": {"Fs": "", "FsType": "", "FsID": str(Path(node.mountpath).stat().st_dev)},
        "disks": [],
        "used": str(used),
        "avail": str(available),
        "pct_used": percent,
    }
    totals = {"cs_err": "", "total_used": str(used), "total_avail": str(available)}
    return {"mountpaths": {node.mountpath: path}, **totals, "pct_max": percent, "pct_avg": percent, "pct_min": percent}


def _space(node: Node) -> tuple[int, int]:
    """Used and available bytes: of the disk, or of the configured capacity."""
    total, free = node.store.disk()
    if node.store.capacity is None:
        return total - free, free
    used = node.store.bytes
    return used, max(0, min(node.store.capacity - used, free))


def system(node: Node, role: SpokenRole) -> dict[str, object]:
    """`what=sysinfo`: memory and load; a target adds its disk."""
    used, available = _memory()
    load = os.getloadavg()
    cpus = os.cpu_count() or 1
    times = resource.getrusage(resource.RUSAGE_SELF)
    seconds = max(node.stats.uptime / 1e9, 1e-9)
    percent_of_cpu = 100 * (times.ru_utime + times.ru_stime) / seconds / cpus
    document: dict[str, object] = {
        "mem_used": used,
        "mem_avail": available,
        "pct_mem_used": 100 * used / (used + available) if used + available else 0.0,
        "pct_cpu_used": percent_of_cpu,
        "load_avg": {"One": load[0], "Five": load[1], "Fifteen": load[2]},
        "cpu_util": round(percent_of_cpu),
    }
    if role == "target":
        disk_used, free = _space(node)
        total = disk_used + free
        percent = round(100 * disk_used / total) if total else 0
        document.update(fs_used=str(disk_used), fs_capacity=str(total), pct_fs_used=percent)
    return document


def resident_bytes() -> int:
    """Resident bytes of this process; where the system does not tell, the most that there were."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:  # macOS, which counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _memory() -> tuple[int, int]:
    """Resident bytes of this process, and bytes available on the machine."""
    page = os.sysconf("SC_PAGE_SIZE")
    used = resident_bytes()
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * page
    except (ValueError, OSError):  # macOS does not tell
        available = os.sysconf("SC_PHYS_PAGES") * page - used
    return used, max(0, available)


def node_config(node: Node) -> dict[str, object]:
    """`what=config`: the cluster's configuration with what is local to this node."""
    folder = str(node.settings.data_dir)
    parts = urlsplit(node.url)
    port = str(parts.port or "")
    net = {
        "hostname": parts.hostname or socket.gethostname(),
        "hostname_intra_control": "",
        "hostname_intra_data": "",
        "port": port,
        "port_intra_control": port,
        "port_intra_data": port,
    }
    local = {
        "confdir": folder,
        "log_dir": folder,
        "fspaths": {folder: ""},
        "test_fspaths": {"root": "", "count": 0, "instance": 0},
    }
    return {**node.control.config.document(node.smap.uuid), **local, "host_net": net}


def uptime_headers(node: Node) -> list[tuple[str, str]]:
    """The headers of every health answer."""
    uptime = str(time.time_ns() - node.started)
    return [(headers.NODE_UPTIME, uptime), (headers.CLUSTER_UPTIME, uptime)]
