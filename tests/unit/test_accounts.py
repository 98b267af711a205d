"""Registration, login, and owners' changes."""

from dataclasses import replace
from uuid import uuid4

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.changes import Delete
from killrvideo_grpc.domain.errors import (
    EmailAlreadyRegistered,
    InvalidCredentials,
    InvalidRequest,
    LastModerator,
    Overloaded,
    RefreshTokenInvalid,
    SessionEnded,
    StoreUnavailable,
    TooManyAttempts,
    UserNotFound,
)
from killrvideo_grpc.security.page_tokens import JwtPageTokens
from killrvideo_grpc.service.accounts import BatchResult
from killrvideo_grpc.service.sessions import Login
from killrvideo_grpc.service.throttle import Limits
from tests.support.accounts import PASSWORD, a_cause, an_address
from tests.support.concurrent_changes import SPOILS_LOGIN, Step, new_password
from tests.support.settings import KEY
from tests.support.use_cases import NO_LIMITS, ORIGIN, UseCases

pytestmark = pytest.mark.anyio

NEW = "another password"
ELSEWHERE = ORIGIN._replace(source="198.51.100.7")


async def test_a_new_account_is_an_active_viewer(use_cases: UseCases) -> None:
    address = an_address()
    account = await use_cases.accounts.register(f" {address.upper()}\n", PASSWORD, " Ann ", "\tLee", ORIGIN)
    assert (account.email, account.first_name, account.last_name) == (address.upper(), "Ann", "Lee")
    assert account.roles == {Role.VIEWER}
    assert account.status is AccountStatus.ACTIVE
    assert await use_cases.store.get(account.user_id) == account
    (event,) = use_cases.events(account)
    assert (event.action, event.actor, event.request_id) == ("registered", str(account.user_id), "r-1")
    with pytest.raises(EmailAlreadyRegistered):
        await use_cases.register(address)


async def test_a_login_opens_a_session(use_cases: UseCases, account: Account) -> None:
    login = await use_cases.accounts.login(f"\n{account.email.upper()} ", PASSWORD, ORIGIN)
    caller = await use_cases.caller(login)
    assert caller.account == login.account
    session = login.account.sessions[caller.session_id]
    assert (session.generation, session.user_agent) == (1, "test agent")
    assert session.created_date == session.refreshed_date == login.account.last_login_date


@pytest.mark.parametrize("case", ["unknown", "wrong password", "suspended", "too long", "no address"])
async def test_bad_logins_are_checked_alike(use_cases: UseCases, account: Account, case: str) -> None:
    email = {"unknown": an_address(), "too long": "x" * 255, "no address": " "}.get(case, account.email)
    if case == "suspended":
        use_cases.change(account, status=AccountStatus.SUSPENDED)
    with pytest.raises(InvalidCredentials):
        await use_cases.accounts.login(email, "wrong" if case == "wrong password" else PASSWORD, ORIGIN)
    assert len(use_cases.hasher.checks) == 1
    assert use_cases.store.database.accounts[account.user_id].sessions == {}


@pytest.mark.parametrize("step", SPOILS_LOGIN)
async def test_what_spoils_a_login_under_way(use_cases: UseCases, account: Account, step: Step) -> None:
    use_cases.store.interference = lambda: step(use_cases.store, account)
    with pytest.raises(InvalidCredentials):
        await use_cases.log_in(account)


async def test_a_login_renews_a_hash_of_another_cost(use_cases: UseCases, account: Account) -> None:
    use_cases.hasher.cost = 2
    await use_cases.log_in(account)
    assert use_cases.store.database.hashes[account.user_id] == f"2${PASSWORD}"


@pytest.mark.parametrize("error", [StoreUnavailable, Overloaded, UserNotFound, TimeoutError])
async def test_a_login_succeeds_though_its_hash_cannot_be_renewed(
    use_cases: UseCases, account: Account, error: type[Exception]
) -> None:
    async def fail() -> None:
        raise error

    async def fail_next() -> None:
        use_cases.store.interference = fail

    use_cases.store.interference = fail_next
    use_cases.hasher.cost = 2
    login = await use_cases.log_in(account)
    assert await use_cases.caller(login)
    assert use_cases.store.database.hashes[account.user_id] == f"1${PASSWORD}"


async def test_names_that_are_given_are_changed(use_cases: UseCases, account: Account) -> None:
    renamed = await use_cases.accounts.rename(account, " Bea ", None, ORIGIN)
    assert renamed == replace(account, first_name="Bea")
    renamed = await use_cases.accounts.rename(account, None, "Ray", ORIGIN)
    assert (renamed.first_name, renamed.last_name) == ("Bea", "Ray")
    assert await use_cases.store.get(account.user_id) == renamed


async def test_an_empty_rename_asks_no_store(use_cases: UseCases, account: Account) -> None:
    await use_cases.store.apply(account.user_id, Delete(account.credential_id), a_cause(account))
    assert await use_cases.accounts.rename(account, None, None, ORIGIN) == account


async def test_a_new_password_ends_all_sessions_but_its_own(use_cases: UseCases, account: Account) -> None:
    old = [await use_cases.log_in(account) for _ in range(2)]
    changed = await use_cases.accounts.change_password(await use_cases.caller(old[0]), PASSWORD, NEW, ORIGIN)
    caller = await use_cases.caller(changed)
    assert caller.account.sessions.keys() == {caller.session_id}
    for login in old:
        with pytest.raises(SessionEnded):
            await use_cases.caller(login)
        with pytest.raises(RefreshTokenInvalid):
            await use_cases.sessions.refresh(login.refresh_token, ORIGIN)
    with pytest.raises(InvalidCredentials):
        await use_cases.log_in(account)
    assert await use_cases.log_in(account, NEW)


async def test_a_new_password_needs_the_current_one_and_differs(
    use_cases: UseCases, account: Account, login: Login
) -> None:
    caller = await use_cases.caller(login)
    with pytest.raises(InvalidCredentials):
        await use_cases.accounts.change_password(caller, "wrong", NEW, ORIGIN)
    with pytest.raises(InvalidRequest) as caught:
        await use_cases.accounts.change_password(caller, PASSWORD, PASSWORD, ORIGIN)
    assert [violation.field for violation in caught.value.violations] == ["newPassword"]
    assert await use_cases.log_in(account)


async def test_a_password_changed_meanwhile_spoils_the_next_change(
    use_cases: UseCases, account: Account, login: Login
) -> None:
    caller = await use_cases.caller(login)
    use_cases.store.interference = lambda: new_password(use_cases.store, account)
    with pytest.raises(InvalidCredentials):
        await use_cases.accounts.change_password(caller, PASSWORD, NEW, ORIGIN)


async def test_a_deleted_account_is_gone(use_cases: UseCases, account: Account, login: Login) -> None:
    caller = await use_cases.caller(login)
    with pytest.raises(InvalidCredentials):
        await use_cases.accounts.delete(caller, "wrong", ORIGIN)
    await use_cases.accounts.delete(caller, PASSWORD, ORIGIN)
    with pytest.raises(UserNotFound):
        await use_cases.accounts.get(account.user_id)
    with pytest.raises(UserNotFound):
        await use_cases.accounts.delete(caller, PASSWORD, ORIGIN)
    with pytest.raises(InvalidCredentials):
        await use_cases.log_in(account)
    with pytest.raises(RefreshTokenInvalid):
        await use_cases.sessions.refresh(login.refresh_token, ORIGIN)
    assert [event.action for event in use_cases.events(account)] == ["registered", "deleted"]


async def test_a_new_address_replaces_the_old_one(use_cases: UseCases, account: Account, login: Login) -> None:
    caller, address = await use_cases.caller(login), an_address()
    with pytest.raises(InvalidCredentials):
        await use_cases.accounts.change_email(caller, "wrong", address, ORIGIN)
    changed = await use_cases.accounts.change_email(caller, PASSWORD, f" {address.upper()}\n", ORIGIN)
    assert changed.email == address.upper()
    assert (await use_cases.caller(login)).account == changed  # sessions go on
    with pytest.raises(InvalidCredentials):
        await use_cases.log_in(account)
    assert await use_cases.accounts.login(address, PASSWORD, ORIGIN)
    heir = await use_cases.register(account.email)
    with pytest.raises(EmailAlreadyRegistered):
        await use_cases.accounts.change_email(caller, PASSWORD, heir.email.upper(), ORIGIN)
    assert [event.action for event in use_cases.events(account)] == ["registered", "email_changed"]
    assert address not in repr(use_cases.events(account)).lower()


async def test_another_spelling_of_the_address_is_no_other_address(
    use_cases: UseCases, account: Account, login: Login
) -> None:
    caller, spelling = await use_cases.caller(login), account.email.upper()
    for _ in range(2):
        changed = await use_cases.accounts.change_email(caller, PASSWORD, spelling, ORIGIN)
        assert changed.email == spelling
    assert await use_cases.log_in(account)
    assert [event.action for event in use_cases.events(account)] == ["registered", "email_changed"]


async def test_the_last_moderator_is_not_deleted(use_cases: UseCases) -> None:
    moderator = await use_cases.register(role=Role.MODERATOR)
    caller = await use_cases.caller(await use_cases.log_in(moderator))
    with pytest.raises(LastModerator):
        await use_cases.accounts.delete(caller, PASSWORD, ORIGIN)
    await use_cases.register(role=Role.MODERATOR)
    await use_cases.accounts.delete(caller, PASSWORD, ORIGIN)


async def test_many_accounts_come_in_the_order_of_the_request_once(use_cases: UseCases) -> None:
    first, second = [await use_cases.register() for _ in range(2)]
    unknown = uuid4()
    wanted = [second.user_id, unknown, first.user_id, second.user_id, unknown]
    assert await use_cases.accounts.get_many(wanted) == BatchResult([second, first], [unknown])


def test_page_tokens_of_a_fallback_are_accepted() -> None:
    old, both = JwtPageTokens([KEY], "sqlite"), JwtPageTokens([KEY[::-1], KEY], "sqlite")
    assert both.verify(old.issue("p", "list"), "list") == "p"
    assert both.verify(both.issue("p", "list"), "list") == "p"
    for tokens, token, scope in ((both, old.issue("p", "list"), "another"), (old, both.issue("p", "list"), "list")):
        with pytest.raises(InvalidRequest):
            tokens.verify(token, scope)


def test_page_tokens_of_another_store_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        JwtPageTokens([KEY], "astra").verify(JwtPageTokens([KEY], "sqlite").issue("p", "list"), "list")


async def test_page_tokens_continue_the_search_that_issued_them(use_cases: UseCases) -> None:
    registered = {(await use_cases.register()).user_id for _ in range(5)}
    page, token = await use_cases.accounts.search("ann", 2, "")
    rest, last = await use_cases.accounts.search(" ANN ", 0, token)
    assert {account.user_id for account in [*page, *rest]} == registered
    assert (len(page), len(rest), last) == (2, 3, "")
    _, everybody = await use_cases.accounts.search("", 2, "")
    for query, wrong in (("an", token), ("ann", token[:-1]), ("ann", "x"), ("\u0301", everybody), ("@", everybody)):
        with pytest.raises(InvalidRequest):
            await use_cases.accounts.search(query, 2, wrong)


async def failures(use_cases: UseCases, email: str, count: int) -> None:
    for _ in range(count):
        with pytest.raises(InvalidCredentials):
            await use_cases.accounts.login(email, "wrong", ORIGIN)


async def test_failed_logins_are_limited_but_not_where_the_owner_logs_in() -> None:
    use_cases = UseCases(replace(NO_LIMITS, account_and_source=3, account=5))
    account = await use_cases.accounts.register(an_address(), PASSWORD, "Ann", "Lee", ELSEWHERE)
    await failures(use_cases, account.email, 3)
    checks = len(use_cases.hasher.checks)
    with pytest.raises(TooManyAttempts):
        await use_cases.log_in(account)
    assert len(use_cases.hasher.checks) == checks
    # The spelling of the address makes no difference.
    with pytest.raises(TooManyAttempts):
        await use_cases.accounts.login(f" {account.email.upper()}", PASSWORD, ORIGIN)
    assert await use_cases.log_in(account, origin=ELSEWHERE)


async def test_wrong_passwords_of_a_caller_are_limited_too() -> None:
    use_cases = UseCases(replace(NO_LIMITS, account_and_source=3))
    account = await use_cases.register()
    caller = await use_cases.caller(await use_cases.log_in(account))
    for _ in range(3):
        with pytest.raises(InvalidCredentials):
            await use_cases.accounts.delete(caller, "wrong", ORIGIN)
    with pytest.raises(TooManyAttempts):
        await use_cases.accounts.change_password(caller, PASSWORD, NEW, ORIGIN)
    with pytest.raises(TooManyAttempts):
        await use_cases.accounts.change_email(caller, PASSWORD, an_address(), ORIGIN)
    with pytest.raises(TooManyAttempts):
        await use_cases.log_in(account)


async def test_registrations_from_a_source_are_limited() -> None:
    use_cases = UseCases(Limits(account_and_source=0, source=0, account=0, registrations=2))
    for _ in range(2):
        await use_cases.register()
    with pytest.raises(TooManyAttempts):
        await use_cases.register()
    await use_cases.accounts.register(an_address(), PASSWORD, "Ann", "Lee", ELSEWHERE)


async def test_taken_addresses_are_not_found_out_by_changing_to_them() -> None:
    use_cases = UseCases(Limits(account_and_source=0, source=0, account=0, registrations=5))
    account, *others = [await use_cases.register() for _ in range(3)]
    caller = await use_cases.caller(await use_cases.log_in(account))
    for other in others:
        with pytest.raises(EmailAlreadyRegistered):
            await use_cases.accounts.change_email(caller, PASSWORD, other.email, ORIGIN)
    for address in (others[0].email, an_address()):
        with pytest.raises(TooManyAttempts):
            await use_cases.accounts.change_email(caller, PASSWORD, address, ORIGIN)


async def test_an_unblocked_account_can_log_in_again() -> None:
    use_cases = UseCases(replace(NO_LIMITS, account_and_source=3, account=5))
    account = await use_cases.accounts.register(an_address(), PASSWORD, "Ann", "Lee", ELSEWHERE)
    login = await use_cases.log_in(account, origin=ELSEWHERE)
    await failures(use_cases, account.email, 3)
    await use_cases.operators.unblock(account.email)
    caller = await use_cases.caller(login)
    # A caller's account has just been read, so nothing is remembered of before.
    await use_cases.accounts.change_password(caller, PASSWORD, NEW, ORIGIN)
    event = use_cases.events(account)[1]
    assert (event.action, event.actor, event.before, event.after) == ("unblocked", "cli:tester", "", "")
