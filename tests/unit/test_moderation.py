"""Moderation by moderators and operators."""

from uuid import UUID

import pytest

from killrvideo_grpc.domain.account import Account, AccountStatus, Role
from killrvideo_grpc.domain.errors import InvalidRequest, LastModerator, SelfModification, SessionEnded, UserNotFound
from killrvideo_grpc.service.authentication import Principal
from killrvideo_grpc.service.sessions import Login
from tests.support.accounts import an_address
from tests.support.use_cases import ORIGIN, UseCases

pytestmark = pytest.mark.anyio


@pytest.fixture
async def moderator(use_cases: UseCases) -> Principal:
    account = await use_cases.register(role=Role.MODERATOR)
    return await use_cases.caller(await use_cases.log_in(account))


async def test_a_change_is_recorded_with_its_reason_once(
    use_cases: UseCases, moderator: Principal, account: Account
) -> None:
    work = use_cases.moderation
    for _ in range(2):
        changed = await work.assign_role(moderator, account.user_id, Role.CREATOR, "  good work\n", ORIGIN)
        assert changed.roles == {Role.VIEWER, Role.CREATOR}
    for _ in range(2):
        changed = await work.revoke_role(moderator, account.user_id, Role.VIEWER, "r", ORIGIN)
        assert changed.roles == {Role.CREATOR}
    for _ in range(2):
        changed = await work.suspend(moderator, account.user_id, "r", ORIGIN)
        assert changed.status is AccountStatus.SUSPENDED
    for _ in range(2):
        changed = await work.reinstate(moderator, account.user_id, "r", ORIGIN)
        assert changed.status is AccountStatus.ACTIVE
    assert await use_cases.store.get(account.user_id) == changed
    _, first, *others = use_cases.events(account)
    assert (first.actor, first.reason, first.request_id) == (str(moderator.account.user_id), "good work", "r-1")
    assert [event.action for event in (first, *others)] == ["role_assigned", "role_revoked", "suspended", "reinstated"]


async def test_all_sessions_of_an_account_end(
    use_cases: UseCases, moderator: Principal, account: Account, login: Login
) -> None:
    other = await use_cases.log_in(account)
    for _ in range(2):  # the second time, there are none
        await use_cases.moderation.end_sessions(moderator, account.user_id, " stolen ", ORIGIN)
    for each in (login, other):
        with pytest.raises(SessionEnded):
            await use_cases.caller(each)
    (event,) = use_cases.events(account)[1:]
    assert (event.action, event.reason, event.actor) == ("sessions_ended", "stolen", str(moderator.account.user_id))
    assert len(event.before.split(",")) == 2
    await use_cases.log_in(account)
    await use_cases.moderation.end_sessions(moderator, moderator.account.user_id, "mine too", ORIGIN)
    with pytest.raises(UserNotFound):
        await use_cases.moderation.end_sessions(moderator, UUID(int=1), "r", ORIGIN)


async def test_moderators_act_on_others_only(use_cases: UseCases, moderator: Principal) -> None:
    await use_cases.register(role=Role.MODERATOR)
    user_id, work = moderator.account.user_id, use_cases.moderation
    for call, subject in (
        (work.revoke_role(moderator, user_id, Role.MODERATOR, "r", ORIGIN), "role"),
        (work.suspend(moderator, user_id, "r", ORIGIN), "status"),
        (work.reinstate(moderator, user_id, "r", ORIGIN), "status"),
    ):
        with pytest.raises(SelfModification) as caught:
            await call
        assert caught.value.subject == subject
    await work.assign_role(moderator, user_id, Role.CREATOR, "r", ORIGIN)
    changed = await work.revoke_role(moderator, user_id, Role.CREATOR, "r", ORIGIN)
    assert changed.roles == {Role.VIEWER, Role.MODERATOR}


async def test_an_unknown_account_is_not_found(use_cases: UseCases, moderator: Principal) -> None:
    for call in (
        use_cases.moderation.assign_role(moderator, UUID(int=1), Role.CREATOR, "r", ORIGIN),
        use_cases.moderation.suspend(moderator, UUID(int=1), "r", ORIGIN),
        use_cases.operators.assign_role(an_address(), Role.CREATOR),
    ):
        with pytest.raises(UserNotFound):
            await call


async def test_page_tokens_continue_the_list_that_issued_them(
    use_cases: UseCases, moderator: Principal, account: Account
) -> None:
    found, token = await use_cases.moderation.events(None, 2, "")
    rest, last = await use_cases.moderation.events(None, 0, token)
    assert (len(found), len(rest), last) == (2, 1, "")
    assert {event.account for event in [*found, *rest]} == {account.user_id, moderator.account.user_id}
    for user_id, wrong in ((account.user_id, token), (None, token[1:])):
        with pytest.raises(InvalidRequest):
            await use_cases.moderation.events(user_id, 2, wrong)


async def test_operators_find_accounts_by_address_and_may_insist(use_cases: UseCases, account: Account) -> None:
    spelling = f" {account.email.upper()}"
    assert await use_cases.operators.find(spelling) == account
    assert Role.MODERATOR in (await use_cases.operators.assign_role(spelling, Role.MODERATOR)).roles
    with pytest.raises(LastModerator):
        await use_cases.operators.revoke_role(spelling, Role.MODERATOR)
    changed = await use_cases.operators.revoke_role(spelling, Role.MODERATOR, force=True)
    assert changed.roles == {Role.VIEWER}
    assert {event.actor for event in use_cases.events(account)[1:]} == {"cli:tester"}
    with pytest.raises(UserNotFound):
        await use_cases.operators.find("x" * 255)


@pytest.mark.parametrize("is_suspended", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
async def test_operators_delete_without_a_password(
    use_cases: UseCases, account: Account, login: Login, is_suspended: bool, by_id: bool
) -> None:
    if is_suspended:
        use_cases.change(account, status=AccountStatus.SUSPENDED)
    named = f" {str(account.user_id).upper()}" if by_id else account.email.upper()
    await use_cases.operators.delete(named, " erasure request\n")
    with pytest.raises(UserNotFound):
        await use_cases.operators.delete(named, "again")
    assert await use_cases.store.get(account.user_id) is None
    event = use_cases.events(account)[-1]
    assert (event.action, event.actor, event.reason) == ("deleted", "cli:tester", "erasure request")
    assert await use_cases.register(account.email)


async def test_operators_delete_the_last_moderator_only_if_they_insist(use_cases: UseCases) -> None:
    account = await use_cases.register(role=Role.MODERATOR)
    with pytest.raises(LastModerator):
        await use_cases.operators.delete(account.email, "r")
    await use_cases.operators.delete(account.email, "r", force=True)
    assert await use_cases.store.get(account.user_id) is None
