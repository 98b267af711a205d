"""The use cases over fakes of the ports, for tests that take milliseconds."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from killrvideo_grpc.domain.account import Account, Lifetimes, Role
from killrvideo_grpc.domain.changes import AssignRole
from killrvideo_grpc.domain.events import Event
from killrvideo_grpc.security.access_keys import access_keys
from killrvideo_grpc.security.access_tokens import JwtAccessTokens
from killrvideo_grpc.security.keys import keyed_digest
from killrvideo_grpc.security.page_tokens import JwtPageTokens
from killrvideo_grpc.security.refresh_tokens import JwtRefreshTokens
from killrvideo_grpc.security.service_tokens import service_digest
from killrvideo_grpc.service.accounts import Accounts
from killrvideo_grpc.service.authentication import AccessRule, Authenticator, ClientInfo, Principal
from killrvideo_grpc.service.moderation import Moderation, Operators
from killrvideo_grpc.service.recovery import Recovery, ResetCodes
from killrvideo_grpc.service.service_authentication import ServiceAuthenticator
from killrvideo_grpc.service.sessions import Login, Sessions
from killrvideo_grpc.service.throttle import Limits, Throttle
from tests.support.accounts import PASSWORD, a_cause, an_address
from tests.support.memory_store import MemoryStore
from tests.support.settings import KEY

ORIGIN = ClientInfo(request_id="r-1", user_agent="test agent", source="192.0.2.1")
NO_LIMITS = Limits(account_and_source=0, source=0, account=0, registrations=0)


def access_tokens(
    *secret_keys: str,
    algorithm: str = "ES256",
    issuer: str = "killrvideo.user.v1",
    audience: str | None = "killrvideo",
) -> JwtAccessTokens:
    """Return access tokens that are valid for half an hour."""
    return JwtAccessTokens(
        access_keys(secret_keys, algorithm),
        algorithm,
        timedelta(minutes=30),
        timedelta(0),
        issuer=issuer,
        audience=audience,
    )


class FakeHasher:
    """Implements `PasswordHasher` with readable hashes. `checks` lists what was checked, None for no account."""

    def __init__(self, cost: int = 1) -> None:
        self.cost = cost
        self.checks: list[str | None] = []

    async def hash(self, password: str) -> str:
        return f"{self.cost}${password}"

    async def verify(
        self, password: str, password_hash: str | None, on_start: Callable[[], None] = lambda: None
    ) -> bool:
        on_start()
        self.checks.append(password_hash)
        return password_hash is not None and password_hash.partition("$")[2] == password

    def needs_rehash(self, password_hash: str) -> bool:
        return password_hash.partition("$")[0] != str(self.cost)


class UseCases:
    """All use cases on one store in memory."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.store = MemoryStore()
        self.hasher = FakeHasher()
        self.access_tokens = access_tokens(KEY)
        self.refresh_tokens = JwtRefreshTokens([KEY])
        throttle = Throttle(self.store, keyed_digest(KEY, "throttle"), limits, max_concurrent=2)
        lifetimes = Lifetimes(timedelta(days=30), timedelta(days=90))
        self.sessions = Sessions(self.store, self.access_tokens, self.refresh_tokens, lifetimes, throttle)
        page_tokens = JwtPageTokens([KEY], "memory")
        self.accounts = Accounts(self.store, self.hasher, self.sessions, throttle, page_tokens)
        self.reset_codes = ResetCodes(self.store, throttle, timedelta(hours=1))
        self.recovery = Recovery(self.store, self.hasher, self.sessions, throttle)
        self.moderation = Moderation(self.store, page_tokens)
        self.operators = Operators(self.store, "cli:tester")
        self.authenticator = Authenticator(
            self.store, self.access_tokens, ServiceAuthenticator(self.store, service_digest)
        )

    async def register(self, email: str | None = None, role: Role | None = None) -> Account:
        """Register an account with PASSWORD and, if given, one more role."""
        account = await self.accounts.register(email or an_address(), PASSWORD, "Ann", "Lee", ORIGIN)
        return await self.store.apply(account.user_id, AssignRole(role), a_cause(account)) if role else account

    async def log_in(self, account: Account, password: str = PASSWORD, origin: ClientInfo = ORIGIN) -> Login:
        """Log in to an account."""
        return await self.accounts.login(account.email, password, origin)

    async def caller(self, login: Login) -> Principal:
        """Return the caller with the access token of a login."""
        principal = await self.authenticator.authenticate(login.token, AccessRule(Role.VIEWER, None))
        assert isinstance(principal, Principal)
        return principal

    def change(self, account: Account, **fields: object) -> None:
        """Change fields of a stored account, past all rules."""
        stored = self.store.database.accounts[account.user_id]
        self.store.database.accounts[account.user_id] = replace(stored, **fields)  # type: ignore[arg-type]

    def events(self, account: Account) -> list[Event]:
        """Return the events of an account, oldest first."""
        return [event for event in self.store.database.events if event.account == account.user_id]
