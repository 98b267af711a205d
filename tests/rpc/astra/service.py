"""The service on a fake Data API, and calls to it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.server.bootstrap import build_reset_codes
from killrvideo_grpc.service import sweeper
from killrvideo_grpc.service.moderation import Operators
from killrvideo_grpc.stores.astra.store import AstraStore
from killrvideo_grpc.stores.data_api.client import ACCOUNTS, DataApi
from tests.rpc.conftest import Account, Stub
from tests.rpc.requests import good_request, metadata_for, only_grant_for, role_for
from tests.support import fake_data_api
from tests.support.errors import Failure, read_failure
from tests.support.eventually import eventually
from tests.support.keyspaces import KEYSPACE, prepared_fake
from tests.support.loops import LoopThread
from tests.support.servers import running_server
from tests.support.services import added
from tests.support.settings import settings_in

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

# The requests that each RPC makes to the collection `accounts` before it answers.
# In addition, attempts are counted: see COUNTED.
READ, READ_BOTH, CHANGE, INSERT = "findOne", "find", "updateOne", "insertOne"
REQUESTS_OF = {
    "Register": [READ, INSERT, INSERT],  # claim, account, claim
    "Login": [READ, READ, CHANGE],  # claim, account with its hash, account
    "GetMe": [READ],
    "UpdateMe": [READ, CHANGE],
    "RefreshToken": [READ, CHANGE],
    "ListSessions": [READ],
    "EndSession": [READ, CHANGE],
    "Logout": [READ, CHANGE],
    "ChangePassword": [READ, READ, CHANGE],
    "ResetPassword": [READ, CHANGE],
    # account, account with its hash; both claims, old claim, new claim, account; new claim and old claim
    "ChangeEmail": [READ, READ, "find", CHANGE, INSERT, CHANGE, CHANGE, CHANGE],
    "GetUser": [READ],
    "BatchGetUsers": [READ, "find"],
    "SearchUsers": [READ, "find"],
    "AssignRole": [READ, READ_BOTH, CHANGE],  # account and moderator index in one request
    "RevokeRole": [READ, READ_BOTH, CHANGE],
    "SuspendUser": [READ, READ_BOTH, CHANGE],
    "ReinstateUser": [READ, READ_BOTH, CHANGE],
    "EndUserSessions": [READ, READ_BOTH, CHANGE],
    "ListAuditEvents": [READ, READ],
    "GetJsonWebKeySet": [],
    # the services; claim, account with its hash, account
    "CreatePasswordReset": [READ, READ, READ, CHANGE],
    "CheckTokens": [READ, READ],  # the services, unless they were read lately; account
    # account with its hash, account; claim, claim, account
    "DeleteMe": [READ, READ, CHANGE, READ, CHANGE, CHANGE],
}
# The requests that each successful RPC makes to the counters of attempts, concurrent with its first request or a hash.
COUNTERS = "find"
COUNTED = {rpc: [COUNTERS] for rpc in ("Login", "ChangePassword", "ChangeEmail", "DeleteMe")}
# The requests until the change has taken effect. A sweep makes up for the rest.
UNTIL_DONE = {"ChangeEmail": 6, "DeleteMe": 3}


class AstraAccount(Account):
    """An account on the fake."""

    service: "Service"

    def reset_code(self) -> str:
        """Return a new reset code, which works for moderators too."""
        codes = build_reset_codes(self.service.settings, self.service.store)
        issued = self.service.loop.run(codes.issue(self.email, Cause("cli:tests"), by_operator=True))
        self.service.settle()
        return issued.code


@dataclass(frozen=True)
class Service:
    """The service, the fake that it runs on, and the work that it does after its answers."""

    stub: Stub
    data_api: fake_data_api.FakeDataApi
    store: AstraStore
    loop: LoopThread
    settings: Settings

    def settle(self) -> None:
        """Return when all rows and events are written, or left to a sweep."""
        self.loop.run(self.store.finish())

    def sweep(self) -> int:
        """Run a sweep, as every process does regularly, and return the number of accounts that it finished."""
        return self.loop.run(self.store.sweep())

    def new_account(self) -> Account:
        """Return a registered account with a session, whose row and events are written."""
        account = AstraAccount(self.stub, database=Path())
        account.service = self
        self.settle()
        return account

    def empower(self, account: Account, rpc: str) -> None:
        """Give the account the role that an RPC requires."""
        self.loop.run(Operators(self.store, "cli:tests").assign_role(account.email, role_for(rpc) or Role.VIEWER))
        if grant := only_grant_for(rpc):
            account.service_tokens[grant] = self.loop.run(added(self.store, grant))
        self.settle()

    def recover(self) -> None:
        """Remove all faults, documents and rows, and return when calls are answered again and no work is left."""
        self.data_api.clear_faults()
        eventually(self._is_up)
        self.settle()
        self.data_api.empty()

    def _is_up(self) -> bool:
        try:
            self.loop.run(self.store.ping())
        except StoreUnavailable:
            return False
        return True


@contextmanager
def service_on_fake(folder: Path) -> Iterator[Service]:
    """Start a fake and the service on it, whose requests may take 2 seconds. Only tests sweep the store."""
    with prepared_fake() as (server, connection), patch.multiple(sweeper, MIN_SECONDS=3600.0, MAX_SECONDS=3600.0):
        store = AstraStore(DataApi(replace(connection, max_wait=2)))
        settings = settings_in(folder)
        with running_server(settings, store) as running, grpc.insecure_channel(running.target) as channel:
            yield Service(Stub(channel), server, store, running.loop, settings)


def attempt(call: Callable[[], object]) -> Failure | None:
    try:
        call()
    except grpc.RpcError as error:
        return read_failure(error)
    return None


def call(rpc: str, account: Account, request: Any = None) -> Any:
    """Call an RPC for the account, with a valid request unless one is given."""
    return getattr(account.stub, rpc)(request or good_request(rpc, account), metadata=metadata_for(rpc, account))


def start_calls(requests: list[tuple[str, Any]], account: Account) -> list[Any]:
    """Make calls, each the name of an RPC and its request, and return their futures."""
    return [
        getattr(account.stub, rpc).future(request, metadata=metadata_for(rpc, account), timeout=20)
        for rpc, request in requests
    ]


def valid_requests(rpcs: list[str], account: Account) -> list[tuple[str, Any]]:
    """Return valid requests for `start_calls`. To make some, the store must answer."""
    return [(rpc, good_request(rpc, account)) for rpc in rpcs]


def effective_request(service: Service, rpc: str, account: Account) -> Any:
    """Return a request that changes something, if the RPC can, and give the account the role to make it."""
    service.empower(account, rpc)
    request = good_request(rpc, account)
    if rpc == "EndSession":
        request.session_id = account.session_id
    if rpc == "RevokeRole":
        request.role = "viewer"
    if rpc == "SearchUsers":
        service.new_account()  # found too
    if rpc == "ReinstateUser":
        account.stub.SuspendUser(good_request("SuspendUser", account), metadata=account.metadata)
    service.settle()
    return request


def is_call(request: fake_data_api.Request) -> bool:
    """Return whether a request was made for a call, and not by health checks or for rows and events."""
    return request.name == ACCOUNTS and request.arguments.get("filter") != {"_id": "-"} and not is_count(request)


def is_count(request: fake_data_api.Request) -> bool:
    """Return whether a request reads or writes counters of attempts."""
    return request.name == ACCOUNTS and '"throttle:' in json.dumps(request.arguments.get("filter"))


def events(server: fake_data_api.FakeDataApi, table: str, user_id: str) -> list[str]:
    """Return the actions on an account that a table contains, in alphabetical order."""
    return sorted(row["action"] for row in server.rows(KEYSPACE, table) if row.get("account") == user_id)
