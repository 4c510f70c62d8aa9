"""Tests with PyTorch: `make test-torch` installs it. Without it they are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent

IGNORED = (
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",  # what forked workers risk in the tests' process is not the question here
    "ignore:This DataLoader will create .* worker processes:UserWarning",  # of machines with two cores
    "ignore:Length of IterableDataset .* was reported:UserWarning",  # PyTorch's estimate of what several workers' last batches add up to
    "ignore:'pin_memory' argument is set as true:UserWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let PyTorch warn about the machine."""
    for item in items:
        if HERE in item.path.parents:
            for one in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(one))
