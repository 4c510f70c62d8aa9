"""The cluster in the box, from Python: a server of one's own (`LocalCluster`), or one shared by whoever names its data
folder (`Client("local:///path")`)."""

from __future__ import annotations

from aistore.local.cluster import LocalCluster
from aistore.local.shared import resolve, trust
from aistore.server.folder import FolderInUseError
from aistore.server.settings import SettingsError
from aistore.server.spawn import ServerStartError

__all__ = ["FolderInUseError", "LocalCluster", "ServerStartError", "SettingsError", "resolve", "trust"]
