"""Accounts, their roles and sessions, and the normal form of e-mail addresses."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

MAX_EMAIL_LENGTH = 254  # characters after trimming, as the contract states


class Role(StrEnum):
    """What an account may do, lowest first. Each role includes the rights of the ones before it."""

    VIEWER = "viewer"
    CREATOR = "creator"
    MODERATOR = "moderator"

    @property
    def sufficient(self) -> tuple["Role", ...]:
        """This role and all higher ones: any of them grants the rights of this role."""
        return _SUFFICIENT[self]


_SUFFICIENT = {role: tuple(Role)[rung:] for rung, role in enumerate(Role)}


class AccountStatus(StrEnum):
    """Whether an account may be used. Deleted accounts need no member here: stores return them as missing."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Session:
    """A login that has not ended. Dates are timezone-aware, in UTC, in whole milliseconds.

    `generation` counts the session's refresh tokens from 1 up to the current one; `refreshed_date` is when it last
    changed.
    """

    session_id: str
    credential_id: str
    generation: int
    created_date: datetime
    refreshed_date: datetime
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """One account. Dates are timezone-aware, in UTC, in whole milliseconds (the precision that every store supports).

    `credential_id` identifies the current password. `sessions` maps session ids to the sessions that were opened with
    the current password; they may have expired. `dead_sessions` has the ids of all other session entries still in the
    store; they grant nothing, and the next login removes them. `sources` maps digests of the addresses from which the
    owner has logged in to the dates of the last logins: see service/throttle.py.
    """

    user_id: UUID
    email: str
    first_name: str
    last_name: str
    roles: frozenset[Role]
    status: AccountStatus
    created_date: datetime
    credential_id: str
    last_login_date: datetime | None = None
    sessions: Mapping[str, Session] = field(default_factory=dict)
    dead_sessions: frozenset[str] = frozenset()
    sources: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def is_active_moderator(self) -> bool:
        """Whether the account counts as a moderator. A suspended one does not."""
        return self.status is AccountStatus.ACTIVE and Role.MODERATOR in self.roles

    def may_act_as(self, role: Role) -> bool:
        """Returns whether the account has `role` or a higher one."""
        return not self.roles.isdisjoint(role.sufficient)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account with the bcrypt hash (`$2b$…`) of its current password."""

    account: Account
    password_hash: str = field(repr=False)


def read_roles(names: Iterable[str]) -> frozenset[Role]:
    """Parses stored role names. Leaves out unknown ones: they grant nothing."""
    return frozenset(role for role in Role if role in set(names))


def read_status(name: str | None) -> AccountStatus:
    """Parses a stored account status. Fails closed: anything but `active` counts as suspended."""
    return AccountStatus.ACTIVE if name == AccountStatus.ACTIVE else AccountStatus.SUSPENDED


def normal_email(email: str) -> str:
    """Returns the form in which addresses are compared and claimed: trimmed, NFKC, lower case.

    NFKC is applied twice because lowercasing can undo it, and trimming comes last because NFKC can produce white space.
    So normal_email(normal_email(x)) == normal_email(x).
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", email).lower()).strip()


def now() -> datetime:
    """Returns the current time in UTC, truncated to the millisecond."""
    present = datetime.now(UTC)
    return present.replace(microsecond=present.microsecond // 1000 * 1000)
