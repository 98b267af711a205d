"""What the service asks of the world around it. `tests/stores` holds the suite that every UserStore passes."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from killrvideo_grpc.domain.user import Credentials, Role, User


class UserStore(Protocol):
    """Keeps accounts. One object serves all threads of a process, and several processes serve one database.

    Every method can raise StoreUnavailable (the database is away, slow or refuses; the cause is in the log) and
    DeadlineExceeded (the call's time was up first, see `domain/deadline.py`). After either, a write may have happened
    or not, but never in part: an account exists and can log in, or it does not exist.
    """

    def register(self, user: User, password_hash: str) -> None:
        """Makes the account and claims the normal form of `user.email` for it; it is durable when this returns.

        Raises EmailAlreadyRegistered when another account has the address, however many ask for it at once.
        """

    def find_credentials(self, email: str) -> Credentials | None:
        """Finds what a login with this address is checked against; None: no account has it. Takes any spelling."""

    def get(self, user_id: UUID) -> User | None:
        """Reads an account as it is now; None: there is none."""

    def get_registered(self, credentials: Credentials) -> User | None:
        """Reads the account that the credentials belong to as it is now, and first mends what a crash in `register`
        may have left undone; None: there is none.
        """

    def record_login(self, user_id: UUID, at: datetime) -> None:
        """Sets the date of the last login of an account that was just read."""

    def replace_password_hash(self, email: str, old: str, new: str) -> None:
        """Puts `new` in the place of the hash `old`, if that is still the hash of an account."""

    def rename(self, user: User, first_name: str | None, last_name: str | None) -> User:
        """Writes the names that are not None, and returns the account with them. `user` was just read.

        Raises UserNotFound when the account is gone. Makes no account, ever.
        """

    def add_role(self, user_id: UUID, role: Role) -> None:
        """Gives a role to an account that exists. Does nothing where it has the role."""

    def remove_role(self, user_id: UUID, role: Role) -> None:
        """Takes a role from an account that exists. Does nothing where it lacks the role."""

    def ping(self) -> None:
        """Returns when the store can answer; raises StoreUnavailable when not."""

    def close(self) -> None:
        """Gives back what the store holds. No other method is called after it."""


class PasswordHasher(Protocol):
    """Hashes passwords, slowly on purpose: one check or hash costs the configured work."""

    def hash(self, password: str) -> str:
        """Returns a salted hash of a password that keeps the rules for new ones."""

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Checks any text against a hash; None stands for "no such account". Costs the configured work when False."""

    def needs_rehash(self, password_hash: str) -> bool:
        """Says whether the hash was made at another cost than the configured one."""


class Tokens(Protocol):
    """Makes the tokens that logins answer with, and knows them again."""

    def issue(self, user: User) -> tuple[str, datetime]:
        """Returns a token for the account, and when it stops being good (UTC, whole seconds)."""

    def verify(self, token: str) -> UUID:
        """Returns the user id that the token was issued for. What else it says is not to be trusted.

        Raises TokenExpired, TokenSubjectInvalid, or TokenInvalid for everything else that can be wrong.
        """
