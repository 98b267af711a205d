"""The transitions, on any account that a store may hold."""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, product
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as given_strategies
from hypothesis import settings
from hypothesis import strategies as st

from killrvideo_grpc.domain.account import Account, AccountStatus, Lifetimes, ResetCode, Role, Session
from killrvideo_grpc.domain.changes import (
    AssignRole,
    Change,
    ChangeEmail,
    ChangePassword,
    Delete,
    EndSessions,
    OpenSession,
    RefreshSession,
    RehashPassword,
    Rename,
    RequestReset,
    ResetPassword,
    RevokeRole,
    SetStatus,
    Transition,
    Unblock,
)
from killrvideo_grpc.domain.errors import (
    AccountSuspended,
    InvalidCredentials,
    InvalidResetCode,
    OperatorsOnly,
    RefreshTokenExpired,
    RefreshTokenInvalid,
    ServiceError,
)
from killrvideo_grpc.domain.events import Action, Cause
from tests.support.accounts import an_account

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
LIFETIMES = Lifetimes(idle=timedelta(days=30), total=timedelta(days=90))
CAUSE = Cause(actor="tester", reason="because", request_id="r-1", at=AT, event_id=UUID(int=1))
# As the contract states them.
MAX_SESSIONS, MAX_SOURCES, SOURCE_KNOWN_FOR, REUSE_INTERVAL = 20, 20, timedelta(days=30), timedelta(minutes=10)
CURRENT, STALE, NEW = "current", "stale", "new"  # ids of passwords
ONE_MS = timedelta(milliseconds=1)

# Small pools, so that what changes name often exists. Few draws, since they take most of the time.
session_ids = st.sampled_from("abcde")
sources = st.sampled_from("stuv")
roles = st.sampled_from(Role)
ROLE_SETS = [frozenset(held) for count in range(4) for held in combinations(Role, count)]
role_sets = st.sampled_from(ROLE_SETS)
statuses = st.sampled_from(AccountStatus)
AGES = [timedelta(0), REUSE_INTERVAL, REUSE_INTERVAL + ONE_MS, *map(timedelta, (1, 29, 30, 60, 90))]
ages = st.sampled_from(AGES)
numbers = st.sampled_from([1, 2, 3, 4])
EXPIRIES = [AT, AT + ONE_MS, AT + timedelta(hours=1)]
reset_codes = st.sampled_from([ResetCode(*parts) for parts in product(["d1", "d2"], EXPIRIES, [False, True])])
addresses = st.sampled_from(["ann@example.org", "Ann@example.org", "bea@example.org"])


def given(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with 30 examples, which meet all branches."""
    return lambda test: settings(max_examples=30)(given_strategies(*strategies)(test))


def session(session_id: str, generation: int, unused: timedelta, older: timedelta) -> Session:
    return Session(session_id, generation, AT - unused - older, AT - unused, "agent")


SESSIONS = [session(*parts) for parts in product("abcde", [1, 2, 3, 4], AGES, AGES)]


def accounts(more_sessions: int = 0, more_sources: int = 0) -> st.SearchStrategy[Account]:
    """Make accounts. Some have many sessions and sources besides those in the pools."""
    sessions = st.lists(st.sampled_from(SESSIONS), max_size=4)
    others = st.integers(0, more_sessions).map(
        lambda count: [session(str(n), 1, ONE_MS * n, ONE_MS) for n in range(count)]
    )
    known = st.dictionaries(sources, ages, max_size=3)
    other_sources = st.integers(0, more_sources).map(lambda count: {str(n): ONE_MS * n for n in range(count)})
    codes = st.none() | reset_codes
    return st.builds(account_of, role_sets, statuses, sessions, others, known, other_sources, codes, addresses)


def account_of(
    roles: frozenset[Role],
    status: AccountStatus,
    sessions: list[Session],
    others: list[Session],
    sources: dict[str, timedelta],
    other_sources: dict[str, timedelta],
    reset_code: ResetCode | None,
    email: str,
) -> Account:
    return an_account(
        user_id=UUID(int=7),
        email=email,
        reset_code=reset_code,
        roles=roles,
        status=status,
        created_date=AT - timedelta(days=400),
        credential_id=CURRENT,
        sessions={each.session_id: each for each in [*others, *sessions]},
        sources={source: AT - age for source, age in (other_sources | sources).items()},
    )


new_sessions = st.just(Session("new", 1, AT, AT, "agent"))
opening = st.builds(OpenSession, st.just(CURRENT), new_sessions, st.just(LIFETIMES), sources | st.just(""))
refreshing = st.builds(RefreshSession, session_ids, numbers, st.just(AT), st.just(LIFETIMES))
names = st.none() | st.sampled_from(["Ann", "Lee", "Bea"])
# These may be applied again, for example by a caller who got no answer.
repeatable: st.SearchStrategy[Change] = st.one_of(
    st.builds(Rename, names, names),
    refreshing,
    st.builds(EndSessions, st.none() | st.frozensets(session_ids)),
    st.builds(RehashPassword, st.sampled_from([CURRENT, STALE]), st.just("hash")),
    st.builds(AssignRole, roles),
    st.builds(RevokeRole, roles),
    st.builds(SetStatus, statuses),
    st.builds(RequestReset, reset_codes),
    st.builds(ChangeEmail, st.just(CURRENT), addresses),
    st.just(Unblock()),
)
resetting = st.builds(
    ResetPassword, st.sampled_from(["d1", "d2"]), st.just(NEW), st.just("hash"), new_sessions, sources | st.just("")
)
changes: st.SearchStrategy[Change] = st.one_of(
    repeatable,
    opening,
    resetting,
    st.builds(ChangePassword, st.just(CURRENT), st.just(NEW), st.just("hash"), new_sessions),
    st.builds(Delete, st.sampled_from([CURRENT, None])),
)
# The fields that each kind of change may touch.
TOUCHED: dict[type[Change], set[str]] = {
    Rename: {"first_name", "last_name"},
    OpenSession: {"sessions", "sources", "last_login_date"},
    RefreshSession: {"sessions"},
    EndSessions: {"sessions"},
    RehashPassword: set(),
    ChangePassword: {"credential_id", "sessions", "reset_code"},
    RequestReset: {"reset_code"},
    ResetPassword: {"credential_id", "sessions", "reset_code", "sources", "last_login_date"},
    ChangeEmail: {"email", "reset_code"},
    Unblock: {"unblocked_date"},
    AssignRole: {"roles"},
    RevokeRole: {"roles"},
    SetStatus: {"status"},
}


def decided(account: Account, change: Change) -> Transition:
    """Decide a change. One that is refused has no effect."""
    try:
        return change.decide(account, CAUSE)
    except ServiceError:
        return Transition(account)


@given(accounts(), changes)
def test_an_event_needs_an_effect(account: Account, change: Change) -> None:
    transition = decided(account, change)
    if not transition.has_effect_on(account):
        assert transition.event is None


@given(accounts(), repeatable)
def test_applying_a_change_twice_is_applying_it_once(account: Account, change: Change) -> None:
    after = decided(account, change).account
    assert after
    again = decided(after, change)
    assert again.account == after
    assert again.event is None


@given(accounts(), changes)
def test_a_change_touches_nothing_else(account: Account, change: Change) -> None:
    after = decided(account, change).account
    if after:
        touched = {
            field.name for field in fields(Account) if getattr(after, field.name) != getattr(account, field.name)
        }
        assert touched <= TOUCHED[type(change)]


@given(accounts(), changes)
def test_an_event_tells_who_did_what_to_whom(account: Account, change: Change) -> None:
    event = decided(account, change).event
    if event:
        assert (event.account, event.actor, event.reason) == (account.user_id, "tester", "because")
        assert (event.request_id, event.at, event.event_id) == ("r-1", AT, UUID(int=1))


def in_order(roles: frozenset[Role]) -> str:
    return ",".join(name for name in ("viewer", "creator", "moderator") if name in roles)


@given(accounts(), roles, st.booleans())
def test_events_of_roles_have_the_roles_before_and_after(account: Account, role: Role, is_added: bool) -> None:
    transition = decided(account, AssignRole(role) if is_added else RevokeRole(role))
    assert transition.account
    assert (role in transition.account.roles) is is_added
    assert transition.account.roles ^ account.roles <= {role}
    if transition.event:
        assert transition.event.action == ("role_assigned" if is_added else "role_revoked")
        assert (transition.event.before, transition.event.after) == (
            in_order(account.roles),
            in_order(transition.account.roles),
        )
    else:
        assert transition.account == account


@given(accounts(), statuses)
def test_events_of_a_status_have_it_before_and_after(account: Account, status: AccountStatus) -> None:
    transition = decided(account, SetStatus(status))
    assert transition.account == replace(account, status=status)
    if account.status is status:
        assert transition.event is None
    else:
        assert transition.event
        assert transition.event.action == ("suspended" if status == "suspended" else "reinstated")
        assert (transition.event.before, transition.event.after) == (account.status, status)


@given(accounts(), st.none() | st.frozensets(session_ids))
def test_sessions_that_are_ended_are_gone_and_listed(account: Account, ids: frozenset[str] | None) -> None:
    transition = decided(account, EndSessions(ids))
    ended = account.sessions.keys() if ids is None else account.sessions.keys() & ids
    assert transition.account
    assert transition.account.sessions == {key: each for key, each in account.sessions.items() if key not in ended}
    if ended:
        assert transition.event
        assert transition.event.action is Action.SESSIONS_ENDED
        assert transition.event.before.split(",") == sorted(ended)
    else:
        assert transition.event is None


@given(accounts(more_sessions=MAX_SESSIONS), opening)
def test_a_login_keeps_the_sessions_that_were_used_last(account: Account, change: OpenSession) -> None:
    account = replace(account, status=AccountStatus.ACTIVE)
    transition = change.decide(account, CAUSE)
    assert transition.account
    after = transition.account.sessions
    assert len(after) <= MAX_SESSIONS
    assert after["new"] == change.session
    live = {key: each for key, each in account.sessions.items() if LIFETIMES.end_of(each) > AT}
    kept, replaced = after.keys() - {"new"}, live.keys() - after.keys()
    assert kept <= live.keys()
    if replaced:
        assert len(after) == MAX_SESSIONS
        last_used = max(live[key].refreshed_date for key in replaced)
        assert all(live[key].refreshed_date >= last_used for key in kept)
        assert transition.event
        assert (transition.event.action, transition.event.before) == ("session_replaced", ",".join(sorted(replaced)))
    else:
        assert transition.event is None
    assert transition.account.last_login_date == AT


def test_a_login_beyond_the_limit_replaces_one_session() -> None:
    sessions = {str(n): Session(str(n), 1, AT, AT + timedelta(minutes=n)) for n in range(MAX_SESSIONS)}
    account = an_account(credential_id=CURRENT, sessions=sessions)
    transition = OpenSession(CURRENT, Session("new", 1, AT, AT), LIFETIMES).decide(account, CAUSE)
    assert transition.account
    assert transition.account.sessions.keys() == sessions.keys() - {"0"} | {"new"}
    assert transition.event
    assert transition.event.before == "0"


@given(accounts(more_sources=MAX_SOURCES), opening)
def test_a_login_remembers_its_source_and_the_latest_others(account: Account, change: OpenSession) -> None:
    account = replace(account, status=AccountStatus.ACTIVE)
    after = decided(account, change).account
    assert after
    if not change.source:
        assert after.sources == account.sources
        return
    assert after.sources[change.source] == AT
    assert len(after.sources) <= MAX_SOURCES
    others = {each: at for each, at in account.sources.items() if each != change.source and AT - at < SOURCE_KNOWN_FOR}
    kept = after.sources.keys() - {change.source}
    assert {each: after.sources[each] for each in kept} == {each: others[each] for each in kept}
    forgotten = others.keys() - kept
    if forgotten:
        assert len(after.sources) == MAX_SOURCES
        assert max(others[each] for each in forgotten) <= min(others[each] for each in kept)


STALE_CHANGES: list[Change] = [
    OpenSession(STALE, Session("new", 1, AT, AT), LIFETIMES),
    ChangePassword(STALE, NEW, "hash", Session("new", 1, AT, AT)),
    ChangeEmail(STALE, "new@example.org"),
    Delete(STALE),
]


@given(accounts(), st.sampled_from(STALE_CHANGES))
def test_a_password_that_was_replaced_changes_nothing(account: Account, change: Change) -> None:
    with pytest.raises(InvalidCredentials):
        change.decide(account, CAUSE)


@given(accounts())
def test_a_hash_is_stored_while_its_password_is_current(account: Account) -> None:
    assert RehashPassword(CURRENT, "hash").decide(account, CAUSE).password_hash == "hash"
    assert not RehashPassword(STALE, "hash").decide(account, CAUSE).has_effect_on(account)


@given(accounts(), opening)
def test_nobody_logs_in_to_a_suspended_account(account: Account, change: OpenSession) -> None:
    with pytest.raises(InvalidCredentials):
        change.decide(replace(account, status=AccountStatus.SUSPENDED), CAUSE)


@given(accounts())
def test_a_new_password_leaves_one_session(account: Account) -> None:
    session = Session("new", 1, AT, AT)
    transition = ChangePassword(CURRENT, NEW, "hash", session).decide(account, CAUSE)
    assert transition.account == replace(account, credential_id=NEW, sessions={"new": session}, reset_code=None)
    assert transition.password_hash == "hash"
    assert transition.event
    assert (transition.event.action, transition.event.before, transition.event.after) == ("password_changed", "", "")


@given(accounts(), reset_codes)
def test_a_new_code_replaces_the_older_one(account: Account, code: ResetCode) -> None:
    if Role.MODERATOR in account.roles and not code.by_operator:
        with pytest.raises(OperatorsOnly):
            RequestReset(code).decide(account, CAUSE)
        return
    transition = RequestReset(code).decide(account, CAUSE)
    assert transition.account == replace(account, reset_code=code)
    if code != account.reset_code:
        assert transition.event
        assert transition.event.action == "password_reset_requested"


@given(accounts(more_sessions=3), reset_codes, resetting)
def test_a_reset_spends_the_code(account: Account, code: ResetCode, change: ResetPassword) -> None:
    account = replace(account, reset_code=code)
    is_valid = code.digest == change.code_digest and code.expires_at > AT
    if not is_valid or ("moderator" in account.roles and not code.by_operator):
        with pytest.raises(InvalidResetCode):
            change.decide(account, CAUSE)
        return
    transition = change.decide(account, CAUSE)
    after = transition.account
    assert after
    assert (after.credential_id, transition.password_hash) == (NEW, "hash")
    assert after.status == account.status
    is_active = account.status is AccountStatus.ACTIVE
    assert after.sessions == ({"new": change.session} if is_active else {})
    assert after.last_login_date == (AT if is_active else None)
    assert (change.source in after.sources) or not (is_active and change.source)
    assert transition.event
    assert (transition.event.action, transition.event.before, transition.event.after) == ("password_reset", "", "")
    with pytest.raises(InvalidResetCode):
        change.decide(after, CAUSE)


@given(accounts(), st.sampled_from([ChangePassword, ChangeEmail]))
def test_a_new_password_or_address_voids_the_code(account: Account, kind: type[Change]) -> None:
    change: Change = ChangeEmail(CURRENT, "new@example.org")
    if kind is ChangePassword:
        change = ChangePassword(CURRENT, NEW, "hash", Session("new", 1, AT, AT))
    after = change.decide(account, CAUSE).account
    assert after
    assert after.reset_code is None


@given(accounts(), addresses)
def test_an_event_of_a_new_address_does_not_name_it(account: Account, email: str) -> None:
    transition = ChangeEmail(CURRENT, email).decide(account, CAUSE)
    assert transition.account
    assert transition.account.email == email
    assert transition.account.sessions == account.sessions
    if email == account.email:
        assert transition == Transition(account)
    else:
        assert transition.event
        assert (transition.event.action, transition.event.before, transition.event.after) == ("email_changed", "", "")


@given(accounts())
def test_unblocking_has_a_date(account: Account) -> None:
    transition = Unblock().decide(account, CAUSE)
    assert transition.account == replace(account, unblocked_date=AT)
    assert transition.event
    assert transition.event.action == "unblocked"


@given(accounts())
def test_a_deletion_records_the_roles(account: Account) -> None:
    transition = Delete(None).decide(account, CAUSE)
    assert transition == Delete(CURRENT).decide(account, CAUSE)
    assert transition.account is None
    assert transition.event
    assert (transition.event.action, transition.event.before) == ("deleted", in_order(account.roles))


@given(accounts(), refreshing)
def test_no_generation_goes_down(account: Account, change: RefreshSession) -> None:
    after = decided(account, change).account
    assert after
    assert after.sessions.keys() <= account.sessions.keys()
    for key, session in after.sessions.items():
        before = account.sessions[key]
        assert session == before or (
            key == change.session_id and session == replace(before, generation=before.generation + 1, refreshed_date=AT)
        )


@given(accounts(), refreshing)
def test_what_a_refresh_does(account: Account, change: RefreshSession) -> None:
    session = account.sessions.get(change.session_id)
    if session is None or change.generation > session.generation:
        error: type[ServiceError] | None = RefreshTokenInvalid
    elif account.status is AccountStatus.SUSPENDED:
        error = AccountSuspended
    elif min(session.refreshed_date + LIFETIMES.idle, session.created_date + LIFETIMES.total) <= AT:
        error = RefreshTokenExpired
    else:
        error = None
    if error:
        with pytest.raises(error):
            change.decide(account, CAUSE)
        return
    assert session
    transition = change.decide(account, CAUSE)
    assert transition.account
    left = transition.account.sessions.get(change.session_id)
    age, behind = AT - session.refreshed_date, session.generation - change.generation
    if behind == 0:
        assert left == replace(session, generation=session.generation + 1, refreshed_date=AT)
    elif behind == 1 and age <= REUSE_INTERVAL:
        assert left == session
    else:
        assert left is None
        assert transition.event
        assert (transition.event.action, transition.event.before) == ("refresh_token_reused", change.session_id)


@pytest.mark.parametrize(
    ("behind", "age", "is_alive"),
    [
        (1, REUSE_INTERVAL, True),
        (1, REUSE_INTERVAL + ONE_MS, False),
        (2, timedelta(0), False),
    ],
)
def test_a_replaced_refresh_token_works_for_a_while(behind: int, age: timedelta, is_alive: bool) -> None:
    session = Session("1", 5, AT - age, AT - age)
    account = an_account(sessions={"1": session})
    after = RefreshSession("1", 5 - behind, AT, LIFETIMES).decide(account, CAUSE).account
    assert after
    assert after.sessions == ({"1": session} if is_alive else {})


@pytest.mark.parametrize(
    "change",
    [
        AssignRole(Role.MODERATOR),
        RevokeRole(Role.MODERATOR),
        RevokeRole(Role.VIEWER),
        SetStatus(AccountStatus.ACTIVE),
        SetStatus(AccountStatus.SUSPENDED),
        Delete(CURRENT),
    ],
)
@pytest.mark.parametrize("status", AccountStatus)
@pytest.mark.parametrize("held", ROLE_SETS)
def test_who_becomes_or_ceases_to_be_a_moderator(held: frozenset[Role], status: AccountStatus, change: Change) -> None:
    account = an_account(roles=held, status=status, credential_id=CURRENT)

    def counts(account: Account | None) -> bool:
        return account is not None and account.status == "active" and "moderator" in account.roles

    transition = decided(account, change)
    before, after = counts(account), counts(transition.account)
    assert transition.gains_moderator(account) == (after and not before)
    assert transition.loses_moderator(account) == (before and not after)
