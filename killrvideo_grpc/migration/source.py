"""Rows of an existing KillrVideo database, as they were read: values of any type, or None."""

from collections.abc import Sequence
from dataclasses import dataclass, field

USER_COLUMNS = ("userid", "created_date", "email", "firstname", "lastname", "account_status", "last_login_date")
CREDENTIAL_COLUMNS = ("email", "password", "userid", "account_locked")


@dataclass(frozen=True, slots=True)
class SourceUser:
    """A row of `users`, or a document. `roles` is only in documents."""

    where: str
    user_id: object
    email: object
    first_name: object
    last_name: object
    status: object
    created: object
    last_login: object
    roles: object = None


@dataclass(frozen=True, slots=True)
class SourceCredential:
    """A row of `user_credentials`, or the part of a document that stands for one."""

    where: str
    email: object
    password: object = field(repr=False)
    user_id: object
    locked: object = None


@dataclass(frozen=True, slots=True)
class Source:
    """All rows. `has_roles` is whether roles are in `SourceUser.roles` instead of the status."""

    users: Sequence[SourceUser]
    credentials: Sequence[SourceCredential]
    has_roles: bool = False
