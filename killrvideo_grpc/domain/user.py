"""Accounts: a user, what a login needs, and the one normal form of an e-mail address."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

MAX_EMAIL_LENGTH = 254  # characters, trimmed; the contract says so


class Role(StrEnum):
    """What an account may do. A ladder, lowest first: each may do what the ones before it may."""

    VIEWER = "viewer"
    CREATOR = "creator"
    MODERATOR = "moderator"

    @property
    def sufficient(self) -> list["Role"]:
        """The roles that may do what this one may: itself and those above it."""
        ladder = list(Role)
        return ladder[ladder.index(self) :]


class AccountStatus(StrEnum):
    """Whether an account may be used at all."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class User:
    """One account. Dates are aware, in UTC, whole milliseconds (what every store can keep)."""

    user_id: UUID
    email: str
    first_name: str
    last_name: str
    roles: frozenset[Role]
    status: AccountStatus
    created_date: datetime
    last_login_date: datetime | None = None

    def may_act_as(self, role: Role) -> bool:
        """Says whether one of the account's roles is `role` or stands above it on the ladder."""
        return not self.roles.isdisjoint(role.sufficient)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login is checked against: the bcrypt hash (`$2b$…`), and the account as it was registered."""

    registered: User
    password_hash: str = field(repr=False)


def read_roles(names: Iterable[str]) -> frozenset[Role]:
    """Reads role names as a store holds them. A name that is none of ours grants nothing, so it is left out."""
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
