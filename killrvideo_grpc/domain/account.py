"""Accounts and their sessions, and the one normal form of an e-mail address."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

MAX_EMAIL_LENGTH = 254  # characters after trimming, as the contract says


class Role(StrEnum):
    """What an account may do. A ladder, lowest first: each role may do what the ones before it may."""

    VIEWER = "viewer"
    CREATOR = "creator"
    MODERATOR = "moderator"

    @property
    def sufficient(self) -> tuple["Role", ...]:
        """The roles that may do what this one may: itself and those above it."""
        return _SUFFICIENT[self]


_SUFFICIENT = {role: tuple(Role)[rung:] for rung, role in enumerate(Role)}


class AccountStatus(StrEnum):
    """Whether an account may be used. Deleted accounts have no status: every reader treats them as missing."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Session:
    """A login that has not ended. Dates are aware, in UTC, in whole milliseconds.

    `generation` is the number of its current refresh token, counted from 1; `refreshed_date` is when that number last
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
    """One account. Dates are aware, in UTC, in whole milliseconds (the precision that every store can keep).

    `credential_id` names the current password. `sessions`, by session id, holds the sessions that count: those opened
    with the current password. `dead_sessions` are the ids of all other entries that the store still holds; they mean
    nothing, and the next login removes them. `sources` says when somebody last logged in from each source, by a digest
    of it: see service/throttle.py.
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
        """Says whether the account counts as a moderator: a suspended one does not."""
        return self.status is AccountStatus.ACTIVE and Role.MODERATOR in self.roles

    def may_act_as(self, role: Role) -> bool:
        """Says whether one of the account's roles is `role` or above it on the ladder."""
        return not self.roles.isdisjoint(role.sufficient)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a password is checked against: the account, and the bcrypt hash (`$2b$…`) of its current password."""

    account: Account
    password_hash: str = field(repr=False)


def read_roles(names: Iterable[str]) -> frozenset[Role]:
    """Reads role names as a store holds them. Unknown names grant nothing, so they are left out."""
    return frozenset(role for role in Role if role in set(names))


def read_status(name: str | None) -> AccountStatus:
    """Reads an account status as a store holds it. Only `active` lets an account in; anything else fails closed."""
    return AccountStatus.ACTIVE if name == AccountStatus.ACTIVE else AccountStatus.SUSPENDED


def normal_email(email: str) -> str:
    """Returns the form in which addresses are compared and claimed: trimmed, NFKC, lower case.

    Each step can undo the one before (NFKC makes white space, lower case undoes NFKC), hence the repetition:
    normal_email(normal_email(x)) == normal_email(x).
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", email).lower()).strip()


def now() -> datetime:
    """Returns the present in UTC, cut to the millisecond."""
    present = datetime.now(UTC)
    return present.replace(microsecond=present.microsecond // 1000 * 1000)
