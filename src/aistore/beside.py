"""Noticing that the distributions `aistore` and `aistore-py` lie over each other (docs/install-beside.md)."""

from __future__ import annotations

import os


def overlaid_in() -> str:
    """The folder where both distributions put their files, or an empty string. One directory listing where all is well."""
    folder = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120  # pathlib would double the time of the import
    try:
        names = os.listdir(folder)  # noqa: PTH208  # the same
    except OSError:
        return ""  # imported from an archive: nothing can lie over it
    for name in names:
        if name.startswith("aistore-") and name.endswith(".dist-info"):
            return folder if _owns_files(f"{folder}/{name}/RECORD") else ""
    return ""


def _owns_files(record: str) -> bool:
    """Whether a distribution installed the package; a stand-in of that name, which holds no files, does no harm."""
    try:
        with open(record, "rb") as file:  # noqa: PTH123  # the same
            return b"aistore/__init__.py," in file.read()
    except OSError:
        return False


def warn_if_overlaid() -> None:
    """Say at import that one of the two has to go."""
    if folder := overlaid_in():
        import warnings

        warnings.warn(
            f"the distributions 'aistore' and 'aistore-py' are both installed in {folder}, over each other. "
            "Keep one: pip uninstall -y aistore aistore-py && pip install aistore-py",
            stacklevel=3,
        )
