"""What the service needs from the outside world. `tests/stores` holds the suite that every AccountStore passes."""

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
    """Part of a list. `next` is where the store goes on, in a form of its own; empty when this is the end.

    A page can be shorter than was asked for, even empty, without being the last one.
    """

    items: Sequence[T]
    next: str = ""


class AttemptCounter(NamedTuple):
    """What to count in: one of SLOTS slots, and the window of time, by its number, that the count is for."""

    slot: int
    window: int


# So that what counters take is bounded, whatever there is to count. So many that hardly two in use share one.
SLOTS = 2**20


class AttemptCounters(Protocol):
    """Counts attempts, for all processes that share the database. Both methods can raise StoreUnavailable.

    A slot holds the count of one window. It begins anew with the first attempt that is counted for a later one. If the
    clock of another process is ahead, so that the slot is one window ahead already, attempts are counted in that one;
    a slot that is further ahead was left by a clock that was wrong, and begins anew.
    """

    async def read_attempts(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        """Returns the counts, in the same order."""

    async def count_attempt(self, counters: Sequence[AttemptCounter]) -> Sequence[int]:
        """Adds one to each and returns the counts afterwards. After a lost answer, one may be counted twice."""


class AccountStore(AttemptCounters, Protocol):
    """Keeps accounts. Several processes can share one database; within a process, one object serves one event loop.

    Every method can raise StoreUnavailable: the database is down, too slow, or refuses (the store logs the cause). A
    method can also be cancelled. After either, a write has happened completely or not at all.
    """

    async def register(self, account: Account, password_hash: str, event: Event) -> None:
        """Creates the account and claims the normal form of `account.email` for it. Durable when this returns.

        Raises EmailAlreadyRegistered when another account owns the address. Of concurrent calls with one address,
        exactly one succeeds.
        """

    async def find_credentials(self, email: str) -> Credentials | None:
        """Returns the account that owns this address, in any spelling, with its hash; None if nobody owns it."""

    async def get_credentials(self, user_id: UUID) -> Credentials | None:
        """Returns an account with its hash; None if there is no such account, or it was deleted."""

    async def get(self, user_id: UUID) -> Account | None:
        """Returns an account as it is now; None if there is no such account, or it was deleted."""

    async def get_many(self, user_ids: Collection[UUID]) -> Mapping[UUID, Account]:
        """Returns up to 100 accounts by id, in one request. Missing and deleted ones are left out."""

    async def apply(self, account: Account, change: Change, event: Event | None = None) -> Account:
        """Applies the change and its event in one atomic step, and returns the account as it is afterwards.

        Records no event when the change has no effect.

        `account` was read a moment ago; the change applies to what it has become since. Raises UserNotFound when it
        has been deleted, LastModerator when the change would leave no active moderator, and InvalidCredentials when a
        new password is to replace one that is no longer the current one.
        """

    async def delete(self, account: Account, event: Event, *, force: bool = False) -> None:
        """Ends all sessions, erases names, e-mail and hashes, frees the address, and makes the id missing for ever.

        Raises UserNotFound when the account has been deleted already, InvalidCredentials when its password has changed
        since it was read, and LastModerator unless `force` is set.
        """

    async def search(self, query: Query, size: int, start: str = "") -> Page[Account]:
        """Returns up to `size` accounts that match, in an order of the store's own, from `start` on.

        Following the pages to the end gives every account that was there all the time exactly once.
        """

    async def events(self, user_id: UUID | None, size: int, start: str = "") -> Page[Event]:
        """Returns up to `size` events of an account, or of all accounts, newest first, from `start` on.

        The events of an account are complete; among those of all accounts, one may be missing for a moment.
        """

    async def sweep(self) -> int:
        """Finishes what crashed processes left half done, and returns how many accounts that were.

        Also makes sure that nothing is left of accounts that were deleted a short time ago.
        """

    async def ping(self) -> None:
        """Returns when the store can answer; raises StoreUnavailable when it can't."""

    async def close(self) -> None:
        """Finishes or abandons work in the background and releases connections. Call no other method afterwards."""


class PasswordHasher(Protocol):
    """Hashes passwords, slowly on purpose: each check or hash costs the configured work.

    Both methods raise Overloaded when too many callers wait. When a waiting caller is cancelled, nothing is hashed. One
    that is cancelled later doesn't learn the result.
    """

    async def hash(self, password: str) -> str:
        """Returns a salted hash of a password that keeps the rules for new ones."""

    async def verify(self, password: str, password_hash: str | None, begins: Callable[[], None] = lambda: None) -> bool:
        """Checks any text against a hash. None stands for an unknown account: False, at the same cost as a check.

        Calls `begins` when the wait is over and the hashing begins.
        """

    def needs_rehash(self, password_hash: str) -> bool:
        """Says whether the hash was made at another cost than the configured one."""


class AccessClaims(NamedTuple):
    """Whom an access token names: an account and one of its sessions."""

    user_id: UUID
    session_id: str


class AccessTokens(Protocol):
    """Issues and verifies access tokens."""

    def issue(self, account: Account, session_id: str, latest: datetime) -> tuple[str, datetime]:
        """Returns a token for a session, and when it expires (UTC, whole seconds): no later than `latest`."""

    def verify(self, token: str) -> AccessClaims:
        """Returns whom the token names. Its other claims, roles included, must not be trusted.

        Raises TokenExpired, TokenSubjectInvalid, or TokenInvalid for everything else that can be wrong.
        """


class RefreshClaims(NamedTuple):
    """What a refresh token names: the `generation`-th refresh token of a session."""

    user_id: UUID
    session_id: str
    generation: int


class RefreshTokens(Protocol):
    """Issues and verifies refresh tokens. Equal claims give equal tokens, so none has to be stored."""

    def issue(self, claims: RefreshClaims) -> str:
        """Returns the token."""

    def verify(self, token: str) -> RefreshClaims:
        """Returns what the token names. Raises RefreshTokenInvalid for anything that this service did not issue."""


class PageTokens(Protocol):
    """Turns a store's positions into tokens that callers can hold but not make."""

    def issue(self, position: str, scope: str) -> str:
        """Returns the token of a position in the list that `scope` names; empty for an empty position."""

    def verify(self, token: str, scope: str) -> str:
        """Returns the position. Raises InvalidRequest for anything that was not issued for this list."""
