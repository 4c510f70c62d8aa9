"""Values of `what=`: what a node or the cluster is asked to tell (protocol/00 13, 15; of jobs protocol/30 4)."""

from __future__ import annotations

SMAP = "smap"
BMD = "bmd"
SNODE = "snode"
REMOTE = "remote"

# Of one node.
CONFIG = "config"
DISK = "disk"
LOG = "log"
METRICS = "metrics"
NODE_STATUS = "node_status"
SOFTWARE_VERSION = "software_version"
TLS_CERTIFICATE = "tls_certificate"

# Of one node, or of all.
MOUNTPATHS = "mountpaths"
NODE_STATS = "node_stats"
SYSINFO = "sysinfo"

# Of the cluster.
BACKENDS = "backends"
CLUSTER_CONFIG = "cluster_config"
TARGET_IPS = "target_ips"

# Of jobs.
JOB_SNAPSHOTS = "qryxstats"
JOB_STATUS = "status"
ALL_JOB_STATUSES = "status_all"
RUNNING_JOBS = "running_all"
