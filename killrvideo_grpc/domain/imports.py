"""Accounts that come from another store or another system."""

from dataclasses import dataclass
from enum import Enum, auto

from killrvideo_grpc.domain.account import Credentials
from killrvideo_grpc.domain.events import Action, Cause, Event, role_list

IMPORT_BATCH = 50  # accounts that a store takes at once


@dataclass(frozen=True, slots=True)
class ImportedAccount:
    """An account with its hash, and the event that records where it comes from."""

    credentials: Credentials
    event: Event

    @classmethod
    def of(cls, credentials: Credentials, cause: Cause, before: str = "") -> "ImportedAccount":
        """Return the account with its event. `before` is what the source said about it."""
        account = credentials.account
        return cls(credentials, cause.event(account, Action.IMPORTED, before, role_list(account.roles)))


class ImportOutcome(Enum):
    """What became of an account."""

    IMPORTED = auto()
    EXISTS = auto()  # an account has this id
    DELETED = auto()  # an account had this id
    EMAIL_TAKEN = auto()  # another account owns the address
