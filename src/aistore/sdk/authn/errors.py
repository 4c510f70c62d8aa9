"""Errors of calls on an AuthN server.

APIRequestError
└── AuthNError                       the AuthN server refused a call
    ├── ErrAccessKeyNotFound
    ├── ErrUserInvalidCredentials    no such user, or another password
    ├── ErrUserNotFound
    ├── ErrUserAlreadyExists
    ├── ErrRoleNotFound
    ├── ErrRoleAlreadyExists
    ├── ErrClusterNotFound
    └── ErrClusterAlreadyRegistered
"""

from __future__ import annotations

from aistore.sdk.errors import APIRequestError

__all__ = [
    "AuthNError",
    "ErrAccessKeyNotFound",
    "ErrClusterAlreadyRegistered",
    "ErrClusterNotFound",
    "ErrRoleAlreadyExists",
    "ErrRoleNotFound",
    "ErrUserAlreadyExists",
    "ErrUserInvalidCredentials",
    "ErrUserNotFound",
]


class AuthNError(APIRequestError):
    """The AuthN server answered with an error. It is no `AISError`: those come from clusters."""


class ErrAccessKeyNotFound(AuthNError):
    """The access key does not exist, or is another user's."""


class ErrUserInvalidCredentials(AuthNError):
    """There is no such user, or its password is another one."""


class ErrUserNotFound(AuthNError):
    """The user does not exist."""


class ErrUserAlreadyExists(AuthNError):
    """There is a user of this name."""


class ErrRoleNotFound(AuthNError):
    """The role does not exist."""


class ErrRoleAlreadyExists(AuthNError):
    """There is a role of this name."""


class ErrClusterNotFound(AuthNError):
    """No cluster with this id or alias is registered."""


class ErrClusterAlreadyRegistered(AuthNError):
    """The cluster is registered already, or another one has its alias."""
