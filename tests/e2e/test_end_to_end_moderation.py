"""Moderators on two processes, on SQLite and on a Data API: on the fake and, if configured, on a real one."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import grpc
import pytest
from killrvideo.user.v1.audit_event_pb2 import AuditEvent
from killrvideo.user.v1.user_service_pb2 import (
    AssignRoleRequest,
    BatchGetUsersRequest,
    DeleteMeRequest,
    GetUserRequest,
    ListAuditEventsRequest,
    LoginResponse,
    ReinstateUserRequest,
    RevokeRoleRequest,
    SearchUsersRequest,
    SuspendUserRequest,
)
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.e2e.callers import access, bearer, log_in, outcome
from tests.e2e.conftest import KEYSPACES
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration
from tests.support.eventually import eventually
from tests.support.process import astra, run, running


@dataclass
class Member:
    """An account with a session."""

    user_id: str
    email: str
    login: LoginResponse


@dataclass
class Service:
    """Two processes on one store, the settings of both, and the only moderator once there is one."""

    stubs: list[UserServiceStub]
    folder: Path
    settings: dict[str, str]
    moderator: Member | None = None

    def join(self) -> Member:
        email = an_address()
        user_id = self.stubs[0].Register(registration(email)).user_id
        return Member(user_id, email, log_in(self.stubs[0], email))

    def roles(self, verb: str, member: Member, *options: str) -> int:
        """Run `killrvideo-grpc roles`, and return its exit code."""
        return run(self.folder, "roles", verb, member.email, "moderator", *options, **self.settings).returncode


@pytest.fixture(scope="module", params=["sqlite", *KEYSPACES])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("moderation")
    with ExitStack() as stack:
        settings = {}
        if request.param != "sqlite":
            settings = astra(stack.enter_context(KEYSPACES[request.param]()))
        services = [stack.enter_context(running(folder, **settings)) for _ in range(2)]
        channels = [stack.enter_context(grpc.insecure_channel(started.target)) for started in services]
        yield Service([UserServiceStub(channel) for channel in channels], folder, settings)


@pytest.fixture
def moderators(service: Service) -> Iterator[list[Member]]:
    """Two accounts, the only moderators: the one that is left from the previous test, and one that it appoints."""
    if service.moderator is None:
        service.moderator = service.join()
        assert service.roles("assign", service.moderator) == 0
    ann, bob = service.moderator, service.join()
    appoint(service.stubs[0], ann, bob)
    yield [ann, bob]
    service.moderator, *others = [one for one in (ann, bob) if is_moderator(service.stubs[0], one)]
    for other in others:
        revoke(service.stubs[0], service.moderator, other)


def trail(stub: UserServiceStub, moderator: Member, user_id: str = "") -> list[AuditEvent]:
    request = ListAuditEventsRequest(user_id=user_id, page_size=100)
    return list(stub.ListAuditEvents(request, metadata=bearer(moderator.login)).events)


def is_moderator(stub: UserServiceStub, member: Member) -> bool:
    return outcome(lambda: trail(stub, member)) == "OK"


def appoint(stub: UserServiceStub, actor: Member, other: Member) -> object:
    request = AssignRoleRequest(user_id=other.user_id, role="moderator", reason="because")
    return stub.AssignRole(request, metadata=bearer(actor.login))


def revoke(stub: UserServiceStub, actor: Member, other: Member) -> object:
    request = RevokeRoleRequest(user_id=other.user_id, role="moderator", reason="because")
    return stub.RevokeRole(request, metadata=bearer(actor.login))


def suspend(stub: UserServiceStub, actor: Member, other: Member) -> object:
    return stub.SuspendUser(SuspendUserRequest(user_id=other.user_id, reason="because"), metadata=bearer(actor.login))


@pytest.mark.parametrize("demote", [revoke, suspend])
@pytest.mark.parametrize("_", range(2))
def test_of_two_moderators_who_demote_each_other_one_is_left(
    service: Service, moderators: list[Member], demote: Callable[..., object], _: int
) -> None:
    ann, bob = moderators
    start = Barrier(2)

    def attempt(stub: UserServiceStub, actor: Member, other: Member) -> str:
        start.wait()
        return outcome(lambda: demote(stub, actor, other))

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, service.stubs, [ann, bob], [bob, ann]))
    assert outcomes.count("OK") == 1
    # The other call was refused because it would have removed the last moderator, or came after its own demotion.
    assert set(outcomes) <= {"OK", "LAST_MODERATOR", "ROLE_REQUIRED", "ACCOUNT_SUSPENDED"}
    winner, loser = (ann, bob) if outcomes[0] == "OK" else (bob, ann)
    for stub in service.stubs:
        assert outcome(lambda: trail(stub, winner)) == "OK"  # noqa: B023 # called at once
        assert outcome(lambda: trail(stub, loser)) in ("ROLE_REQUIRED", "ACCOUNT_SUSPENDED")  # noqa: B023
    assert (
        outcome(lambda: service.stubs[1].DeleteMe(DeleteMeRequest(password=PASSWORD), metadata=bearer(winner.login)))
        == "LAST_MODERATOR"
    )
    assert is_moderator(service.stubs[0], winner)
    recorded = {event.action for member in moderators for event in trail(service.stubs[0], winner, member.user_id)}
    assert recorded == {"registered", "role_assigned", "role_revoked" if demote is revoke else "suspended"}


def test_changes_by_one_process_take_effect_in_the_other_at_once(service: Service, moderators: list[Member]) -> None:
    (here, there), (ann, _) = service.stubs, moderators
    member, metadata = service.join(), bearer(moderators[0].login)
    appoint(here, ann, member)
    assert outcome(lambda: trail(there, member)) == "OK"
    revoke(here, ann, member)
    assert outcome(lambda: trail(there, member)) == "ROLE_REQUIRED"
    suspend(here, ann, member)
    assert access(there, member.login) == "ACCOUNT_SUSPENDED"
    assert outcome(lambda: log_in(there, member.email)) == "INVALID_CREDENTIALS"
    here.ReinstateUser(ReinstateUserRequest(user_id=member.user_id, reason="r"), metadata=metadata)
    assert access(there, member.login) == "OK"
    told = [(event.action, event.before, event.after) for event in trail(there, ann, member.user_id)]
    assert told == [
        ("reinstated", "suspended", "active"),
        ("suspended", "active", "suspended"),
        ("role_revoked", "viewer,moderator", "viewer"),
        ("role_assigned", "viewer", "viewer,moderator"),
        ("registered", "", "viewer"),
    ]
    everything = eventually(
        lambda: len(found := [event for event in trail(there, ann) if event.user_id == member.user_id]) == 5 and found
    )
    assert everything


def test_search_and_profiles(service: Service, moderators: list[Member]) -> None:
    here, there = service.stubs
    member, metadata = service.join(), bearer(moderators[0].login)
    search = SearchUsersRequest(query=f"{member.email[:20]} ANN")
    eventually(
        lambda: [user.user_id for user in there.SearchUsers(search, metadata=metadata).users] == [member.user_id]
    )
    batch = BatchGetUsersRequest(user_ids=[member.user_id])
    assert there.BatchGetUsers(batch, metadata=metadata).users[0] == there.GetUser(
        GetUserRequest(user_id=member.user_id)
    )
    here.DeleteMe(DeleteMeRequest(password=PASSWORD), metadata=bearer(member.login))
    assert not there.SearchUsers(search, metadata=metadata).users
    assert list(there.BatchGetUsers(batch, metadata=metadata).missing_user_ids) == [member.user_id]
    assert outcome(lambda: there.GetUser(GetUserRequest(user_id=member.user_id))) == "USER_NOT_FOUND"
    assert [event.action for event in trail(there, moderators[0], member.user_id)] == ["deleted", "registered"]


def test_the_command_line_is_in_the_trail(service: Service, moderators: list[Member]) -> None:
    ann, bob = moderators
    assert service.roles("revoke", bob) == 0
    latest = trail(service.stubs[0], ann, bob.user_id)[0]
    assert (latest.action, latest.before, latest.after) == ("role_revoked", "viewer,moderator", "viewer")
    assert latest.actor.startswith("cli:")
    assert len(latest.actor) > 4


def test_the_command_line_demotes_the_last_moderator_only_with_force(
    service: Service, moderators: list[Member]
) -> None:
    ann, bob = moderators
    revoke(service.stubs[0], ann, bob)
    assert service.roles("revoke", ann) == 1
    assert is_moderator(service.stubs[0], ann)
    assert service.roles("revoke", ann, "--force") == 0
    assert not is_moderator(service.stubs[0], ann)
    assert service.roles("assign", ann) == 0
