"""Password resets: who gets a code, what it does, and what wrong ones cost."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, now
from killrvideo_grpc.domain.changes import SetStatus
from killrvideo_grpc.domain.errors import (
    AccountSuspended,
    InvalidCredentials,
    InvalidResetCode,
    OperatorsOnly,
    SessionEnded,
    TooManyAttempts,
    UserNotFound,
)
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.service.recovery import IssuedCode
from killrvideo_grpc.service.sessions import Login
from killrvideo_grpc.service.throttle import MAX_RESETS, Limits
from tests.support.accounts import a_cause, an_address
from tests.support.use_cases import ORIGIN, UseCases

pytestmark = pytest.mark.anyio

SERVICE, OPERATOR = "service:mail", "cli:tester"
NEW = "new password"
ELSEWHERE = ORIGIN._replace(source="198.51.100.7")


async def issued(use_cases: UseCases, account: Account, *, by_operator: bool = False) -> IssuedCode:
    cause = Cause(OPERATOR if by_operator else SERVICE)
    return await use_cases.reset_codes.issue(account.email, cause, by_operator=by_operator)


async def refused(use_cases: UseCases, code: str) -> None:
    """Assert that a code is wrong, and that no password was hashed for it."""
    hashes = dict(use_cases.store.database.hashes)
    with pytest.raises(InvalidResetCode):
        await use_cases.recovery.reset_password(code, NEW, ORIGIN)
    assert use_cases.store.database.hashes == hashes


def actions(use_cases: UseCases, account: Account) -> list[str]:
    return [str(event.action) for event in use_cases.events(account)]


async def test_a_code_has_the_form_of_the_contract_and_is_stored_as_a_digest(
    use_cases: UseCases, account: Account
) -> None:
    code = await use_cases.reset_codes.issue(f" {account.email.upper()}", Cause(SERVICE))
    user_id, _, secret = code.code.partition(".")
    assert UUID(user_id) == account.user_id
    assert len(secret) == 43  # 256 bits in base64url
    assert code.email == account.email
    assert timedelta(minutes=59) < code.expires_at - now() <= timedelta(hours=1)
    stored = use_cases.store.database.accounts[account.user_id]
    assert stored.reset_code
    assert stored.reset_code.digest == hashlib.sha256(code.code.encode()).hexdigest()
    for text in (repr(code), repr(stored), repr(use_cases.events(account)), str(vars(use_cases.store.database))):
        assert secret not in text
    (event,) = use_cases.events(account)[1:]
    assert (event.action, event.actor, event.before, event.after) == ("password_reset_requested", SERVICE, "", "")


async def test_a_code_sets_a_password_and_opens_the_only_session(
    use_cases: UseCases, account: Account, login: Login
) -> None:
    code = await issued(use_cases, account)
    assert await use_cases.caller(login)  # a request changes nothing yet
    reset = await use_cases.recovery.reset_password(code.code, NEW, ELSEWHERE)
    principal = await use_cases.caller(reset)
    assert principal.account.sessions.keys() == {principal.session_id}
    with pytest.raises(SessionEnded):
        await use_cases.caller(login)
    with pytest.raises(InvalidCredentials):
        await use_cases.log_in(account)
    assert await use_cases.log_in(account, NEW)
    event = use_cases.events(account)[-1]
    assert (event.action, event.actor, event.request_id) == ("password_reset", str(account.user_id), "r-1")


async def test_a_code_works_once(use_cases: UseCases, account: Account) -> None:
    code = await issued(use_cases, account)
    outcomes = await asyncio.gather(
        *(use_cases.recovery.reset_password(code.code, f"{NEW} {n}", ORIGIN) for n in range(16)),
        return_exceptions=True,
    )
    (winner,) = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Login)]
    assert sum(isinstance(outcome, InvalidResetCode) for outcome in outcomes) == 15
    assert await use_cases.log_in(account, f"{NEW} {winner}")
    assert actions(use_cases, account).count("password_reset") == 1
    await refused(use_cases, code.code)


async def test_what_voids_a_code(use_cases: UseCases, account: Account) -> None:
    older = await issued(use_cases, account)
    code = await issued(use_cases, account)
    await refused(use_cases, older.code)
    principal = await use_cases.caller(await use_cases.log_in(account))
    await use_cases.accounts.change_email(principal, "correct horse", an_address(), ORIGIN)
    await refused(use_cases, code.code)
    moved = use_cases.store.database.accounts[account.user_id]
    code = await issued(use_cases, moved)
    await use_cases.accounts.change_password(principal, "correct horse", NEW, ORIGIN)
    await refused(use_cases, code.code)
    code = await issued(use_cases, moved)
    await use_cases.operators.delete(moved.email, "r")
    await refused(use_cases, code.code)


async def test_an_expired_code(use_cases: UseCases, account: Account) -> None:
    code = await issued(use_cases, account)
    stored = use_cases.store.database.accounts[account.user_id].reset_code
    assert stored
    use_cases.change(account, reset_code=replace(stored, expires_at=now()))
    await refused(use_cases, code.code)


async def test_all_wrong_codes_cost_the_same() -> None:
    use_cases = UseCases(Limits(account_and_source=0, source=100, account=0, registrations=0))
    account = await use_cases.register()
    code = (await issued(use_cases, account)).code
    user_id, _, secret = code.partition(".")
    costs = set()
    for wrong in (
        f"{uuid4()}.{secret}",
        f"{user_id}.{secret[::-1]}",
        f"{user_id}.",
        f"{user_id.upper()}.{secret}",
        f"{code}x",
        f"{code}\n",
        user_id,
        "x",
        "\0",
        "x" * 1_000_000,
        f"{user_id}.{'x' * 1_000_000}",
    ):
        use_cases.store.calls.clear()
        await refused(use_cases, wrong)
        costs.add(tuple(use_cases.store.calls))
    assert costs == {("get", "read_attempts", "count_attempt")}
    assert await use_cases.recovery.reset_password(code, NEW, ORIGIN)


async def test_wrong_codes_are_limited_per_source_and_a_right_one_passes() -> None:
    use_cases = UseCases(Limits(account_and_source=0, source=3, account=0, registrations=0))
    account = await use_cases.register()
    code = (await issued(use_cases, account)).code
    for _ in range(3):
        await refused(use_cases, "x")
    for wrong in ("x", f"{account.user_id}.{'x' * 43}"):
        with pytest.raises(TooManyAttempts):
            await use_cases.recovery.reset_password(wrong, NEW, ORIGIN)
    with pytest.raises(InvalidResetCode):
        await use_cases.recovery.reset_password("x", NEW, ELSEWHERE)
    assert await use_cases.recovery.reset_password(code, NEW, ORIGIN)


async def test_a_suspended_account_gets_its_password_but_no_session(use_cases: UseCases, account: Account) -> None:
    code = await issued(use_cases, account)
    await use_cases.store.apply(account.user_id, SetStatus(AccountStatus.SUSPENDED), a_cause(account))
    with pytest.raises(AccountSuspended):
        await use_cases.recovery.reset_password(code.code, NEW, ORIGIN)
    assert use_cases.store.database.accounts[account.user_id].sessions == {}
    await refused(use_cases, code.code)
    await use_cases.store.apply(account.user_id, SetStatus(AccountStatus.ACTIVE), a_cause(account))
    assert await use_cases.log_in(account, NEW)


async def test_services_have_no_power_over_moderators(use_cases: UseCases, account: Account) -> None:
    moderator = await use_cases.register(role=Role.MODERATOR)
    with pytest.raises(OperatorsOnly):
        await issued(use_cases, moderator)
    assert actions(use_cases, moderator) == ["registered", "role_assigned"]
    # Not even with a code from before the account became a moderator's.
    code = await issued(use_cases, account)
    await use_cases.operators.assign_role(account.email, Role.MODERATOR)
    await refused(use_cases, code.code)
    for each in (account, moderator):
        code = await issued(use_cases, each, by_operator=True)
        assert await use_cases.recovery.reset_password(code.code, NEW, ORIGIN)


async def test_an_unknown_address_gets_no_code(use_cases: UseCases) -> None:
    for unknown in (an_address(), "x", "x" * 1000):
        with pytest.raises(UserNotFound):
            await use_cases.reset_codes.issue(unknown, Cause(SERVICE))


async def test_at_most_five_codes_an_hour_are_made_for_an_address(use_cases: UseCases, account: Account) -> None:
    outcomes = await asyncio.gather(*(issued(use_cases, account) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, IssuedCode) for outcome in outcomes) == MAX_RESETS == 5
    for by_operator in (False, True):
        with pytest.raises(TooManyAttempts) as caught:
            await issued(use_cases, account, by_operator=by_operator)
        assert 0 < caught.value.retry_after <= 3600
    assert await issued(use_cases, await use_cases.register())
    # Nor does registering the address again help.
    await use_cases.operators.delete(account.email, "r")
    heir = await use_cases.register(account.email)
    with pytest.raises(TooManyAttempts):
        await issued(use_cases, heir)
    await use_cases.operators.unblock(heir.email)
    assert await issued(use_cases, heir)
