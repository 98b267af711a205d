"""The ports: what the service needs from its adapters. Every AccountStore must pass the suite in `tests/stores`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials
from killrvideo_grpc.domain.changes import Change
from killrvideo_grpc.domain.events import Cause, Event
from killrvideo_grpc.domain.search import Query

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. `next` is the position of the next page, opaque to callers; empty on the last page.

    A page can be shorter than requested, or even empty, without being the last one.
    """

    items: Sequence[T]
    next: str = ""


class AttemptCounter(NamedTuple):
    """Where a count is kept: its slot, from 0 to SLOTS - 1, and the number of its time window."""

    slot: int
    window: int


# Bounds what the counters take. Two keys rarely share a slot.
SLOTS = 2**20


class AttemptCounters(Protocol):
    """Counts attempts per slot and window, for all processes that share the database.

    A slot holds the count of one window. A slot that is one window ahead, by a faster clock, is counted in; one that is
    further ahead starts again. Both methods can raise StoreUnavailable.
    """

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        """Return the counts, in the same order."""

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        """Add one to each and return the new counts. After a lost answer, an attempt may be counted twice."""


class AccountStore(AttemptCounters, Protocol):
    """Stores accounts. Several processes can share one database; each instance belongs to one event loop.

    Every method can raise StoreUnavailable. After that, as after a cancellation, a write may have been applied, or may
    still be, but never in part.
    """

    async def register(self, account: Account, password_hash: str, cause: Cause) -> None:
        """Create the account and claim the normal form of its address. Durable when this returns.

        Raises EmailAlreadyRegistered if another account owns the address: of several calls at once, all but one.
        """

    async def find_credentials(self, email: str) -> Credentials | None:
        """Return the account that owns this address, in any spelling, with its password hash; None if nobody does."""

    async def get_credentials(self, user_id: UUID) -> Credentials | None:
        """Return an account with its password hash; None if it doesn't exist or was deleted."""

    async def get(self, user_id: UUID) -> Account | None:
        """Return the current state of an account; None if it doesn't exist or was deleted."""

    async def get_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Account]:
        """Read up to 100 accounts in one request. Leaves out those that don't exist or were deleted."""

    async def apply(
        self, user_id: UUID, change: Change, cause: Cause, *, seen: Account | None = None, force: bool = False
    ) -> Account:
        """Decide a change on the stored state, and write account and event in one step. Returns the account after it.

        `seen`, the account as this call has read it, can save a read. Raises UserNotFound, the errors of the change,
        and LastModerator unless `force` is set. With a Delete, returns the account as it was before.
        """

    async def search(self, query: Query, size: int, start: str = "") -> Page[Account]:
        """Return up to `size` matching accounts from `start` on, in an order of the store's choice.

        All pages together hold each account that existed and matched the whole time exactly once.
        """

    async def events(self, user_id: UUID | None, size: int, start: str = "") -> Page[Event]:
        """Return up to `size` events of one account, or of all if `user_id` is None, newest first, from `start` on.

        The list of all events may lag behind by a moment.
        """

    async def sweep(self) -> int:
        """Finish what crashed processes left. Return the number of accounts that needed it."""

    async def ping(self) -> None:
        """Return if the store can answer; raise StoreUnavailable if it can't."""

    async def close(self) -> None:
        """Finish or abandon background work and close all connections."""


class PasswordHasher(Protocol):
    """Hashes passwords, slowly on purpose: every hash and every check takes the configured work factor.

    `hash` and `verify` raise Overloaded when too many callers are waiting. A caller that is cancelled while waiting
    causes no hashing.
    """

    async def hash(self, password: str) -> str:
        """Return a salted hash. The password must already satisfy the rules for new passwords."""

    async def verify(self, password: str, password_hash: str | None, begins: Callable[[], None] = lambda: None) -> bool:
        """Check any text against a hash. None (no such account) gives False, after as much work as a real check.

        Calls `begins` when the wait is over and hashing starts.
        """

    def needs_rehash(self, password_hash: str) -> bool:
        """Return whether the hash was made with a work factor other than the configured one."""


class AccessClaims(NamedTuple):
    """The account and session that an access token identifies."""

    user_id: UUID
    session_id: str


class AccessTokens(Protocol):
    """Issues and verifies access tokens."""

    def issue(self, account: Account, session_id: str, latest: datetime) -> tuple[str, datetime]:
        """Return a token and its expiry (UTC, whole seconds), which is never later than `latest`."""

    def verify(self, token: str) -> AccessClaims:
        """Return the token's account and session. Its other claims, such as roles, must not be trusted.

        Raises TokenExpired, TokenSubjectInvalid, or TokenInvalid for every other defect.
        """


class RefreshClaims(NamedTuple):
    """What a refresh token identifies: a session, and the token's number in that session, counted from 1."""

    user_id: UUID
    session_id: str
    generation: int


class RefreshTokens(Protocol):
    """Issues and verifies refresh tokens. The same claims always give the same token, so no token has to be stored."""

    def issue(self, claims: RefreshClaims) -> str:
        """Return the token."""

    def verify(self, token: str) -> RefreshClaims:
        """Return the token's claims. Raises RefreshTokenInvalid for anything that this service did not issue."""


class PageTokens(Protocol):
    """Signs a store's list positions, so that callers can send them back but not forge them."""

    def issue(self, position: str, scope: str) -> str:
        """Return a token for a position in the list identified by `scope`; empty for an empty position."""

    def verify(self, token: str, scope: str) -> str:
        """Return the position. Raises InvalidRequest for a token that was not issued for this list."""
