"""Accounts and sessions. All dates are timezone-aware, in UTC, in whole milliseconds."""

import hmac
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

NIL_UUID = UUID(int=0)  # no account has this id
MAX_EMAIL_LENGTH = 254  # characters after trimming, as the contract states


class Role(StrEnum):
    """What an account may do, lowest first. Each role includes the rights of those before it."""

    VIEWER = "viewer"
    CREATOR = "creator"
    MODERATOR = "moderator"

    @property
    def sufficient(self) -> tuple["Role", ...]:
        """This role and all higher ones, any of which grants its rights."""
        return _SUFFICIENT[self]


@lru_cache(64)  # more than there are combinations of roles
def role_names(roles: frozenset[Role]) -> tuple[str, ...]:
    """Return the names of the roles, the highest last."""
    return tuple(role.value for role in Role if role in roles)


_SUFFICIENT = {role: tuple(Role)[rung:] for rung, role in enumerate(Role)}


class AccountStatus(StrEnum):
    """Whether an account may be used. Stores return a deleted account as missing."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Session:
    """A login. Its refresh tokens are numbered from 1; the current one, `generation`, dates from `refreshed_date`."""

    session_id: str
    generation: int
    created_date: datetime
    refreshed_date: datetime
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lasts: until `idle` after its last refresh, and at most `total`."""

    idle: timedelta
    total: timedelta

    def end_of(self, session: Session) -> datetime:
        """Return when the session expires unless it is refreshed."""
        return min(session.refreshed_date + self.idle, session.created_date + self.total)

    def unexpired(self, sessions: Iterable[Session], at: datetime) -> list[Session]:
        """Return the sessions that have not expired at `at`, the most recently used first."""
        live = [session for session in sessions if self.end_of(session) > at]
        return sorted(live, key=lambda session: (session.refreshed_date, session.session_id), reverse=True)


@dataclass(frozen=True, slots=True)
class ResetCode:
    """A code that sets a new password once, stored as its SHA-256. Moderators need one from an operator."""

    digest: str = field(repr=False)
    expires_at: datetime
    by_operator: bool


@dataclass(frozen=True, slots=True)
class Account:
    """One account.

    One without an address is profile only: it has names, but nobody can log in. `credential_id` names the current
    password. `sessions`, by id, may have expired. `sources` maps digests of network addresses to the dates of the last
    logins from there. Failed attempts before `unblocked_date` don't count. `stored` belongs to the store that read the
    account.
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
    sources: Mapping[str, datetime] = field(default_factory=dict)
    reset_code: ResetCode | None = None
    unblocked_date: datetime | None = None
    stored: object = field(default=None, repr=False, compare=False)

    @property
    def is_active_moderator(self) -> bool:
        """Whether the account is a moderator that can log in and isn't suspended."""
        return bool(self.email) and self.status is AccountStatus.ACTIVE and Role.MODERATOR in self.roles

    def accepts_reset_code(self, digest: str, at: datetime) -> bool:
        """Return whether the code with this SHA-256 may set a new password."""
        code = self.reset_code
        if code is None or at >= code.expires_at:
            return False
        return hmac.compare_digest(code.digest, digest) and (code.by_operator or Role.MODERATOR not in self.roles)

    def may_act_as(self, role: Role) -> bool:
        """Return whether the account has `role` or a higher one."""
        return not self.roles.isdisjoint(role.sufficient)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account with the bcrypt hash of its password; empty if it has none that can be checked."""

    account: Account
    password_hash: str = field(repr=False)


def read_roles(names: Iterable[str]) -> frozenset[Role]:
    """Parse stored role names. Unknown ones are left out and grant nothing."""
    known = set(names)
    return frozenset(role for role in Role if role in known)


def read_status(name: str | None) -> AccountStatus:
    """Parse a stored status. Anything but `active` counts as suspended."""
    return AccountStatus.ACTIVE if name == AccountStatus.ACTIVE else AccountStatus.SUSPENDED


def normal_email(email: str) -> str:
    """Return the form in which addresses are compared and claimed. Idempotent.

    Trimmed and in NFKC, with the local part case folded and the domain in ASCII (UTS 46, non-transitional).
    """
    local, at, domain = unicodedata.normalize("NFKC", email).strip().rpartition("@")
    labels = domain.replace("\u3002", ".").split(".")  # the ideographic full stop
    return f"{_fold(local)}{at}{'.'.join(map(_ascii_label, labels))}".strip()


def _ascii_label(label: str) -> str:
    """Return a label of a domain in ASCII, without the checks of IDNA, which would leave two forms of some labels."""
    unicode = _decoded(label) if label.isascii() else label
    if unicode.isascii():
        return label.lower()
    import idna  # loads 3 MB of tables

    try:
        unicode = idna.uts46_remap(unicode, std3_rules=False, transitional=False)
    except UnicodeError:  # it has a character that no domain may have
        unicode = unicode.lower()
    return unicode if unicode.isascii() else f"xn--{unicode.encode('punycode').decode()}"


def _decoded(label: str) -> str:
    """Return the text that an A-label (`xn--…`) stands for; any other label as it is."""
    if label[:4].lower() == "xn--":
        with suppress(UnicodeError):
            text = label[4:].encode().decode("punycode")
            return label if set(text) & set(".@") else text
    return label


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def now() -> datetime:
    """Return the current time in UTC, truncated to the millisecond."""
    return truncate_to_millisecond(datetime.now(UTC))


def truncate_to_millisecond(date: datetime) -> datetime:
    """Truncate a date to the millisecond, as all stores keep it."""
    return date.replace(microsecond=date.microsecond // 1000 * 1000)
