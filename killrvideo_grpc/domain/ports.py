"""The ports: what the service needs from its adapters. Every AccountStore must pass the suite in `tests/stores`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials
from killrvideo_grpc.domain.changes import Change, Event
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


# A fixed number bounds what the counters take, whatever is counted. It is large, so that two keys rarely share a slot.
SLOTS = 2**20


class AttemptCounters(Protocol):
    """Counts attempts, for all processes that share the database. Both methods can raise StoreUnavailable.

    A slot holds the count of one window, and starts again from zero for a later one. If a slot is already one window
    ahead, because another process has a faster clock, attempts are counted in that window. A slot that is further ahead
    was written by a process whose clock was wrong, and starts again.
    """

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        """Returns the counts, in the same order."""

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        """Adds one to each and returns the new counts. After a lost answer, an attempt may be counted twice."""


class AccountStore(AttemptCounters, Protocol):
    """Stores accounts. Several processes can share one database; each instance belongs to one event loop.

    Every method can raise StoreUnavailable: the database is down, too slow, or refuses the request (the store logs the
    cause). Methods can also be cancelled. In both cases a write has been applied completely or not at all.
    """

    async def register(self, account: Account, password_hash: str, event: Event) -> None:
        """Creates the account and claims the normal form of `account.email` for it. Durable when this returns.

        Raises EmailAlreadyRegistered if another account owns the address. Of several concurrent calls with the same
        address, exactly one succeeds.
        """

    async def find_credentials(self, email: str) -> Credentials | None:
        """Returns the account that owns this address, in any spelling, with its password hash; None if nobody does."""

    async def get_credentials(self, user_id: UUID) -> Credentials | None:
        """Returns an account with its password hash; None if it doesn't exist or was deleted."""

    async def get(self, user_id: UUID) -> Account | None:
        """Returns the current state of an account; None if it doesn't exist or was deleted."""

    async def get_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Account]:
        """Reads up to 100 accounts in one request. Leaves out ids whose account doesn't exist or was deleted."""

    async def apply(self, account: Account, change: Change, event: Event | None = None) -> Account:
        """Applies the change and records its event in one atomic step. Returns the account after the change.

        Records no event if the change has no effect. `account` may be out of date: the change is applied to the stored
        state. Raises UserNotFound if the account has been deleted, LastModerator if the change would leave no active
        moderator, and InvalidCredentials if a ChangePassword replaces a password that is no longer current.
        """

    async def delete(self, account: Account, event: Event, *, force: bool = False) -> None:
        """Deletes an account: ends its sessions, erases names, address and hashes, and frees the address.

        From then on, its id is treated as unknown. Raises UserNotFound if the account has already been deleted,
        InvalidCredentials if its password has changed since `account` was read, and LastModerator if this would leave
        no active moderator and `force` is not set.
        """

    async def search(self, query: Query, size: int, start: str = "") -> Page[Account]:
        """Returns up to `size` matching accounts, in an order of the store's choice, beginning at `start`.

        Following the pages to the end returns each account that existed and matched the whole time exactly once.
        """

    async def events(self, user_id: UUID | None, size: int, start: str = "") -> Page[Event]:
        """Returns up to `size` events of one account, or of all if `user_id` is None, newest first, from `start` on.

        One account's events are always complete. In the list of all events, a new one may be missing for a moment.
        """

    async def sweep(self) -> int:
        """Finishes work that crashed processes left incomplete. Returns the number of accounts that needed it.

        Also removes data that is still left of recently deleted accounts.
        """

    async def ping(self) -> None:
        """Returns if the store can answer; raises StoreUnavailable if it can't."""

    async def close(self) -> None:
        """Finishes or abandons background work and closes connections. The store can't be used afterwards."""


class PasswordHasher(Protocol):
    """Hashes passwords, slowly on purpose: every hash and every check takes the configured work factor.

    `hash` and `verify` raise Overloaded when too many callers are waiting. A caller that is cancelled while waiting
    causes no hashing.
    """

    async def hash(self, password: str) -> str:
        """Returns a salted hash. The password must already satisfy the rules for new passwords."""

    async def verify(self, password: str, password_hash: str | None, begins: Callable[[], None] = lambda: None) -> bool:
        """Checks any text against a hash. None (no such account) gives False, after as much work as a real check.

        Calls `begins` when the wait is over and hashing starts.
        """

    def needs_rehash(self, password_hash: str) -> bool:
        """Returns whether the hash was made with a work factor other than the configured one."""


class AccessClaims(NamedTuple):
    """The account and session that an access token identifies."""

    user_id: UUID
    session_id: str


class AccessTokens(Protocol):
    """Issues and verifies access tokens."""

    def issue(self, account: Account, session_id: str, latest: datetime) -> tuple[str, datetime]:
        """Returns a token and its expiry (UTC, whole seconds), which is never later than `latest`."""

    def verify(self, token: str) -> AccessClaims:
        """Returns the token's account and session. Its other claims, such as roles, must not be trusted.

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
        """Returns the token."""

    def verify(self, token: str) -> RefreshClaims:
        """Returns the token's claims. Raises RefreshTokenInvalid for anything that this service did not issue."""


class PageTokens(Protocol):
    """Signs a store's list positions, so that callers can send them back but not forge them."""

    def issue(self, position: str, scope: str) -> str:
        """Returns a token for a position in the list identified by `scope`; empty for an empty position."""

    def verify(self, token: str, scope: str) -> str:
        """Returns the position. Raises InvalidRequest for a token that was not issued for this list."""
