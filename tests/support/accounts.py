"""Accounts to test with."""

from uuid import uuid4

from killrvideo_grpc.domain.user import AccountStatus, Role, User, now

PASSWORD = "correct horse"


def an_address() -> str:
    """Returns an address that no other test uses."""
    return f"{uuid4().hex}@example.org"


def a_user(email: str | None = None, roles: frozenset[Role] = frozenset({Role.VIEWER})) -> User:
    """Returns an account as Register would make it."""
    return User(
        user_id=uuid4(),
        email=email or an_address(),
        first_name="Ann",
        last_name="Lee",
        roles=roles,
        status=AccountStatus.ACTIVE,
        created_date=now(),
    )
