"""The ports: what the service needs from its adapters. Every AccountStore must pass the suite in `tests/stores`."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials
from killrvideo_grpc.domain.changes import Change
from killrvideo_grpc.domain.events import Cause, Event
from killrvideo_grpc.domain.imports import ImportedAccount, ImportOutcome
from killrvideo_grpc.domain.search import Query
from killrvideo_grpc.domain.services import Services, ServicesChange

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. `next` is the opaque position of the next page; empty on the last one.

    Any page can be short or empty.
    """

    items: Sequence[T]
    next: str = ""


class AttemptCounter(NamedTuple):
    """Where a count is kept: a slot, from 0 to SLOTS - 1, and the number of a time window."""

    slot: int
    window: int


# Bounds the storage of counters. Two keys rarely share a slot.
SLOTS = 2**20


class AttemptCounters(Protocol):
    """Counts of attempts per slot and window, shared by all processes.

    A slot holds the count of one window. Attempts of processes whose clock is still in the window before count too. An
    attempt in any other window begins a new count. Both methods can raise StoreUnavailable.
    """

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        """Return the counts, in the same order."""

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        """Add one to each and return the new counts. After a lost answer, an attempt may be counted twice."""


class ServiceStore(Protocol):
    """The services that operators have added. Both methods can raise StoreUnavailable."""

    async def read_services(self) -> Services:
        """Return all services, by name."""

    async def change_services(self, change: ServicesChange) -> None:
        """Apply a change to the stored services, atomically. Raise what the change raises."""


class AccountStore(AttemptCounters, ServiceStore, Protocol):
    """A store of accounts. Several processes can share one database; each instance belongs to one event loop.

    Every method can raise StoreUnavailable. After that, or a cancellation, a write may have been applied, or may still
    be, but never in part.
    """

    async def register(self, account: Account, password_hash: str, cause: Cause) -> None:
        """Create the account and claim the normal form of its address. Durable when this returns.

        Raise EmailAlreadyRegistered if another account owns the address. Of concurrent calls, one succeeds.
        """

    async def find_credentials(self, email: str) -> Credentials | None:
        """Return the account that owns this address, in any spelling, with its password hash, or None."""

    async def get_credentials(self, user_id: UUID) -> Credentials | None:
        """Return an account with its password hash; None if it doesn't exist or was deleted."""

    async def get(self, user_id: UUID) -> Account | None:
        """Return the current state of an account; None if it doesn't exist or was deleted."""

    async def get_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Account]:
        """Return up to 100 accounts, without those that don't exist or were deleted."""

    async def apply(
        self, user_id: UUID, change: Change, cause: Cause, *, seen: Account | None = None, force: bool = False
    ) -> Account:
        """Decide a change on the stored account, and write account and event atomically.

        Return the account after the change, or before a deletion. `seen`, the account as the caller read it, can save a
        read. Raise UserNotFound, EmailAlreadyRegistered, what the change raises, and LastModerator unless `force` is
        set.

        After a change of the address, even a failed one, the next sweep frees the one that the account doesn't have.
        """

    async def search(self, query: Query, size: int, start: str = "") -> Page[Account]:
        """Return up to `size` matching accounts from `start` on, in any order.

        All pages together hold each account that existed and matched the whole time exactly once.
        """

    async def events(self, user_id: UUID | None, size: int, start: str = "") -> Page[Event]:
        """Return up to `size` events of one account, or of all if `user_id` is None, newest first, from `start` on.

        The list of all events may lag behind a little.
        """

    async def import_accounts(
        self, accounts: Sequence[ImportedAccount], *, dry_run: bool = False
    ) -> Sequence[ImportOutcome]:
        """Create up to IMPORT_BATCH accounts under their ids, claim their addresses, and return an outcome for each.

        An account that exists stays as it is; what an interrupted import left of it is finished. When this returns,
        searches find the accounts. A dry run writes nothing, and checks each account by itself.
        """

    def all_credentials(self) -> AsyncIterator[Sequence[Credentials]]:
        """Yield all accounts with their hashes, in batches, in any order.

        Each account that exists the whole time comes exactly once. Its sessions and sources may be missing.
        """

    async def sweep(self) -> int:
        """Finish what crashed processes left. Return how many accounts needed it."""

    async def ping(self) -> None:
        """Return if the store can answer; raise StoreUnavailable if it can't."""

    async def close(self) -> None:
        """Finish or abandon background work and close all connections."""


class PasswordHasher(Protocol):
    """A password hasher. Every hash and every check takes the configured work factor.

    `hash` and `verify` raise Overloaded if too many callers wait. A caller cancelled while waiting causes no hashing.
    """

    async def hash(self, password: str) -> str:
        """Return a salted hash of a valid password."""

    async def verify(
        self, password: str, password_hash: str | None, on_start: Callable[[], None] = lambda: None
    ) -> bool:
        """Check any text against a hash. None, for no account, takes as long and gives False.

        Call `on_start` when hashing starts.
        """

    def needs_rehash(self, password_hash: str) -> bool:
        """Return whether the hash was made with a work factor other than the configured one."""


class AccessClaims(NamedTuple):
    """The account and session that an access token identifies, and when it expires."""

    user_id: UUID
    session_id: str
    expires_at: datetime


class AccessTokens(Protocol):
    """Access tokens."""

    def issue(self, account: Account, session_id: str, latest: datetime) -> tuple[str, datetime]:
        """Return a token and its expiry (UTC, whole seconds), which is never later than `latest`."""

    def verify(self, token: str) -> AccessClaims:
        """Return the token's account, session and expiry.

        Raise TokenExpired, TokenSubjectInvalid, or TokenInvalid for every other defect.
        """


class RefreshClaims(NamedTuple):
    """The session that a refresh token identifies, and the token's number in it."""

    user_id: UUID
    session_id: str
    generation: int


class RefreshTokens(Protocol):
    """Refresh tokens. The same claims always give the same token."""

    def issue(self, claims: RefreshClaims) -> str:
        """Return the token."""

    def verify(self, token: str) -> RefreshClaims:
        """Return the token's claims. Raise RefreshTokenInvalid unless this service issued it."""


class PageTokens(Protocol):
    """Signed list positions, which callers can send back but not forge."""

    def issue(self, position: str, scope: str) -> str:
        """Return a token for a position in the list identified by `scope`; empty for an empty position."""

    def verify(self, token: str, scope: str) -> str:
        """Return the position. Raise InvalidRequest if the token was not issued for this list."""
