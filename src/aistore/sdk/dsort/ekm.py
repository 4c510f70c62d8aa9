"""The external key map of a dSort job: which records go into which shards."""

from __future__ import annotations

from aistore.sdk.multiobj.object_names import ObjectNames

__all__ = ["ExternalKeyMap"]


class ExternalKeyMap(dict[str, ObjectNames]):
    """Templates of output shards, and the keys of the records that go into them.

    A key is a regular expression that is looked for in the name of a record's first member (protocol/40 B5). Raises TypeError for keys
    that are no text, and for values that are no `ObjectNames`.

    >>> ekm = ExternalKeyMap()
    >>> ekm["cats-%d.tar"] = ObjectNames(["tabby.jpg", "tom.jpg"])
    >>> ekm.as_dict()
    {'cats-%d.tar': ['tabby.jpg', 'tom.jpg']}
    """

    def __setitem__(self, key: str, value: ObjectNames) -> None:
        if not isinstance(key, str):
            raise TypeError(f"Key must be a string, got {type(key).__name__}")
        if not isinstance(value, ObjectNames):
            raise TypeError(f"Value must be an instance of ObjectNames, got {type(value).__name__}")
        super().__setitem__(key, value)

    def as_dict(self) -> dict[str, list[str]]:
        """The map as it is sent."""
        return {template: list(names) for template, names in self.items()}
