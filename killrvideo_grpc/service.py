"""The use cases of the user service, over ports. Inputs have the shape that the contract asks for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import uuid4

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import (
    AccountSuspended,
    DeadlineExceeded,
    InvalidCredentials,
    NoRolesAssigned,
    RoleRequired,
    StoreUnavailable,
    UnusableStore,
    UserNotFound,
)
from killrvideo_grpc.domain.ports import PasswordHasher, Tokens, UserStore
from killrvideo_grpc.domain.user import MAX_EMAIL_LENGTH, AccountStatus, Credentials, Role, User, now

NOTE_SECONDS = 1.0  # that a good login spends on each thing worth noting


@dataclass(frozen=True, slots=True)
class Login:
    """What a good login gives: the account, a bearer token for it, and when that stops being good (UTC)."""

    user: User
    token: str = field(repr=False)
    expires_at: datetime


class UserService:
    """Registers people, logs them in, and changes their profiles and roles."""

    def __init__(self, store: UserStore, passwords: PasswordHasher, tokens: Tokens) -> None:
        self._store = store
        self._passwords = passwords
        self._tokens = tokens

    def register(self, email: str, password: str, first_name: str, last_name: str) -> User:
        """Makes an account with the role viewer. Raises EmailAlreadyRegistered."""
        user = User(
            user_id=uuid4(),
            email=email.strip(),
            first_name=first_name.strip(),
            last_name=last_name.strip(),
            roles=frozenset({Role.VIEWER}),
            status=AccountStatus.ACTIVE,
            created_date=now(),
        )
        self._store.register(user, self._passwords.hash(password))
        return user

    def login(self, email: str, password: str) -> Login:
        """Trades credentials for a token. Raises InvalidCredentials, after the same work whatever is wrong."""
        credentials = _find_credentials(self._store, email)
        matches = self._passwords.verify(password, credentials.password_hash if credentials else None)
        user = self._store.get_registered(credentials) if credentials and matches else None
        if credentials is None or user is None or user.status is not AccountStatus.ACTIVE:
            raise InvalidCredentials
        user = self._note_login(user, email, password, credentials.password_hash)
        token, expires_at = self._tokens.issue(user)
        return Login(user, token, expires_at)

    def _note_login(self, user: User, email: str, password: str, password_hash: str) -> User:
        at = now()
        if _is_noted(lambda: self._store.record_login(user.user_id, at)):
            user = replace(user, last_login_date=at)
        if self._passwords.needs_rehash(password_hash):
            new = self._passwords.hash(password)
            _is_noted(lambda: self._store.replace_password_hash(email, password_hash, new))
        return user

    def authenticate(self, token: str, role: Role) -> User:
        """Returns the live account that the token was issued for, if it may act as `role`.

        Raises TokenExpired, TokenInvalid, TokenSubjectInvalid, UserNotFound, AccountSuspended, NoRolesAssigned or
        RoleRequired. The roles that count are the account's own, not those in the token.
        """
        user = self._store.get(self._tokens.verify(token))
        if user is None:
            raise UserNotFound
        if user.status is not AccountStatus.ACTIVE:
            raise AccountSuspended
        if not user.roles:
            raise NoRolesAssigned
        if not user.may_act_as(role):
            raise RoleRequired(role)
        return user

    def rename(self, user: User, first_name: str | None, last_name: str | None) -> User:
        """Changes the names that are not None; with none to change, writes nothing."""
        if first_name is None and last_name is None:
            return user
        return self._store.rename(user, _trimmed(first_name), _trimmed(last_name))


class Operations:
    """What operators do from the command line, where no caller is to be checked."""

    def __init__(self, store: UserStore) -> None:
        self._store = store

    def assign_role(self, email: str, role: Role) -> User:
        """Gives a role to the account with this address. Raises UserNotFound."""
        self._store.add_role(self.find(email).user_id, role)
        return self.find(email)

    def revoke_role(self, email: str, role: Role) -> User:
        """Takes a role from the account with this address. Raises UserNotFound."""
        self._store.remove_role(self.find(email).user_id, role)
        return self.find(email)

    def find(self, email: str) -> User:
        """Finds the account with this address, in any spelling. Raises UserNotFound."""
        credentials = _find_credentials(self._store, email)
        user = self._store.get_registered(credentials) if credentials else None
        if user is None:
            raise UserNotFound
        return user


def _find_credentials(store: UserStore, email: str) -> Credentials | None:
    # Anyone may send megabytes here, and normalising text takes time that grows with the square of its length.
    return store.find_credentials(email) if len(email.strip()) <= MAX_EMAIL_LENGTH else None


def _is_noted(write: Callable[[], None]) -> bool:
    """Tries a write that is not worth refusing a good login for, nor making it wait. The store logs why it failed."""
    try:
        with deadline.within(NOTE_SECONDS):
            write()
    except (StoreUnavailable, DeadlineExceeded, UnusableStore):
        return False
    return True


def _trimmed(name: str | None) -> str | None:
    return None if name is None else name.strip()
