"""All that is fuzzed, by name."""

from __future__ import annotations

from typing import Final

from fuzz import archive_targets, http_targets, message_targets, s3_targets, wire_targets

__all__ = ["TARGETS"]

TARGETS: Final = {
    target.name: target
    for part in (http_targets, wire_targets, message_targets, s3_targets, archive_targets)
    for target in part.TARGETS
}
